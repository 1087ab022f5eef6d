"""The record of a seed: its evaluations during training, and its score. Loads no torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mappo.config import Config
from mappo.errors import UserError
from mappo.evaluation.statistics import Floats
from mappo.experiments.compare.finding import FoundRun
from mappo.runs.csv_table import read_table
from mappo.runs.scores import MAX_RETURN, Score, read_score
from mappo.system.file_lock import is_locked

MAX_STEP = 2**53  # larger numbers are not exact as floats


@dataclass(frozen=True)
class Record:
    """The record of a seed.

    Args:
        path: directory of the seed.
        env: environment of the run.
        config: settings of the run.
        seed: the seed.
        step: environment steps of the last update.
        eval_steps: environment steps `(N,)` of the evaluations.
        eval_returns: mean returns `(N,)` of the evaluations.
        eval_games: returns of evaluations by step and reset seed; without the evaluations that kept none.
        score: score after the training, None without a score.
        run: directory of the run, of all its seeds.
        label: name of the group, given by the user.
    """

    path: Path
    env: str
    config: Config
    seed: int
    step: int
    eval_steps: Floats
    eval_returns: Floats
    eval_games: Mapping[int, Mapping[int, float]]
    score: Score | None
    run: Path
    label: str = ""

    @property
    def policy(self) -> str:
        """Return the policy of the evaluations, greedy or sampled."""
        return self.config.run.eval_policy

    @property
    def state(self) -> str:
        """Return complete, running or stopped."""
        if self.step >= self.config.end_step:
            return "complete"
        return "running" if is_locked(self.path / ".lock") else "stopped"

    @property
    def final_returns(self) -> Mapping[int, float] | None:
        """Return the returns of the score by reset seed; None without a score of the last update."""
        score = self.score
        if score is None or score.step != self.step or self.policy not in score.returns:
            return None
        return dict(enumerate(score.returns[self.policy], score.seed))

    def last_evaluation(self, step: float = math.inf) -> int | None:
        """Return the step of the last evaluation up to a step; None if there is none."""
        steps = self.eval_steps[self.eval_steps <= step]
        return int(steps[-1]) if len(steps) else None

    def mean_at(self, step: int) -> float:
        """Return the mean return of the evaluation at a step."""
        return float(self.eval_returns[self.eval_steps == step][0])


def read_record(run: FoundRun, seed: int, path: Path) -> Record:
    """Read the record of a seed in its directory; runs of earlier versions lack the returns of episodes.

    Raises:
        UserError: a file is damaged.
    """
    metrics = _read_steps(path / "metrics.csv", ["step", "eval_return"])
    step = int(metrics["step"][-1]) if len(metrics["step"]) else 0
    returns = metrics["eval_return"]
    is_return = np.abs(returns) <= MAX_RETURN
    games = _read_games(path / "returns.csv")
    score = read_score(path)
    evaluations = (metrics["step"][is_return], returns[is_return])
    return Record(path, run.env, run.config, seed, step, *evaluations, games, score, run.path, run.label)


def _read_games(file: Path) -> dict[int, dict[int, float]]:
    """Return the returns by reset seed of each evaluation, by step; returns that are not finite are left out."""
    table = _read_steps(file)
    returns = {int(name): values for name, values in table.items() if name.isdigit()}
    steps = table.get("step", ())
    return {
        int(step): {seed: float(values[k]) for seed, values in returns.items() if abs(values[k]) <= MAX_RETURN}
        for k, step in enumerate(steps)
    }


def _read_steps(file: Path, names: Sequence[str] | None = None) -> dict[str, Floats]:
    """Return columns of a table, with environment steps in one of them."""
    table = read_table(file, names)
    for step in table.get("step", ()):
        if not (step.is_integer() and 0 <= step <= MAX_STEP):
            raise UserError(f"{file} is damaged: {step:g} is no number of steps")
    return table
