"""Names of the directories of runs and of their seeds. Loads no torch."""

import itertools
import re
from pathlib import Path

from mappo.config import Config


def plain_name(env: str) -> str:
    """Return the name of an environment as part of a file name, such as mpe2-simple_spread_v3."""
    return re.sub(r"[^\w.-]", "-", env)


def free_path(folder: Path, env: str) -> Path:
    """Return the directory of a run without a name: the environment's name and the next free number."""
    numbered = (folder / f"{plain_name(env)}-{number}" for number in itertools.count(1))
    return next(path for path in numbered if not path.exists())


def seed_paths(path: Path, config: Config) -> list[Path]:
    """Return the directory of each seed: the run's own for a single seed, else `seed-N` inside."""
    run = config.run
    return [path] if run.seeds == 1 else [path / f"seed-{s}" for s in run.all_seeds]
