"""`mappo.compare`: runs in groups, their statistics over seeds, and the files to write them to. Loads no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mappo.errors import UserError
from mappo.evaluation.statistics import (
    Floats,
    compare_tasks,
    difference_interval,
    mean_interval,
    summarize_seeds,
    summarize_tasks,
)
from mappo.experiments.compare.finding import find_runs
from mappo.experiments.compare.grouping import group_records, mixed_settings
from mappo.experiments.compare.record import Record, read_record
from mappo.experiments.compare.scores import RunScore, common_games, score_runs


@dataclass(frozen=True)
class Group:
    """Runs of an environment that differ in nothing but the seed.

    Args:
        name: the settings that differ from other groups, or the user's name.
        scores: score of each run.
        summary: see `summarize_seeds`; intervals are None for a single run.
        versus_best: comparison with the best group of the environment; None for the best group.
    """

    name: str
    scores: Sequence[RunScore]
    summary: Mapping[str, Any]
    versus_best: Mapping[str, Any] | None

    @property
    def means(self) -> Floats:
        """Return the score `(S,)` of each run."""
        return np.array([score.mean for score in self.scores])

    @property
    def policy(self) -> str:
        """Return the policy of the scores: greedy, sampled, or greedy and sampled."""
        return " and ".join(sorted({score.record.policy for score in self.scores}))


@dataclass(frozen=True)
class Panel:
    """Groups of an environment, the best mean first.

    Args:
        env: name of the environment, with the options that change its episodes.
        source: `score` (episodes after the training) or `evaluation` (episodes during training).
        step: environment steps of the scores.
        groups: the groups.
        baselines: mean, interval and returns of each baseline on the episodes of the scores.
        notes: what the reader must know.
    """

    env: str
    source: str
    step: int
    groups: Sequence[Group]
    baselines: Mapping[str, Mapping[str, Any]]
    notes: Sequence[str]

    @property
    def policy(self) -> str:
        """Return the policy of the scores: greedy, sampled, or greedy and sampled."""
        return " and ".join(sorted({score.record.policy for group in self.groups for score in group.scores}))

    @property
    def num_seeds(self) -> str:
        """Return the number of seeds of each group, such as 5, or 3 to 5."""
        counts = sorted({len(group.scores) for group in self.groups})
        return " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))


@dataclass(frozen=True)
class Comparison:
    """Result of `compare`.

    Args:
        panels: groups by environment.
        overall: for several environments, statistics of the groups present in all; scores are scaled in each
            environment, 0 for its lowest and 1 for its highest run.
        problems: errors of the runs that were left out.
    """

    panels: Sequence[Panel]
    overall: Sequence[Group]
    problems: Sequence[str]


def compare(
    runs: Sequence[str | Path] | str | Path, by: Sequence[str] | str = (), out: str | Path | None = None
) -> Comparison:
    """Compare runs: statistics over seeds for each group of equal settings, in each environment.

    Args:
        runs: run directories, folders of runs, or patterns such as `runs/spread-*`; `LABEL=PATH` names a group. A run
            of several seeds counts as a run for each seed.
        by: settings that make the groups, such as `ppo.actor-lr`; by default all that differ.
        out: file of a figure, PNG, PDF or SVG; none by default.

    Returns:
        The comparison. Damaged runs are left out, and named in `problems`.

    Raises:
        UserError: there is no run to compare, or no such setting.
    """
    records, problems = _read_records([runs] if isinstance(runs, str | Path) else runs)
    comparison = compare_records(records, [by] if isinstance(by, str) else by, problems)
    if out is not None:
        from mappo.experiments.compare.figure import draw_comparison  # matplotlib takes half a second to load

        draw_comparison(comparison, Path(out))
    return comparison


def _read_records(runs: Sequence[str | Path]) -> tuple[list[Record], list[str]]:
    """Return the record of each seed once, and the errors of the runs that were left out."""
    found = find_runs(runs)
    problems = list(found.problems)
    records: dict[Path, Record] = {}
    for run in found.runs:
        for seed, path in run.seeds:
            try:
                # A seed's directory may be named beside the directory of all seeds.
                records.setdefault(path.resolve(), read_record(run, seed, path))
            except UserError as error:
                problems.append(str(error))
    return [*records.values()], problems


def compare_records(records: Sequence[Record], by: Sequence[str] = (), problems: Sequence[str] = ()) -> Comparison:
    """Compare records of seeds.

    Args:
        records: one record for each seed.
        by: settings for the groups; by default all settings with several values.
        problems: errors of damaged runs.

    Raises:
        UserError: there is no run to compare, or no such setting.
    """
    groups = group_records(records, by)
    panels = [_make_panel(env, found_groups, bool(by)) for env, found_groups in groups.items()]
    if not any(panel.groups for panel in panels):
        reasons = [*problems, *(note for panel in panels for note in panel.notes)]
        raise UserError("; ".join(["there is no run to compare", *reasons]))
    return Comparison(panels, _compare_overall(panels), problems)


def _make_panel(env: str, groups: Mapping[str, Sequence[Record]], is_by: bool) -> Panel:
    """Return the statistics of an environment."""
    table = score_runs([record for records in groups.values() for record in records])
    notes = list(table.notes)
    by_record = {id(score.record): score for score in table.scores}
    scores = {name: [by_record[id(r)] for r in records if id(r) in by_record] for name, records in groups.items()}
    scores = {name: found for name, found in scores.items() if found}
    if is_by:
        mixed = {name: mixed_settings(groups[name]) for name in scores}
        notes += [f"runs of {name} differ in {', '.join(names)}" for name, names in mixed.items() if names]
    policies = sorted({score.record.policy for score in table.scores})
    if len(policies) > 1:
        notes.append("some runs are scored with greedy actions, others with sampled actions (run.eval-policy)")
    results = _make_groups(scores)
    if single := [group.name for group in results if len(group.scores) == 1]:
        notes.append(f"a single seed has no interval: {', '.join(single)}")
    if results and all(len(score.record.eval_steps) < 2 for score in table.scores):
        notes.append("each run has a single evaluation, a point in the figure; --run.eval-interval STEPS makes more")
    return Panel(env, table.source, table.step, results, _baselines(table.scores), notes)


def _make_groups(scores: Mapping[str, Sequence[RunScore]]) -> list[Group]:
    """Return the groups, the best mean first, each compared with the best."""
    order = sorted(scores, key=lambda name: -float(np.mean([score.mean for score in scores[name]])))
    groups: list[Group] = []
    for name in order:
        means = np.array([score.mean for score in scores[name]])
        summary = summarize_seeds(means) | ({} if len(means) > 1 else {"iqm_ci95": None})
        versus = None if name == order[0] else _compare_groups(scores[order[0]], scores[name])
        groups.append(Group(name, scores[name], summary, versus))
    return groups


def _compare_groups(best: Sequence[RunScore], others: Sequence[RunScore]) -> dict[str, Any]:
    """Return the probability that the best group improves on another, and the other's difference to the best.

    The difference is between means over the episodes that all runs of both groups have played, or over all episodes
    if there are none in common. `ci95` is over seeds, and `ci95_games` over episodes for these trained policies.
    """
    means = [np.array([score.mean for score in scores]) for scores in (best, others)]
    games = common_games([*best, *others])
    num_games = games.shape[1]
    paired = means if not num_games else [games[: len(best)].mean(1), games[len(best) :].mean(1)]
    game_differences = games[len(best) :].mean(0) - games[: len(best)].mean(0) if num_games else np.zeros(0)
    improvement = compare_tasks([means[0]], [means[1]])
    return {
        "improvement": improvement if min(map(len, means)) > 1 else {**improvement, "ci95": None},
        "difference": float(paired[1].mean() - paired[0].mean()),
        "ci95": difference_interval(paired[1], paired[0]),
        "games": num_games,
        "ci95_games": mean_interval(game_differences).tolist() if num_games > 1 else None,
    }


def _baselines(scores: Sequence[RunScore]) -> dict[str, dict[str, Any]]:
    """Return mean, interval and number of episodes of each baseline, from the run that has scored the most."""
    saved = [score.record.score for score in scores if score.record.score is not None]
    if not saved:
        return {}
    most = max(saved, key=lambda score: score.num_episodes)
    found: dict[str, dict[str, Any]] = {}
    for name, returns in most.baselines.items():
        values = np.array(returns, dtype=float)
        interval = mean_interval(values).tolist() if len(values) > 1 else None
        found[name] = {"mean": float(values.mean()), "ci95": interval, "games": len(values)}
    return found


def _compare_overall(panels: Sequence[Panel]) -> list[Group]:
    """Return statistics over all environments of the groups present in each, the best mean first."""
    if len(panels) < 2:
        return []
    scaled: dict[str, list[Floats]] = {}
    for panel in panels:
        all_means = np.concatenate([group.means for group in panel.groups] or [np.zeros(1)])
        low = all_means.min()
        width = float(np.ptp(all_means)) or 1.0
        for group in panel.groups:
            scaled.setdefault(group.name, []).append((group.means - low) / width)
    tasks = {name: scores for name, scores in scaled.items() if len(scores) == len(panels)}
    if len(tasks) < 2:
        return []
    order = sorted(tasks, key=lambda name: -float(np.mean([scores.mean() for scores in tasks[name]])))
    best = tasks[order[0]]
    versus = {name: {"improvement": compare_tasks(best, tasks[name])} for name in order[1:]}
    scores = {name: [score for p in panels for g in p.groups if g.name == name for score in g.scores] for name in order}
    return [Group(name, scores[name], summarize_tasks(tasks[name]), versus.get(name)) for name in order]
