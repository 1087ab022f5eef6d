"""Checks of settings and of fields in JSON files. Invalid values raise a UserError with the name. Imports no torch.

Types carry the bounds: `gamma: Annotated[float, between(0, 1)]`. Settings classes call `check_types` once;
readers of JSON files call `read_field` for each field.
"""

import dataclasses
import json
import math
import operator
import os
import reprlib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from mappo.errors import UserError

_PLURALS = {int: "whole numbers", float: "numbers", str: "texts", dict[str, Any]: "objects"}


@dataclass(frozen=True)
class Bound:
    """Condition on a number. `words` follow "must be" in the error."""

    words: str
    is_met: Callable[[float], bool]


def at_least(low: float) -> Bound:
    """Return the bound `value >= low`; infinity is invalid too."""
    return Bound(f"at least {low}", lambda value: low <= value < math.inf)


def at_most(high: float) -> Bound:
    """Return the bound `value <= high`."""
    return Bound(f"at most {high:,}", lambda value: value <= high)


def above(low: float) -> Bound:
    """Return the bound `value > low`; infinity is invalid too."""
    return Bound(f"above {low}", lambda value: low < value < math.inf)


def between(low: float, high: float) -> Bound:
    """Return the bound `low <= value <= high`."""
    return Bound(f"between {low} and {high}", lambda value: low <= value <= high)


def option_name(section: str, name: str) -> str:
    """Return an option as the command line spells it: `ppo`, `actor_lr` -> `ppo.actor-lr`."""
    return f"{section}.{name.replace('_', '-')}"


def check_types(section: str, config: Any, spell: Callable[[str, str], str] = option_name) -> None:
    """Coerce every field of a settings dataclass to its type.

    Args:
        section: section of the settings.
        config: the settings.
        spell: from the section and the name of a field to the option's name, for errors.

    Raises:
        UserError: a value is of another type, or violates a bound.
    """
    for field in dataclasses.fields(config):
        value = coerce(spell(section, field.name), getattr(config, field.name), field.type)
        object.__setattr__(config, field.name, value)  # the dataclass is frozen


def read_field(data: dict[str, Any], name: str, kind: Any) -> Any:
    """Return the field `name` of a JSON object as the type `kind`.

    Raises:
        UserError: the field is missing, or of another type.
    """
    if name not in data:
        raise UserError(f"{name!r} is missing")
    return coerce(repr(name), data[name], kind)


def coerce(name: str, value: Any, kind: Any) -> Any:
    """Return a value as a type: a list may stand for a tuple, 1 for 1.0, a path for its text.

    Args:
        name: the option or field, for the error.
        value: the value, as Python or JSON holds it.
        kind: bool, int, float, str, dict[str, Any], a Literal, `X | None`, `tuple[X, ...]` or `Annotated[X, *bounds]`.

    Raises:
        UserError: the value is of another type, or violates a bound.
    """
    origin = typing.get_origin(kind)
    args = typing.get_args(kind)
    if origin is Annotated:
        value = coerce(name, value, args[0])
        for bound in args[1:]:
            if value is not None and not bound.is_met(value):  # None: the setting is off
                text = f"{value:,}" if isinstance(value, int) else f"{value:g}"
                raise UserError(f"{name} must be {bound.words}, got {text}")
        return value
    if origin is Literal:
        if isinstance(value, str) and value in args:
            return value
        raise UserError(f"{name} must be one of {', '.join(map(str, args))}, got {reprlib.repr(value)}")
    if origin is types.UnionType:
        return None if value is None else coerce(name, value, args[0])
    if origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(coerce(name, x, args[0]) for x in cast(list[Any], value))
        inner = typing.get_args(args[0])  # of Annotated, of a union or of a Literal
        items = _PLURALS.get(args[0]) or _PLURALS.get(inner[0]) or ", ".join(inner)
        raise UserError(f"{name} must be a list of {items}, got {reprlib.repr(value)}")
    return _coerce_scalar(name, value, origin or kind)


def _coerce_scalar(name: str, value: Any, kind: type) -> Any:
    if isinstance(value, bool) == (kind is bool):  # Python's True is an int
        if kind in (int, float) and hasattr(value, "__index__"):  # integers, of numpy too
            value = operator.index(value)
            if abs(value) >= 2**63:
                raise UserError(f"{name} must be below 2^63, got a number of {len(str(value))} digits")
            return kind(value)
        if kind is float and isinstance(value, float):
            return float(value)  # a plain float of numpy's subclass
        if kind is str and isinstance(value, (str, os.PathLike)):
            return os.fspath(cast("str | os.PathLike[str]", value))
        if kind in (bool, dict) and isinstance(value, kind):
            return cast(Any, value)
    # reprlib bounds the length: a file may hold megabytes.
    expected = "an object" if kind is dict else f"of type {kind.__name__}"
    raise UserError(f"{name} must be {expected}, got {reprlib.repr(value)}")


def nearest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of a number up to `limit`."""
    limit = min(limit, number)
    # Counting down ends at 1 at the latest. Divisors near the limit are frequent in practice.
    while number % limit:
        limit -= 1
    return limit


def parse_option(text: str) -> tuple[str, Any]:
    """Return name and value of an environment's option NAME=VALUE. The value is JSON if it parses, else text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UserError(f"env.options must be NAME=VALUE, such as local_ratio=0.5; got {text!r}")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value
