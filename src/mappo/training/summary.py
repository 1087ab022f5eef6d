"""Figures about a run for the session: title, timing, means over seeds, and the learning curve at the end."""

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mappo.config import Config, RunConfig
from mappo.evaluation.curve import plot_curve
from mappo.training.evaluator import AT_END


class UpdateClock:
    """Wall clock and processor time of the updates of a session.

    Args:
        step: environment steps already done when the session begins.
    """

    def __init__(self, step: int) -> None:
        self._first_step = step
        self._began = time.perf_counter()

    def start(self) -> None:
        """Begin an update."""
        self.laps: dict[str, float] = {}
        self._starts = (time.perf_counter(), time.process_time())

    def lap(self, name: str) -> None:
        """End a part of the update: save its seconds as `laps[name]`."""
        now = time.perf_counter()
        self.elapsed = now - self._began
        self.laps[name] = now - self._starts[0] - sum(self.laps.values())

    def timing(self, step: int) -> dict[str, float]:
        """Return the row of `timing.csv` at the end of an update."""
        return {
            "collect_s": self.laps["collect_s"],
            "update_s": self.laps["update_s"],
            "cpu_s": time.process_time() - self._starts[1],
            "elapsed_s": self.elapsed,
            "steps_per_second": (step - self._first_step) / self.elapsed if self.elapsed > 0 else math.nan,
        }


def run_title(path: Path, name: str, config: Config) -> str:
    """Return a line with environment, seeds and directory of a run."""
    first, *others = config.run.all_seeds
    seeds = f"seeds {first} to {others[-1]}, mean" if others else f"seed {first}"
    return f"{name}  {seeds}  {path}"


def metrics_by_seed(tensors: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """Return the metrics of each seed as numbers, from tensors `(S,)`, or scalars for a single seed."""
    # A single transfer from the device for all metrics and seeds.
    stacked: Any = torch.stack([x.double().reshape(-1) for x in tensors.values()], 1)  # (S, metrics)
    rows: list[list[float]] = stacked.tolist()
    return [dict(zip(tensors, row, strict=True)) for row in rows]


def mean_over_seeds(metrics: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the seeds where the metric was measured."""
    if len(metrics) == 1:
        return metrics[0]
    means: dict[str, float] = {}
    for name in metrics[0]:
        values = np.array([seed_metrics[name] for seed_metrics in metrics])
        measured = values[~np.isnan(values)]
        means[name] = float(measured.mean()) if len(measured) else math.nan
    return means


def draw_curve(path: Path, name: str, run: RunConfig, seed_paths: Sequence[Path], results: Mapping[str, float]) -> None:
    """Draw the learning curve of a run; warn if the curve cannot be drawn.

    Args:
        path: run directory.
        name: name of the environment.
        run: settings of the run.
        seed_paths: directories of the seeds.
        results: mean team returns of the baselines and, as `AT_END`, of the policy without evaluations during training.
    """
    tables = [path / "metrics.csv" for path in seed_paths]
    seeds = f"seed {run.seed}" if len(tables) == 1 else f"{len(tables)} seeds"
    baselines = {baseline: mean for baseline, mean in results.items() if baseline != AT_END}
    at_end = results.get(AT_END, math.nan)
    try:
        plot_curve(path, baselines, title=f"{name}, {seeds}", tables=tables, policy=run.eval_policy, at_end=at_end)
    except (OSError, ValueError) as error:  # such as a full disk: all else is saved
        warnings.warn(f"the learning curve is not drawn: {error}", stacklevel=5)
