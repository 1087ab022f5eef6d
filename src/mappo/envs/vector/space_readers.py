"""Readers of the values of gymnasium spaces as arrays of numbers; no value is changed by it. Loads no torch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from mappo.envs.vector.api_checks import as_numbers, check_array, short
from mappo.envs.vector.rules import RuleError, broken

NUMBERS = frozenset(map(np.dtype, "?bBhHiIlLqQef"))  # no number of these is infinite in float32
_BYTES = frozenset([np.dtype(np.uint8)])


class SpaceReader:
    """Reader of the values of a space; this class serves the kinds of spaces without a reader of their own.

    Args:
        what: the values, for messages, such as `the observation of agent_0`.
        space: a gymnasium space of a fixed size.
        shape_rule: the rule against values of another shape.
        dtype: dtype in which the values are kept: uint8 or float32.
    """

    def __init__(self, what: str, space: Any, shape_rule: str, dtype: Any) -> None:
        self.what = what
        self.space = space
        self.shape_rule = shape_rule
        self.dtype = np.dtype(dtype)

    def read(self, value: Any) -> np.ndarray:
        """Return a value as an array of numbers, without a copy if it is one.

        Raises:
            RuleError: the value is not in the space.
        """
        try:
            if self.space.contains(value):
                return np.asarray(spaces.flatten(self.space, value))
        except Exception as error:  # the value may be anything, and so may the error
            raise self.refused(value) from error
        raise self.refused(value)

    def refused(self, value: Any, text: str = "") -> RuleError:
        """Return the error for a value outside the space, described by `text` or by its beginning."""
        return RuleError(broken("obs-space", what=self.what, value=text or short(value), space=short(self.space)))


class NumberReader(SpaceReader):
    """Reader of a Box or a MultiBinary, in the shape of the space."""

    def __init__(self, what: str, space: Any, shape_rule: str, dtype: Any) -> None:
        super().__init__(what, space, shape_rule, dtype)
        self._is_binary = isinstance(space, spaces.MultiBinary)
        self._shape: tuple[int, ...] = space.shape
        self._dtypes = frozenset[Any]() if self._is_binary else _BYTES if self.dtype == np.uint8 else NUMBERS

    def read(self, value: Any) -> np.ndarray:
        if type(value) is np.ndarray and value.shape == self._shape and value.dtype in self._dtypes:
            return value  # the common case: no check below could fail
        x = as_numbers(value)
        if x is None:
            raise self.refused(value)
        finding = check_array(self.what, x, self._shape, self.dtype, code=self.shape_rule)
        if finding is not None:
            raise RuleError(finding)
        # Integers of another size are bytes if all lie in the range of bytes.
        if self._is_binary or (self.dtype == np.uint8 and x.dtype != np.uint8):
            is_outside = ~np.isin(x, (0, 1)) if self._is_binary else (x < 0) | (x > 255)
            if is_outside.any():
                raise self.refused(value, f"an array with {x[is_outside][0]:g}")
        if x.dtype.kind != "f":
            return x
        with np.errstate(over="ignore"):  # an infinite number is found later, in the whole rollout
            return x.astype(self.dtype, copy=False)


class ChoiceReader(SpaceReader):
    """Reader of a Discrete or a MultiDiscrete: each choice one-hot, side by side."""

    def __init__(self, what: str, space: Any, shape_rule: str, dtype: Any) -> None:
        super().__init__(what, space, shape_rule, dtype)
        is_single = isinstance(space, spaces.Discrete)
        self._sizes = np.array(cast(Any, space).n if is_single else space.nvec, np.int64).reshape(-1)
        self._start = np.array(space.start, np.int64).reshape(-1)
        self._offsets = np.cumsum(self._sizes) - self._sizes
        # An array of one integer is read as a Discrete, too.
        self._shapes: Any = (space.shape, (1,)) if is_single else (space.shape,)

    def read(self, value: Any) -> np.ndarray:
        x = as_numbers(value)
        if x is None or x.dtype.kind == "f" or x.shape not in self._shapes:
            raise self.refused(value)
        choice = x.reshape(-1).astype(np.int64) - self._start
        if ((choice < 0) | (choice >= self._sizes)).any():
            raise self.refused(value)
        one_hot = np.zeros(int(self._sizes.sum()), self.dtype)
        one_hot[self._offsets + choice] = 1
        return one_hot


class NestedReader(SpaceReader):
    """Reader of a Dict or a Tuple: all parts flattened, side by side in the order of the space."""

    def __init__(self, what: str, space: Any, shape_rule: str, dtype: Any) -> None:
        super().__init__(what, space, shape_rule, dtype)
        self._is_dict = isinstance(space, spaces.Dict)
        parts: Any = space.spaces.items() if self._is_dict else enumerate(space.spaces)
        self._parts = {key: reader(f"{key!r} in {what}", s, shape_rule, dtype) for key, s in parts}

    def read(self, value: Any) -> np.ndarray:
        # Keys that the space does not declare are left out: see `undeclared`.
        if not (_has_keys(value, self._parts) if self._is_dict else _has_length(value, self._parts)):
            outlines = [_outline(x) for x in (value, self._parts if self._is_dict else self.space)]
            raise RuleError(broken("obs-space", what=self.what, value=outlines[0], space=outlines[1]))
        return np.concatenate([part.read(value[key]).reshape(-1) for key, part in self._parts.items()])


def undeclared(what: str, space: Any, value: Any) -> Iterator[tuple[str, str]]:
    """Yield name and keys of each dict, within a value of the space, with keys that the space does not declare."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return
    nested = cast(Any, space).spaces
    if isinstance(value, Mapping) and (extra := cast("Mapping[Any, Any]", value).keys() - {*nested, "action_mask"}):
        yield what, ", ".join(sorted(map(repr, extra)))
    for key, subspace in nested.items() if isinstance(space, spaces.Dict) else enumerate(nested):
        yield from undeclared(f"{key!r} in {what}", subspace, value[key])


def _has_keys(value: Any, parts: Mapping[Any, Any]) -> bool:
    return isinstance(value, Mapping) and all(key in value for key in parts)


def _has_length(value: Any, parts: Mapping[Any, Any]) -> bool:
    return isinstance(value, Sequence | np.ndarray) and len(cast(Any, value)) == len(parts)


def _outline(value: Any) -> str:
    return f"a dict of {', '.join(map(str, cast(Any, value)))}" if isinstance(value, Mapping) else short(value)


def reader(what: str, space: Any, shape_rule: str, dtype: Any) -> SpaceReader:
    """Return the reader for a kind of space; see `SpaceReader` for the arguments."""
    kind = SpaceReader
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        kind = NumberReader
        dtype = np.uint8 if cast(Any, space).dtype == np.uint8 else dtype
    elif isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        kind = ChoiceReader
    elif isinstance(space, spaces.Dict | spaces.Tuple):
        kind = NestedReader
    return kind(what, space, shape_rule, dtype)
