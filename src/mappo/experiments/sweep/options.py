"""Options of a sweep, shared by the command line and `run_sweep`. Loads no torch."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from mappo.config.bounds import at_least, at_most, coerce


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Options of a sweep; the docstrings of the fields are the --help texts of `mappo sweep`."""

    trials: Annotated[int | None, at_least(1), at_most(100_000)] = None
    """Number of trials of the whole study, over all processes; 40 by default. A larger number continues a study."""
    grid: bool = False
    """Run every combination of the space once; ranges need a step. By default Optuna searches the space."""
    study: str | None = None
    """Name of the study, with its folder runs/NAME; by default the environment and the name of the SPACE file."""
    storage: str | None = None
    """Optuna's storage: a file, or a URL such as sqlite:///sweep.db; by default journal.log in the study's folder."""
    sampler: Literal["tpe", "random"] = "tpe"
    """Optuna's method to choose settings: tpe learns from the trials before, random does not."""
    pruner: Literal["auto", "median", "hyperband", "none"] = "auto"
    """Optuna's method to end poor trials early, by the evaluations during training.
    `auto`: median for a search, none for a grid."""

    def __post_init__(self) -> None:
        for option in fields(SweepOptions):
            coerce(f"--{option.name.replace('_', '-')}", getattr(self, option.name), option.type)
