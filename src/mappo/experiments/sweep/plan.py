"""The plan of a sweep: all that its processes have in common. Loads no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mappo.config import Config
from mappo.experiments.sweep.options import SweepOptions
from mappo.experiments.sweep.setting import Setting, Value, apply, grid

TRIALS = 40  # unless --trials says otherwise


@dataclass(frozen=True)
class SweepPlan:
    """Environment, settings and options of a sweep.

    Args:
        env: name of the environment.
        base: settings of all trials; the trials vary them within the space.
        space: the varied settings.
        options: options of the sweep, with the name of the study.
        folder: folder of the study, absolute.
    """

    env: str
    base: Config
    space: Sequence[Setting]
    options: SweepOptions
    folder: Path

    @property
    def grid(self) -> list[dict[str, Value]]:
        """Return the trials of a grid; empty for a search."""
        return grid(self.space) if self.options.grid else []

    @property
    def num_trials(self) -> int:
        """Return the number of trials of the study."""
        return len(self.grid) if self.options.grid else self.options.trials or TRIALS

    @property
    def pruner(self) -> str:
        """Return the name of the pruner."""
        is_auto = self.options.pruner == "auto"
        return ("none" if self.options.grid else "median") if is_auto else self.options.pruner

    @property
    def num_rounds(self) -> int:
        """Return the number of evaluations of a trial."""
        return -(-self.base.run.total_steps // self.base.run.eval_interval)

    def evaluation_round(self, step: int) -> int:
        """Return the number of an evaluation, comparable between trials with rollouts of different lengths."""
        run = self.base.run
        return self.num_rounds if step >= run.total_steps else step // run.eval_interval

    def trial_config(self, number: int, values: Mapping[str, Any]) -> Config:
        """Return the settings of a trial.

        Args:
            number: number of the trial.
            values: Optuna's values by the names of the settings.

        Raises:
            UserError: the values do not fit each other.
        """
        config = apply(self.space, values, self.base)
        return replace(config, run=replace(config.run, name=None, dir=str(self.trial_path(number))))

    def describe_values(self, values: Mapping[str, Any]) -> str:
        """Return the values of a trial in a line."""
        return ", ".join(setting.describe_value(values[setting.name]) for setting in self.space)

    def trial_path(self, number: int) -> Path:
        """Return the run directory of a trial."""
        return self.folder / f"trial-{number:04d}"
