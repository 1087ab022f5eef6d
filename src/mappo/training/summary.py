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

from mappo.config import Config
from mappo.envs import CUSTOM
from mappo.envs.create import is_batched_env
from mappo.evaluation.curve import plot_curve
from mappo.training.device import choose_device
from mappo.training.evaluator import AT_END, Summary
from mappo.training.header import device_line, settings_line
from mappo.training.run import Run


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


def draw_curve(
    path: Path,
    name: str,
    config: Config,
    seed_paths: Sequence[Path],
    results: Mapping[str, Summary],
    device: torch.device,
) -> None:
    """Draw the learning curve of a run; warn if the curve cannot be drawn.

    Args:
        path: run directory.
        name: name of the environment.
        config: settings of the run.
        seed_paths: directories of the seeds.
        results: team returns of the baselines and, as `AT_END`, of the policy without evaluations during training.
        device: of the learner.
    """
    run = config.run
    tables = [path / "metrics.csv" for path in seed_paths]
    seeds = f"seed {run.seed}" if len(tables) == 1 else f"{len(tables)} seeds"
    baselines = {baseline: result for baseline, result in results.items() if baseline != AT_END}
    footer = f"{settings_line(name, config)}; {device_line(device, run.threads)}"
    if baselines:
        episodes = min(result.episodes for result in baselines.values())
        footer += f"\nbaselines: mean and 95 % interval of {episodes:,} episodes"
    try:
        plot_curve(
            path,
            {baseline: result.mean for baseline, result in baselines.items()},
            intervals={baseline: result.interval for baseline, result in baselines.items()},
            title=f"{name}, {seeds}",
            footer=footer,
            tables=tables,
            policy=run.eval_policy,
            at_end=results[AT_END].mean if AT_END in results else math.nan,
        )
    except (OSError, ValueError) as error:  # such as a full disk: all else is saved
        warnings.warn(f"the learning curve is not drawn: {error}", stacklevel=5)


def draw_scored_curve(run: Run, result: Mapping[str, Any]) -> None:
    """Draw the learning curve again, with the baselines of a score: curve and table then show the same numbers.

    Args:
        run: a complete run.
        result: see `evaluate_run`.
    """
    settings = run.config.run
    results = {name: _summary_of(baseline, result["episodes"]) for name, baseline in result["baselines"].items()}
    for policy, score in result["scores"].items():
        if policy != settings.eval_policy:
            results[AT_END] = _summary_of(score["return_sum"], result["episodes"])
    is_batched = not run.env.startswith(CUSTOM) and is_batched_env(run.env)
    device = choose_device(settings.device) if is_batched else torch.device("cpu")
    draw_curve(run.path, run.env, run.config, run.seed_paths, results, device)


def _summary_of(score: Mapping[str, Any], episodes: int) -> Summary:
    low, high = score["ci95"] or (math.nan, math.nan)
    return Summary(score["mean"], (low, high), episodes)
