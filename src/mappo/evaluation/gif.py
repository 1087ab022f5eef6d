"""Animated pictures of an episode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mappo.system.files import replace_file

if TYPE_CHECKING:
    pass


def write_gif(frames: Sequence[NDArray[np.uint8]], out: Path, fps: int = 8) -> None:
    """Write frames (H, W, 3) as an endlessly looping GIF with one palette for all of them.

    A frame equal to the one before it prolongs that one. `ValueError` without frames or if shapes differ.
    """
    if not frames:
        raise ValueError("a GIF needs at least one frame")
    shape = frames[0].shape
    for frame in frames:
        if frame.dtype != np.uint8 or frame.shape != shape or len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"frames must all be uint8 (H, W, 3), got {frame.dtype} {frame.shape} after {shape}")
    # The palette is taken from frames across the episode, side by side: colours then stay the same from
    # frame to frame. Small coloured things count as much as the large pale ground; dithering would flicker.
    chosen = [frames[i] for i in range(0, len(frames), -(-len(frames) // 12))]
    palette = Image.fromarray(np.concatenate(chosen)).quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
    first, *others = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    milliseconds = max(20, round(100 / fps) * 10)  # GIF counts hundredths of a second

    def save(part: Path) -> None:
        first.save(
            part,
            format="GIF",
            save_all=True,
            append_images=others,
            duration=milliseconds,
            loop=0,
            optimize=True,
        )

    replace_file(out, save)
