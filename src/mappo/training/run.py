"""A run on the disk: the result of `train`, and of `load_run`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mappo.config import Config
from mappo.deploy.formats import FormatName
from mappo.deploy.verify import Verdict
from mappo.errors import UserError
from mappo.evaluation.export_run import export_run
from mappo.evaluation.options import SCORE_EPISODES, EvaluateOptions
from mappo.evaluation.score_run import evaluate_run
from mappo.runs.checkpoint import last_step
from mappo.runs.csv_table import read_table
from mappo.runs.directory import read_run, seed_paths
from mappo.runs.length import change_length
from mappo.runs.steps import checkpoint_paths
from mappo.system.files import as_path


@dataclass(frozen=True)
class Run:
    """A run directory after training."""

    path: Path
    env: str
    config: Config
    step: int
    """Environment steps already done, by each seed."""
    allow_code: bool = False
    """Whether `evaluate` and `export` may import the code named in the run's `config.json`."""

    @property
    def finished(self) -> bool:
        """Return whether all updates of the config are done."""
        return self.step >= self.config.end_step

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """Return the columns of `metrics.csv`, a number for each update; NaN where nothing was measured.

        Several seeds are concatenated; the column `seed` names the seed. Before the first update there are no columns.
        """
        tables = [table for path in self.seed_paths if (table := read_table(path / "metrics.csv"))]
        names = dict.fromkeys(name for table in tables for name in table)
        # Seeds may differ in their columns, where versions of mappo do.
        parts = {name: [table.get(name, np.full_like(table["step"], np.nan)) for table in tables] for name in names}
        return {name: np.concatenate(columns) for name, columns in parts.items()}

    @property
    def seed_paths(self) -> list[Path]:
        """Return the directory of each seed; the run's own directory for a run of a single seed."""
        return seed_paths(self.path, self.config)

    @property
    def checkpoints(self) -> list[int]:
        """Return the steps of the checkpoints on disk, in ascending order; of several seeds the steps that all have."""
        steps = [checkpoint_paths(path).keys() for path in self.seed_paths]
        return sorted(set(steps[0]).intersection(*steps[1:]))

    def seed(self, number: int) -> "Run":
        """Return the run of one of several seeds.

        Args:
            number: the seed, from `config.run.seed` on.

        Raises:
            UserError: the run has no such seed.
        """
        seeds = self.config.run.all_seeds
        if number not in seeds:
            raise UserError(f"{self.path} has no seed {number}; it has {', '.join(map(str, seeds))}")
        return load_run(self.seed_paths[seeds.index(number)], allow_code=self.allow_code)

    def extend(self, total_steps: int) -> "Run":
        """Change the length of the run, as `mappo resume RUN --total-steps` does; return the changed run.

        `mappo.train(env, run.config, resume=True)` then trains the new updates. Learning rates and the entropy weight
        are annealed over the new length from now on.

        Args:
            total_steps: the new length, at least the steps done.

        Raises:
            UserError: the run is longer already, or another process trains in it.
        """
        change_length(self.path, total_steps)
        run = replace(self.config.run, total_steps=total_steps, name=None, dir=str(self.path))
        return replace(self, config=replace(self.config, run=run))

    def evaluate(
        self,
        episodes: int = SCORE_EPISODES,
        *,
        on: str | None = None,
        checkpoint: str | int = "last",
        sampled: bool = False,
        env: Any = None,
        workers: int | None = None,
    ) -> dict[str, Any]:
        """Score the saved policy (of each seed) and the baselines on the same reset seeds.

        Args:
            episodes: number of episodes.
            on: package of the original environment to play on, such as `mpe2`.
            checkpoint: `last`, `best`, or the step of a kept checkpoint (`run.keep_every`).
            sampled: compare the sampled policy with the baselines; by default the greedy policy. Both are scored.
            env: environment to play in; needed only if the run's environment has no name.
            workers: processes for environments written in Python; by default as in training.

        Returns:
            See `evaluate_run`.
        """
        options = EvaluateOptions(
            episodes, on, sampled, workers, checkpoint=str(checkpoint), allow_code=self.allow_code
        )
        return evaluate_run(self.path, options, env=env)

    def export(
        self,
        agent: str = "all",
        to: Sequence[FormatName] = ("onnx",),
        out: str | Path | None = None,
        *,
        checkpoint: str | int = "last",
        env: Any = None,
    ) -> dict[Path, list[Verdict]]:
        """Export the policy of an agent, or of each agent, to files that run without mappo, and prove each file.

        Args:
            agent: an agent's name, or `all`.
            to: kinds of files, such as `onnx`.
            out: folder of the agents' folders; by default `export` in the run directory.
            checkpoint: `last`, `best`, or the step of a kept checkpoint.
            env: environment to record in; needed only if the run's environment has no name.

        Returns:
            The verdict on each file, by the agent's folder.
        """
        target = None if out is None else Path(out)
        return export_run(self.path, agent, to, target, str(checkpoint), allow_code=self.allow_code, env=env)

    def report(self, out: str | Path | None = None) -> Path:
        """Write a page about the run, one HTML file that opens offline; return the file.

        Args:
            out: the file; by default `report.html` in the run directory.

        Raises:
            UserError: a file of the run is damaged, or the page cannot be written.
        """
        import mappo  # late: reports stand on a higher floor

        return mappo.report(self.path, out)


def load_run(path: str | Path, *, allow_code: bool = False) -> Run:
    """Load a run from its directory: the same object as the result of `train`.

    A run of several seeds loads as a whole: `evaluate` scores all of its policies, and `metrics` holds all of its
    rows. `load_actor` needs a single policy: name the seed, as in `load_actor(run.seed(2).path)`.

    Args:
        path: the run directory, or the directory of one seed.
        allow_code: allow `evaluate` and `export` to import the code named in the run's `config.json`.

    Raises:
        UserError: the directory is not a run, is damaged, or is of another format.
    """
    path = as_path(path).absolute()
    env, config, _ = read_run(path)
    step = min(last_step(seed_path) for seed_path in seed_paths(path, config))
    return Run(path, env, config, step, allow_code)
