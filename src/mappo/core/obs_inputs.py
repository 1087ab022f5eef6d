"""Arrays of an agent's own observation, before any flattening: their names, shapes and bounds. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from gymnasium import spaces

if TYPE_CHECKING:
    from mappo.core.observations import ObsPart

Key = str | int


@dataclass(frozen=True)
class ObsInput:
    """An array of an observation: the whole of it, or a value in nested dicts and tuples.

    Numbers are flattened. A choice is an integer and becomes one-hot, as by `gymnasium.spaces.flatten`.
    """

    path: tuple[Key, ...]  # keys from the observation to the array; () for the whole
    shape: tuple[int, ...]
    dtype: str  # uint8, float32, or int64 for choices
    low: tuple[float, ...] = ()  # bounds of the numbers, one for all or one for each; () where unknown
    high: tuple[float, ...] = ()
    choices: tuple[int, ...] = ()  # number of options of each choice; () for numbers
    start: tuple[int, ...] = ()  # number of the first option of each choice

    @property
    def name(self) -> str:
        """Name of the array in files: `obs`, or `obs.KEY` with the keys joined by dots."""
        return ".".join(map(str, ("obs", *self.path)))

    @property
    def size(self) -> int:
        """Count of numbers in the flat observation."""
        return sum(self.choices) if self.choices else math.prod(self.shape)

    def find(self, observation: Any) -> Any:
        """Return the array in an observation.

        Raises:
            KeyError: it is not there.
        """
        for key in self.path:
            try:
                observation = observation[key]
            except (LookupError, TypeError):
                raise KeyError(self.name) from None
        return observation


def inputs_of(space: spaces.Space[Any], path: tuple[Key, ...] = ()) -> tuple[ObsInput, ...]:
    """Return the arrays of a space, in the order of `gymnasium.spaces.flatten`."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        nested = cast(Any, space).spaces
        pairs = nested.items() if isinstance(space, spaces.Dict) else enumerate(nested)
        return tuple(chain.from_iterable(inputs_of(subspace, (*path, key)) for key, subspace in pairs))
    if isinstance(space, spaces.Discrete):
        return (ObsInput(path, (), "int64", choices=(int(space.n),), start=(int(space.start),)),)
    if isinstance(space, spaces.MultiDiscrete):
        sizes, start = (tuple(np.ravel(x).tolist()) for x in cast(Any, (space.nvec, space.start)))
        return (ObsInput(path, cast(Any, space.shape), "int64", choices=sizes, start=start),)
    if isinstance(space, spaces.Box):
        dtype = "uint8" if space.dtype == np.uint8 else "float32"
        low, high = _bounds(space)
        return (ObsInput(path, space.shape, dtype, low, high),)
    shape = space.shape if isinstance(space, spaces.MultiBinary) else (spaces.flatdim(space),)
    return (ObsInput(path, shape, "float32", (0.0,), (1.0,)),)


def flat_inputs(flat: Sequence[spaces.Space[Any]], parts: Sequence[Sequence[ObsPart]]) -> tuple[tuple[ObsInput], ...]:
    """Return the only array of each agent's flat space, of unknown origin; a grey image has its two axes."""
    return tuple(map(_flat_input, flat, parts))


def _flat_input(space: spaces.Space[Any], parts: Sequence[ObsPart]) -> tuple[ObsInput]:
    shape = cast("tuple[int, ...]", space.shape)
    if len(parts) == 1 and parts[0].is_image and parts[0].size == math.prod(shape):
        shape = parts[0].shape
    return (ObsInput((), shape, "uint8" if space.dtype == np.uint8 else "float32"),)


def _bounds(space: Any) -> list[tuple[float, ...]]:
    """Return the lower and the upper bounds of numbers: a common bound if all are equal or the numbers are an image."""
    bounds: list[tuple[float, ...]] = []
    for bound, widest in ((space.low, min), (space.high, max)):
        flat: list[float] = bound.astype(float).ravel().tolist()
        is_common = len(set(flat)) <= 1 or bound.ndim != 1
        bounds.append((widest(flat, default=0.0),) if is_common else tuple(flat))
    return bounds
