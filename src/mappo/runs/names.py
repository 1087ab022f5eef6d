"""Names of the directories of runs and of their seeds. Loads no torch."""

import itertools
import re
from pathlib import Path

from mappo.config import Config


def plain_name(env: str) -> str:
    """Return the name of an environment as part of a file name, such as mpe2-simple_spread_v3."""
    return re.sub(r"[^\w.-]", "-", env)


def runs_folder(config: Config) -> Path:
    """Return `run.dir`, or else the folder of all runs, as an absolute path.

    Call this before any environment is made: its code may change the current folder of the process.
    """
    return Path(config.run.dir or "runs").absolute()


def named_path(config: Config, folder: Path) -> Path | None:
    """Return the directory that the settings name, in the folder of all runs; None for a number that is free."""
    return folder if config.run.dir else folder / config.run.name if config.run.name else None


def free_path(folder: Path, env: str) -> Path:
    """Return the directory of a run without a name: the environment's name and the next free number."""
    numbered = (folder / f"{plain_name(env)}-{number}" for number in itertools.count(1))
    return next(path for path in numbered if not path.exists())


def seed_paths(path: Path, config: Config) -> list[Path]:
    """Return the directory of each seed: the run's own for a single seed, else `seed-N` inside."""
    run = config.run
    return [path] if run.seeds == 1 else [path / f"seed-{s}" for s in run.all_seeds]
