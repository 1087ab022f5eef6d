"""A varied setting of a sweep, and the settings of trials: of a grid, or by Optuna's values.

`space.read_space` makes the settings from a file; a trial takes its values by `Setting.suggest`.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mappo.config import Config
from mappo.errors import UserError

LARGEST_GRID = 1000
RANGE = ("low", "high", "log", "step")
Value = bool | int | float | str | None


@dataclass(frozen=True)
class Setting:
    """A varied setting: choices, or a range of numbers. Several options may share its value.

    Args:
        name: the name in the file and in Optuna, such as `ppo.actor_lr` or `ppo.actor_lr, ppo.critic_lr`.
        fields: section and field of each option.
        choices: values of the options by Optuna's name of the value; empty for a range.
        low, high: ends of the range, inclusive.
        log: search the range by the logarithm.
        step: distance of neighbouring values; None for any number in between.
        is_whole: the range holds whole numbers alone.
    """

    name: str
    fields: tuple[tuple[str, str], ...]
    choices: Mapping[Value, Any] = dataclasses.field(default_factory=dict[Value, Any])
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    is_whole: bool = False

    @property
    def names_code(self) -> bool:
        """Return True if the choices may name code of the user, `module:function`."""
        return any(field in (("network", "encoder"), ("ppo", "learner")) for field in self.fields)

    def describe_value(self, value: Value) -> str:
        """Return the setting with a value in short, such as `actor_lr 0.0003`."""
        label = "+".join(field for _, field in self.fields)
        return f"{label} {f'{value:.4g}' if isinstance(value, float) else value}"

    def suggest(self, trial: Any) -> Value:
        """Return the value of an Optuna trial: its former value, or a new value by the study's sampler."""
        if self.choices:
            return trial.suggest_categorical(self.name, list(self.choices))
        if self.is_whole:
            return trial.suggest_int(self.name, self.low, self.high, step=self.step or 1, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def option_value(self, value: Any) -> Any:
        """Return the value of the options for Optuna's value, without the rounding of Optuna's steps."""
        if self.choices:
            return self.choices[value]
        if self.step is None or self.is_whole:
            return value
        step = Decimal(str(self.step))
        return float(Decimal(str(self.low)) + step * round((value - self.low) / self.step))

    def to_dict(self) -> dict[str, Any]:
        """Return the setting for study.json."""
        if self.choices:
            return {"name": self.name, "choices": list(self.choices.values())}
        return {"name": self.name, **{word: getattr(self, word) for word in RANGE}}

    def value_in(self, config: Config) -> tuple[Value, ...]:
        """Return Optuna's name of the setting's value in a config; empty if the space does not contain the value."""
        values = [getattr(getattr(config, section), field) for section, field in self.fields]
        if any(value != values[0] for value in values):
            return ()
        if self.choices:
            return tuple(name for name, choice in self.choices.items() if choice == values[0])[:1]
        value = values[0]
        is_inside = value is not None and self.low <= value <= self.high
        return (value,) if is_inside and (self.step is None or self._is_point(value)) else ()

    def _is_point(self, value: Any) -> bool:
        """Return whether whole steps lead from low to a value."""
        return (Decimal(str(value)) - Decimal(str(self.low))) % Decimal(str(self.step)) == 0

    def points(self) -> list[Value]:
        """Return all values by Optuna's name, for a grid.

        Raises:
            UserError: the range has no step.
        """
        if self.choices:
            return list(self.choices)
        step = 1 if self.is_whole and self.step is None and not self.log else self.step
        if step is None:
            raise UserError(f"--grid needs a list of choices, or a step, for {self.name}")
        count = round((self.high - self.low) / step) + 1
        if count > LARGEST_GRID:
            raise UserError(f"{self.name} has {count:,} values: give a larger step")
        exact = [Decimal(str(self.low)) + k * Decimal(str(step)) for k in range(count)]
        return [int(x) if self.is_whole else float(x) for x in exact]


def apply(settings: Sequence[Setting], values: Mapping[str, Any], base: Config) -> Config:
    """Return the config of a trial: the base with the values of a trial, by the names of the settings.

    Raises:
        UserError: the options do not fit each other.
    """
    data: dict[str, Any] = {}
    for setting in settings:
        value = setting.option_value(values[setting.name])
        for section, field in setting.fields:
            data.setdefault(section, {})[field] = value
    return Config.from_dict(data, base)


def grid(settings: Sequence[Setting]) -> list[dict[str, Value]]:
    """Return every combination of values, the last setting fastest.

    Raises:
        UserError: a range has no step, or there are too many combinations.
    """
    points = [setting.points() for setting in settings]
    count = math.prod(map(len, points))
    if count > LARGEST_GRID:
        raise UserError(f"the grid has {count:,} combinations, more than {LARGEST_GRID:,}: search without --grid")
    return [dict(zip((s.name for s in settings), row, strict=True)) for row in itertools.product(*points)]


def start_point(settings: Sequence[Setting], base: Config) -> dict[str, Value]:
    """Return the values of the base config, for the settings with a space that contains them."""
    return {setting.name: value for setting in settings for value in setting.value_in(base)}
