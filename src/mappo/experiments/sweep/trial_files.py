"""Files of a trial's run: its progress, its evaluations and its cost."""

import math
import shutil
from pathlib import Path

import numpy as np

from mappo.errors import UserError
from mappo.runs.csv_table import read_table
from mappo.runs.directory import seed_paths
from mappo.runs.own_files import holds_only_own_files
from mappo.training.run import Run


def remove_unsaved(path: Path) -> None:
    """Remove the directory of a run, if there is one, whose process was lost ahead of the first checkpoint.

    Raises:
        UserError: the directory holds files of the user.
    """
    if path.exists():
        if not holds_only_own_files(path):
            raise UserError(f"{path} holds no checkpoint, but other files: move them away")
        shutil.rmtree(path)


def evaluations(run: Run) -> dict[int, float]:
    """Return the mean `eval_return` of the seeds by step, in order."""
    metrics = run.metrics
    if not metrics:
        return {}
    found: dict[int, list[float]] = {}
    for step, value in zip(metrics["step"], metrics["eval_return"], strict=True):
        if not math.isnan(value):
            found.setdefault(int(step), []).append(float(value))
    return {step: float(np.mean(values)) for step, values in sorted(found.items())}


def cpu_seconds(run: Run) -> float:
    """Return the processor time of the run's updates and evaluations, without worker processes, from timing.csv."""
    file = seed_paths(run.path, run.config)[0] / "timing.csv"  # the same for all seeds
    return float(read_table(file, ["cpu_s"])["cpu_s"].sum())
