"""The record of a seed: its evaluations during training, and its score. Loads no torch."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mappo.config import Config
from mappo.errors import UserError
from mappo.evaluation.statistics import Floats
from mappo.experiments.compare.finding import FoundRun
from mappo.runs.scores import MAX_RETURN, Score, read_score
from mappo.system.file_lock import is_locked
from mappo.system.files import error_text
from mappo.system.safe_read import quote, read_lines

# Columns of metrics.csv.
_COLUMNS = ("step", "eval_return")
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
    table = path / "metrics.csv"
    try:
        step, evaluations = _read_evaluations(table) if table.exists() else (0, [])
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{table} is damaged: {error_text(error)}") from None
    steps, returns = np.array(evaluations, dtype=float).reshape(-1, 2).T
    games = _read_games(path / "returns.csv")
    score = read_score(path)
    return Record(path, run.env, run.config, seed, step, steps, returns, games, score, run.path, run.label)


def _read_evaluations(table: Path) -> tuple[int, list[tuple[int, float]]]:
    """Return the step of the last row, and step and mean return of each evaluation."""
    lines = read_lines(table)
    header = next(lines, "").split(",")
    if missing := [name for name in _COLUMNS if name not in header]:
        raise ValueError(f"it lacks the columns {', '.join(missing)}")
    step_column, return_column = (header.index(name) for name in _COLUMNS)
    step = 0
    found: list[tuple[int, float]] = []
    for line in lines:
        cells = line.split(",")
        if len(cells) != len(header):
            raise ValueError(f"a line has {len(cells)} cells in place of {len(header)}")
        step = _read_step(cells[step_column])
        if cells[return_column] and abs(value := float(cells[return_column])) <= MAX_RETURN:
            found.append((step, value))
    return step, found


def _read_step(cell: str) -> int:
    if not 0 <= (step := int(cell)) <= MAX_STEP:
        raise ValueError(f"{quote(cell)} is no number of steps")
    return step


def _read_games(table: Path) -> dict[int, dict[int, float]]:
    """Return the returns by reset seed of each evaluation, by step; returns that are not finite are left out."""
    if not table.exists():
        return {}
    try:
        rows = csv.DictReader(read_lines(table), restkey="", restval="")
        found: dict[int, dict[int, float]] = {}
        for row in rows:
            games = {int(name): float(cell) for name, cell in row.items() if name.isdigit() and cell}
            found[_read_step(row["step"])] = {seed: x for seed, x in games.items() if abs(x) <= MAX_RETURN}
        return found
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UserError(f"{table} is damaged: {error_text(error)}") from None
