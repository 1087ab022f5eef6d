"""What a training run leaves behind."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mappo.config import Config
from mappo.evaluation.score_run import evaluate_run
from mappo.runs.directory import seed_paths
from mappo.system.safe_read import read_text


@dataclass(frozen=True)
class Run:
    """A run directory that has been trained in."""

    path: Path
    env: str
    config: Config
    step: int
    """Environment steps done; of several seeds by each."""

    @property
    def finished(self) -> bool:
        return self.step >= self.config.num_updates * self.config.steps_per_update

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """The columns of `metrics.csv`, one number for each update; NaN where nothing was measured.

        Of several seeds one behind the other: the column `seed` tells whose.
        """
        names, rows = list[str](), list[list[str]]()
        for path in seed_paths(self.path, self.config):
            names, *own = list(csv.reader(io.StringIO(read_text(path / "metrics.csv"))))
            rows += own
        return {n: np.array([float(r[i] or "nan") for r in rows]) for i, n in enumerate(names)}

    def evaluate(
        self,
        episodes: int = 320,
        *,
        on: str | None = None,
        checkpoint: str = "last",
        sampled: bool = False,
        env: Any = None,
        workers: int | None = None,
    ) -> dict[str, Any]:
        """Plays the saved policy (of each seed), and the baselines on the same reset seeds; see `evaluate_run`."""
        # Whoever trained has named the environment: it is theirs, not a file's.
        return evaluate_run(
            self.path,
            episodes,
            on=on,
            checkpoint=checkpoint,
            sampled=sampled,
            env=env,
            workers=workers,
            allow_code=True,
        )
