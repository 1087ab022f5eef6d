"""Results in the format of marl-eval (id-marl-eval, arXiv:2209.10485). Loads no torch."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mappo.experiments.compare.comparison import Comparison, Panel
from mappo.experiments.compare.record import Record
from mappo.experiments.compare.scores import RunScore


def to_marl_eval(comparison: Comparison) -> dict[str, Any]:
    """Return the returns of all runs: environment, task, algorithm, run, step, returns of the episodes.

    The family of an environment is marl-eval's environment, and its name the task. The `absolute_metrics` are the
    returns of the score of each run. Evaluations that not all runs of a task have are left out: marl-eval needs as many
    of each run. Names are without commas, which marl-eval does not allow.
    """
    data: dict[str, Any] = {}
    for panel in comparison.panels:
        family, slash, task = panel.env.partition("/")
        algorithms = data.setdefault(family if slash else "mappo", {}).setdefault(task if slash else panel.env, {})
        count = min((len(s.record.eval_steps) for group in panel.groups for s in group.scores), default=0)
        for group in panel.groups:
            runs = {f"run_{k}": _steps(score, count) for k, score in enumerate(group.scores, start=1)}
            algorithms[_plain(group.name)] = runs
    return data


def uneven_notes(comparison: Comparison) -> list[str]:
    """Return why marl-eval would refuse the data: it needs the same algorithms and sizes of runs in each task."""
    notes: list[str] = []
    sizes = Counter(len(group.scores) for panel in comparison.panels for group in panel.groups)
    if len(sizes) > 1:
        counts = " and ".join(map(str, sorted(sizes)))
        notes.append(f"marl-eval needs equally many runs in each group, and here are groups of {counts}")
    if len({_names(panel) for panel in comparison.panels}) > 1:
        notes.append("marl-eval needs the same groups in each environment: name them alike, as in MAPPO=PATH")
    return notes


def _names(panel: Panel) -> frozenset[str]:
    return frozenset(group.name for group in panel.groups)


def _steps(score: RunScore, count: int) -> dict[str, Any]:
    record = score.record
    steps = {
        f"step_{k}": {"step_count": int(record.eval_steps[k]), "return": _returns(record, k)} for k in range(count)
    }
    games: Sequence[float] = [*score.games.values()] if score.games else [score.mean]
    return {**steps, "absolute_metrics": {"return": games}}


def _returns(record: Record, index: int) -> list[float]:
    """Return the returns of an evaluation, or their mean if they were not kept."""
    games = record.eval_games.get(int(record.eval_steps[index]))
    return [*games.values()] if games else [float(record.eval_returns[index])]


def _plain(name: str) -> str:
    return name.replace(",", "")
