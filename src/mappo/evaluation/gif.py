"""Animated GIFs of episodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mappo.system.files import replace_file


def write_gif(frames: Sequence[NDArray[np.uint8]], out: Path, fps: int = 8) -> None:
    """Write frames as an endlessly looping GIF with a common palette.

    A frame equal to its predecessor prolongs the predecessor.

    Args:
        frames: pictures (H, W, 3) of equal shape.
        out: file to write.
        fps: frames per second.

    Raises:
        ValueError: there are no frames, or their shapes or types differ.
    """
    if not frames:
        raise ValueError("a GIF needs at least one frame")
    shape = frames[0].shape
    for frame in frames:
        if frame.dtype != np.uint8 or frame.shape != shape or len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"frames must all be uint8 (H, W, 3), got {frame.dtype} {frame.shape} after {shape}")
    # The palette comes from frames across the whole episode: colours must not change from frame to frame.
    # MAXCOVERAGE weighs small coloured things like the large pale ground; dithering would flicker.
    chosen = [frames[i] for i in range(0, len(frames), -(-len(frames) // 12))]
    palette = Image.fromarray(np.concatenate(chosen)).quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
    first, *others = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    milliseconds = max(20, round(100 / fps) * 10)  # GIF counts hundredths of a second

    def save(temporary: Path) -> None:
        first.save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=others,
            duration=milliseconds,
            loop=0,
            optimize=True,
        )

    replace_file(out, save)
