"""The space of a sweep: the settings to vary, each with its range or its choices, read from a file.

The file is JSON or YAML: `{"ppo.gamma": [0.9, 0.99], "ppo.actor_lr": {"low": 1e-4, "high": 1e-2, "log": true}}`.
"""

import dataclasses
import json
import math
import typing
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, cast

from mappo.config import Config
from mappo.config.bounds import coerce, option_name
from mappo.config.files import read_settings
from mappo.errors import UserError, suggest
from mappo.experiments.sweep.setting import RANGE, Setting, Value
from mappo.system.files import error_text
from mappo.system.safe_read import quote

_SECTIONS = ("env", "network", "ppo")
_HINT = "give a list of choices, or an object with low and high, and with log: true or a step if you like"


def read_space(file: Path) -> list[Setting]:
    """Return the settings of a space file, JSON or YAML.

    Raises:
        UserError: the file cannot be read, or a setting is unknown or invalid.
    """
    try:
        data = read_settings(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error_text(error)}") from None
    if not isinstance(data, dict) or not data:
        raise UserError(f'{file}: expected an object with the settings to vary, such as {{"ppo.gamma": [0.9, 0.99]}}')
    try:
        settings = [_parse_setting(name, values) for name, values in cast("dict[str, Any]", data).items()]
        fields = [field for setting in settings for field in setting.fields]
        if twice := [field for field in fields if fields.count(field) > 1]:
            raise UserError(f"{'.'.join(twice[0])} stands in it twice")
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    return settings


def _parse_setting(text: str, values: Any) -> Setting:
    """Return a setting of the file, checked against types and bounds of its options."""
    fields = tuple(_parse_option(part.strip()) for part in text.split(","))
    name = ", ".join(f"{section}.{field}" for section, field in fields)
    if isinstance(values, list):
        return Setting(name, fields, _parse_choices(name, fields, cast("list[Any]", values)))
    if isinstance(values, dict):
        return _parse_range(name, fields, cast("dict[str, Any]", values))
    raise UserError(f"{name}: {quote(json.dumps(values))} is no space; {_HINT}")


def _parse_option(text: str) -> tuple[str, str]:
    """Return section and field of an option, spelled as on the command line or as in config.json."""
    section, _, field = text.replace("-", "_").partition(".")
    known = [f"{name}.{x.name}" for name in _SECTIONS for x in dataclasses.fields(_section(name))]
    if f"{section}.{field}" in known:
        return section, field
    if section == "run":
        raise UserError(f"{quote(text)} cannot be varied: run.* is the same for all trials, and run.seeds repeats them")
    raise UserError(f"unknown option {quote(text)}{suggest(f'{section}.{field}', known)}")


def _section(name: str) -> Any:
    return getattr(Config(), name)


def _type_of(section: str, field: str) -> Any:
    return next(x.type for x in dataclasses.fields(_section(section)) if x.name == field)


def _coerce(fields: Sequence[tuple[str, str]], value: Any) -> Any:
    """Return a value as the type of the options, within the bounds of each."""
    coerced = [coerce(option_name(*field), value, _type_of(*field)) for field in fields]
    return coerced[0]


def _parse_choices(name: str, fields: Sequence[tuple[str, str]], values: list[Any]) -> dict[Value, Any]:
    """Return the choices by Optuna's names. Optuna takes no lists: a list is named by its JSON text."""
    if not values:
        raise UserError(f"{name}: the list of choices is empty")
    choices: dict[Value, Any] = {}
    for value in values:
        choice = _coerce(fields, value)
        key: Value = json.dumps(choice) if isinstance(choice, tuple) else choice
        if key in choices:
            raise UserError(f"{name}: {quote(json.dumps(value))} is given twice")
        choices[key] = choice
    return choices


def _parse_range(name: str, fields: Sequence[tuple[str, str]], data: dict[str, Any]) -> Setting:
    """Return the setting of a range."""
    kinds = {_number_type(_type_of(*field)) for field in fields}
    if None in kinds:
        raise UserError(f"{name} takes no range: give a list of choices")
    if unknown := [key for key in data if key not in RANGE]:
        raise UserError(f"{name}: unknown word {quote(unknown[0])}; there are: {', '.join(RANGE)}")
    if missing := [key for key in RANGE[:2] if key not in data]:
        raise UserError(f"{name}: {missing[0]} is missing; {_HINT}")
    is_whole = int in kinds
    kind = int if is_whole else float
    low = _coerce(fields, coerce(f"{name}: low", data["low"], kind))
    high = _coerce(fields, coerce(f"{name}: high", data["high"], kind))
    log = coerce(f"{name}: log", data.get("log", False), bool)
    step = coerce(f"{name}: step", data.get("step"), kind | None)
    if not math.isfinite(high - low) or low >= high:
        raise UserError(f"{name}: low must be below high, got {low:g} and {high:g}")
    if log and (low <= 0 or step is not None):
        raise UserError(f"{name}: log needs a low above 0 and no step")
    if step is not None:
        # In decimals, and up to the last value that the steps reach: Optuna warns of any other end.
        start, end, width = (Decimal(str(x)) for x in (low, high, step))
        if not 0 < width <= end - start:
            raise UserError(f"{name}: step must be above 0 and at most high - low = {end - start}, got {step:g}")
        high = kind(start + (end - start) // width * width)
    return Setting(name, tuple(fields), {}, low, high, log, step, is_whole)


def _number_type(kind: Any) -> type | None:
    """Return int or float for the type of such an option, with or without bounds and None; else None."""
    origin = typing.get_origin(kind)
    if origin is Annotated or origin is UnionType:
        return _number_type(typing.get_args(kind)[0])
    return kind if kind in (int, float) else None
