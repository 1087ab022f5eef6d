"""Parts of an observation: images and numbers, and the bounds they are divided by. Loads no torch."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, cast

import numpy as np
from gymnasium import spaces

Channels = Literal["auto", "first", "last"]


@dataclass(frozen=True)
class ObsPart:
    """A range of an agent's flat observation: an image, or numbers. Networks divide both by `scale`.

    `shape` is `(H, W)` of a grey image, `(H, W, C)` or `(C, H, W)` of another image, or `(n,)`. `scale` holds a divisor
    for the whole part, or for each number.
    """

    shape: tuple[int, ...]
    scale: tuple[float, ...] = (1.0,)

    @property
    def is_image(self) -> bool:
        """True for an image, False for numbers."""
        return len(self.shape) > 1

    @property
    def size(self) -> int:
        """Number of numbers in the part."""
        return math.prod(self.shape)


def parts_of(space: spaces.Space[Any]) -> tuple[ObsPart, ...]:
    """Return the parts of a space, in the order of `gymnasium.spaces.flatten`.

    A `Box` of three axes is an image. A `Box` of bytes from 0 to 255 of two axes is a grey image.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        inner: Any = cast(Any, space).spaces
        subspaces: Iterable[spaces.Space[Any]] = inner.values() if isinstance(space, spaces.Dict) else inner
        return tuple(chain.from_iterable(map(parts_of, subspaces)))
    if not isinstance(space, spaces.Box):
        return (ObsPart((spaces.flatdim(space),)),)
    shape = space.shape
    scale = _scale(cast(Any, space))
    if len(shape) == 3 or (len(shape) == 2 and space.dtype == np.uint8 and scale == (255,)):
        return (ObsPart(shape, (max(scale),)),)
    return (ObsPart((math.prod(shape),), scale),)


def _scale(space: Any) -> tuple[float, ...]:
    """Return the largest absolute bound of each integer, once if all are equal; 1 without bounds."""
    dtype: np.dtype[Any] = space.dtype
    if dtype.kind not in "iu":
        return (1.0,)
    low = np.abs(space.low.astype(float))
    bound = np.maximum(low, np.abs(space.high.astype(float))).ravel()
    # The whole range of a type of 16 bits or more means that there is no bound. gymnasium's infinity lies 2 below it.
    has_bound = (bound > 0) & ((bound < np.iinfo(dtype).max - 2) | (dtype.itemsize == 1))
    scale: list[float] = np.where(has_bound, bound, 1.0).tolist()
    return tuple(scale[:1] if len(set(scale)) == 1 else scale) or (1.0,)


def part_shapes(parts: Iterable[ObsPart]) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of parts: equal shapes may share the parameters of an encoder."""
    return tuple(part.shape for part in parts)


def has_images(*rows: Sequence[ObsPart]) -> bool:
    """Return True if an image is among the parts of flat observations."""
    return any(part.is_image for row in rows for part in row)


def padded_parts(parts: tuple[ObsPart, ...], size: int) -> tuple[ObsPart, ...]:
    """Return the parts of an observation padded to `size` numbers."""
    return (*parts, ObsPart((size - sum(part.size for part in parts),)))


def is_channels_first(shape: tuple[int, ...], channels: Channels = "auto") -> bool:
    """Return True if an image of this shape is `(C, H, W)`, False for `(H, W, C)` and if in doubt.

    Height and width are taken to be the neighbouring axes with the smaller ratio of sizes, unless `channels` says
    which axis holds the channels.
    """
    if channels != "auto":
        return channels == "first"
    first, middle, last = shape
    return max(middle, last) * min(first, middle) < max(first, middle) * min(middle, last)


def is_channels_unclear(shape: tuple[int, ...]) -> bool:
    """Return True for an image whose first two and last two axes are both of similar sizes."""
    return len(shape) == 3 and all(max(pair) < 2 * min(pair) for pair in (shape[:2], shape[1:]))


def channels_last(shape: tuple[int, ...], channels: Channels = "auto") -> tuple[int, ...]:
    """Return the shape `(H, W, C)` of an image; other shapes are returned as they are."""
    return (*shape[1:], shape[0]) if len(shape) == 3 and is_channels_first(shape, channels) else shape
