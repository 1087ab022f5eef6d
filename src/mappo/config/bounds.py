"""Checks of settings: each passes in silence, or raises a UserError that names the option. Imports no torch."""

import dataclasses
import json
import math
import operator
import os
import types
import typing
from typing import Any, Literal, cast

from mappo.errors import UserError


def check_types(section: str, config: Any) -> None:
    """Every field as its type says, or a UserError that names it."""
    for field_ in dataclasses.fields(config):
        value = coerce(option_name(section, field_.name), getattr(config, field_.name), field_.type)
        object.__setattr__(config, field_.name, value)  # frozen: what is made of it here is what was meant


def coerce(name: str, value: Any, kind: Any) -> Any:
    """`value` as the field's type: a list may stand for a tuple, 1 for 1.0, a path for its name."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        options = typing.get_args(kind)
        if value in options and isinstance(value, str):
            return value
        raise UserError(f"{name} must be one of {', '.join(map(str, options))}, got {value!r}")
    if origin is types.UnionType:
        return None if value is None else coerce(name, value, typing.get_args(kind)[0])
    if origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(coerce(name, x, typing.get_args(kind)[0]) for x in cast(list[Any], value))
        of = {int: "whole numbers", str: "texts"}[typing.get_args(kind)[0]]
        raise UserError(f"{name} must be a list of {of}, got {value!r}")
    if isinstance(value, bool) == (kind is bool):
        if kind in (int, float) and hasattr(value, "__index__"):  # numpy's numbers too
            value = operator.index(value)
            if abs(value) >= 2**63:
                raise UserError(f"{name} must be below 2^63, got a number of {len(str(value))} digits")
            return kind(value)
        if kind is float and isinstance(value, float):
            return float(value)
        if kind is str and isinstance(value, (str, os.PathLike)):
            return os.fspath(cast("str | os.PathLike[str]", value))
        if kind is bool:
            return value
    raise UserError(f"{name} must be of type {kind.__name__}, got {value!r}")


def option_name(section: str, name: str) -> str:
    """The option as one types it: `ppo`, `actor_lr` -> `ppo.actor-lr`."""
    return f"{section}.{name.replace('_', '-')}"


def at_least(name: str, value: float, low: float) -> None:
    """`value >= low`, and finite."""
    if not (math.isfinite(value) and value >= low):
        raise UserError(f"{name} must be at least {low}, got {value:g}")


def at_most(name: str, value: float, high: float) -> None:
    """`value <= high`."""
    if value > high:
        raise UserError(f"{name} must be at most {high:,}, got {value:,}")


def above(name: str, value: float | None, low: float) -> None:
    """`value > low`, and finite; or None."""
    if value is not None and not (math.isfinite(value) and value > low):
        raise UserError(f"{name} must be above {low}, got {value:g}")


def within(name: str, value: float, low: float, high: float) -> None:
    """`low <= value <= high`."""
    if not low <= value <= high:
        raise UserError(f"{name} must be between {low} and {high}, got {value:g}")


def nearest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number up to `limit`."""
    limit = min(limit, number)
    while number % limit:  # downwards: 1 always divides, and the answer stays near for numbers of many divisors
        limit -= 1
    return limit


def parse_option(text: str) -> tuple[str, Any]:
    """An environment's option, NAME=VALUE; the value is read as JSON where it can be, else as text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UserError(f"env.options are NAME=VALUE, such as local_ratio=0.5; got {text!r}")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value
