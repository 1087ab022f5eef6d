"""Animated GIFs of episodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

from mappo.system.files import replace_file

Frame = NDArray[np.uint8]

# Longest time of a picture without change, and shortest time that viewers keep to, in hundredths of a second.
LONGEST = 100
SHORTEST = 2
# Additional time of the last picture of an episode.
LAST = 50
# Index of the transparent colour.
CLEAR = 255
# Longest text of a picture, in bytes: a single block of the format.
_MOST_TEXT = 255


class Film(list[Frame]):
    """Pictures of an episode, with a text for each.

    Args:
        frames: the pictures.
        texts: the texts, such as step and return.
    """

    def __init__(self, frames: Iterable[Frame], texts: Sequence[str]) -> None:
        super().__init__(frames)
        self.texts = texts


def write_gif(episodes: Iterable[Sequence[Frame]], out: Path, fps: float = 8.0, seconds: float = 60.0) -> None:
    """Write frames as an endlessly looping GIF, episode by episode, so that few frames are in memory.

    A frame equal to its predecessor prolongs the predecessor, up to a second. The last frame of an episode stays long.
    Texts of a `Film` become comments ahead of their pictures.

    Args:
        episodes: pictures (H, W, 3) of equal shape, of each episode.
        out: file to write.
        fps: frames per second.
        seconds: longest time of an episode, played faster if necessary.

    Raises:
        ValueError: there are no frames, or their shapes or types differ.
    """

    def save(temporary: Path) -> None:
        shape = None
        with temporary.open("wb") as file:
            for frames in episodes:
                for frame in frames:
                    shape = frame.shape if shape is None else shape
                    check_frame(frame, shape)
                ticks = min(round(100 / fps), int(100 * seconds / len(frames)))
                _write_episode(file, frames, max(SHORTEST, ticks))
            if shape is None:
                raise ValueError("a GIF needs at least one frame")
            file.write(b";")

    replace_file(out, save)


def check_frame(frame: Frame, shape: tuple[int, ...]) -> None:
    """Raise a ValueError unless a frame is a picture uint8 `(H, W, 3)` of this shape."""
    if frame.dtype != np.uint8 or frame.shape != shape or len(shape) != 3 or shape[2] != 3:
        after = "" if frame.shape == shape else f" after {shape}"
        raise ValueError(f"frames must all be uint8 (H, W, 3), got {frame.dtype} {frame.shape}{after}")


def _write_episode(file: IO[bytes], frames: Sequence[Frame], ticks: int) -> None:
    """Append the frames of an episode, each for so many hundredths of a second."""
    # The palette comes from frames across the whole episode: colours must not change from frame to frame.
    # MAXCOVERAGE weighs small coloured things like the large pale ground; dithering would flicker.
    chosen = np.concatenate([*frames[:: -(-len(frames) // 12)], frames[-1]])
    palette = Image.fromarray(chosen).quantize(CLEAR, Image.Quantize.MAXCOVERAGE, kmeans=1)
    colors = bytes(palette.getpalette() or []).ljust(3 * (CLEAR + 1), b"\0")
    dither = Image.Dither.NONE
    pixels = [np.asarray(Image.fromarray(frame).quantize(palette=palette, dither=dither)) for frame in frames]
    # The first episode's palette is that of the file; the frames of later episodes bring their own.
    is_first = not file.tell()
    if is_first:
        file.write(b"".join(GifImagePlugin.getheader(_indexed(pixels[0], colors), info={"loop": 0})[0]))
    starts = [k for k in range(len(pixels)) if k == 0 or not np.array_equal(pixels[k], pixels[k - 1])]
    for k, following in zip(starts, [*starts[1:], len(pixels)], strict=True):
        time = min(LONGEST, ticks * (following - k) + LAST * (following == len(pixels)))
        corner, patch = _patch(pixels[k], pixels[k - 1] if k else None)
        if isinstance(frames, Film):
            file.write(_comment(frames.texts[following - 1]))
        options = {"duration": 10 * time, "transparency": CLEAR, "include_color_table": not is_first}
        file.write(b"".join(GifImagePlugin.getdata(_indexed(patch, colors), corner, **options)))


def _comment(text: str) -> bytes:
    """Return a text as a comment block of the format."""
    data = text.encode()[:_MOST_TEXT]
    return b"!\xfe" + bytes([len(data)]) + data + b"\0"


def _indexed(pixels: Frame, colors: bytes) -> Image.Image:
    """Return indices `(H, W)` into a palette as an image."""
    image = Image.fromarray(pixels)
    image.putpalette(colors)
    return image


def _patch(pixels: Frame, former: Frame | None) -> tuple[tuple[int, int], Frame]:
    """Return the rectangle of the pixels that changed, transparent where nothing changed, and its left upper corner."""
    if former is None:
        return (0, 0), pixels
    changed = pixels != former
    rows = changed.any(1).nonzero()[0]
    columns = changed.any(0).nonzero()[0]
    patch = np.where(changed, pixels, np.uint8(CLEAR))
    return (int(columns[0]), int(rows[0])), patch[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
