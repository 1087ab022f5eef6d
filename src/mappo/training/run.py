"""A trained run: the result of `train`, and of loading a run directory."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mappo.config import Config
from mappo.evaluation.options import CheckpointName, EvaluateOptions
from mappo.evaluation.score_run import evaluate_run
from mappo.runs.directory import read_run, seed_paths
from mappo.system.safe_read import read_lines


@dataclass(frozen=True)
class Run:
    """A run directory after training."""

    path: Path
    env: str
    config: Config
    step: int
    """Environment steps already done, by each seed."""

    @property
    def finished(self) -> bool:
        """Return whether all updates of the config are done."""
        return self.step >= self.config.num_updates * self.config.steps_per_update

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """Return the columns of `metrics.csv`, a number for each update; NaN where nothing was measured.

        Several seeds are concatenated; the column `seed` names the seed. Before the first update there are no columns.
        """
        files = [path / "metrics.csv" for path in seed_paths(self.path, self.config)]
        rows = [row for file in files if file.exists() for row in csv.DictReader(read_lines(file))]
        names = dict.fromkeys(name for row in rows for name in row)  # seeds may differ, where versions of mappo do
        return {name: np.array([float(row.get(name) or "nan") for row in rows]) for name in names}

    def evaluate(
        self,
        episodes: int = 320,
        *,
        on: str | None = None,
        checkpoint: CheckpointName = "last",
        sampled: bool = False,
        env: Any = None,
        workers: int | None = None,
    ) -> dict[str, Any]:
        """Score the saved policy (of each seed) and the baselines on the same reset seeds.

        Args:
            episodes: number of episodes.
            on: package of the original environment to play on, such as `mpe2`.
            checkpoint: `last` or `best`.
            sampled: compare the sampled policy with the baselines; by default the greedy policy. Both are scored.
            env: environment to play in; needed only if the run's environment has no name.
            workers: processes for environments written in Python; by default as in training.

        Returns:
            See `evaluate_run`.
        """
        # The caller named the environment in the training: no file chooses the code to import.
        options = EvaluateOptions(episodes, on, checkpoint, sampled, workers, allow_code=True)
        return evaluate_run(self.path, options, env=env)


def load_finished(path: Path) -> Run:
    """Return the complete run in a directory."""
    env, config, _ = read_run(path)
    return Run(path, env, config, config.num_updates * config.steps_per_update)
