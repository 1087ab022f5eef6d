"""Scores of the runs of an environment, all at the same step and, where known, episode by episode. Loads no torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mappo.errors import shorten
from mappo.evaluation.statistics import Floats
from mappo.experiments.compare.record import Record
from mappo.system.files import shell_path

MAX_NAMED = 3  # runs named in a note; the others are counted


@dataclass(frozen=True)
class RunScore:
    """Score of a run.

    Args:
        record: the run.
        step: environment steps of the policy.
        mean: mean return.
        games: return of each episode by reset seed; None if they were not kept.
    """

    record: Record
    step: int
    mean: float
    games: Mapping[int, float] | None


@dataclass(frozen=True)
class ScoreTable:
    """Scores of the runs of an environment.

    Args:
        source: `score` for the episodes after the training; `evaluation` for episodes during training.
        step: environment steps done by all runs, at most.
        scores: a score for each run; runs without a score are left out.
        notes: remarks for the reader.
    """

    source: str
    step: int
    scores: Sequence[RunScore]
    notes: Sequence[str]


def score_runs(records: Sequence[Record]) -> ScoreTable:
    """Score runs by their final scores, or, if their numbers of steps differ or scores are missing, by evaluations."""
    notes: list[str] = []
    evaluated = [record for record in records if record.last_evaluation() is not None]
    unscored = [record for record in records if record.final_returns is None]
    begun = [record for record in unscored if record not in evaluated]
    if begun:
        notes.append(f"left out, without an evaluation yet: {name_paths(begun)}")
    chosen = [record for record in records if record not in begun]
    steps = [record.step for record in chosen]
    # Runs of equal length end up to a rollout apart: they are rounded up to whole rollouts.
    is_equal_length = chosen and max(steps) - min(steps) < max(r.config.steps_per_update for r in chosen)
    if is_equal_length and not set(map(id, chosen)) & set(map(id, unscored)):
        return ScoreTable("score", min(steps), [_final_score(record) for record in chosen], notes)
    scores, step = _at_common_step(evaluated)
    if chosen and not is_equal_length:
        notes.append(f"runs have {min(steps):,} to {max(steps):,} steps: compared by their evaluations at {step:,}")
    elif missing := [record for record in unscored if record in evaluated]:
        advice = f"mappo evaluate {shell_path(missing[0].run)} adds it"
        if unfinished := [record for record in missing if record.state != "complete"]:
            missing = unfinished
            advice = f"the run is {unfinished[0].state}"
        notes.append(f"compared by evaluations, for {name_paths(missing)} has no score: {advice}")
    if unkept := [score.record for score in scores if score.games is None]:
        notes.append(f"returns of episodes were not kept by {name_paths(unkept)}: means alone are compared")
    return ScoreTable("evaluation", step, scores, notes)


def name_paths(records: Sequence[Record]) -> str:
    """Return the paths of runs as a text; of many runs the first."""
    return shorten(list(dict.fromkeys(str(record.run) for record in records)), MAX_NAMED)


def _final_score(record: Record) -> RunScore:
    games = record.final_returns or {}
    return RunScore(record, record.step, float(np.mean([*games.values()])), games)


def _at_common_step(records: Sequence[Record]) -> tuple[list[RunScore], int]:
    """Return the last evaluation of each run up to the step that all runs have done, and this step."""
    step = min((record.last_evaluation() or 0 for record in records), default=0)
    scores: list[RunScore] = []
    for record in records:
        # Rollouts of different sizes end at different steps: a run's first evaluation may be later.
        at = record.last_evaluation(step) or int(record.eval_steps[0])
        scores.append(RunScore(record, at, record.mean_at(at), record.eval_games.get(at)))
    return scores, step


def common_games(scores: Iterable[RunScore]) -> Floats:
    """Return the returns `(S, N)` in the episodes that all runs have played; N is 0 if there are none."""
    games = [score.games or {} for score in scores]
    seeds = sorted(set(games[0]).intersection(*games[1:])) if games else []
    return np.array([[game[seed] for seed in seeds] for game in games], dtype=float).reshape(len(games), -1)
