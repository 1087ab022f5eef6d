"""Results of a sweep: a row for each trial, and the files trials.csv and best.json in the study's folder."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mappo.config import Config
from mappo.evaluation.number_format import format_return
from mappo.experiments.sweep.plan import SweepPlan
from mappo.experiments.sweep.setting import Setting
from mappo.system.files import write_text
from mappo.system.safe_read import csv_text


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial.

    Args:
        number: number of the trial.
        state: complete, pruned, failed, running or waiting.
        values: value of each setting.
        eval_return: the objective; of an incomplete trial its last evaluation, None without one.
        score: mean return of the score on other episodes, None without a score.
        interval: 95 % interval of the score, over seeds or, with one seed, over episodes.
        cpu_s: processor time in seconds.
        error: the reason of a failure.
        is_efficient: no other complete trial is both better and cheaper.
    """

    number: int
    state: str
    values: Mapping[str, Any]
    eval_return: float | None
    score: float | None
    interval: tuple[float, float] | None
    cpu_s: float | None
    error: str
    is_efficient: bool = False

    @property
    def quality(self) -> float | None:
        """Return the score, or without a score the objective."""
        return self.eval_return if self.score is None else self.score

    @property
    def score_text(self) -> str:
        """Return the score with its interval, for people; "" without a score."""
        if self.score is None:
            return ""
        interval = "" if self.interval is None else " ({} to {})".format(*map(format_return, self.interval))
        return format_return(self.score) + interval


@dataclass(frozen=True)
class SweepResults:
    """Results of all trials so far.

    Args:
        plan: the sweep.
        trials: the trials, in the order of their numbers.
    """

    plan: SweepPlan
    trials: Sequence[TrialResult]

    @property
    def counts(self) -> Counter[str]:
        """Return the number of trials in each state."""
        return Counter(trial.state for trial in self.trials)

    def describe_counts(self) -> str:
        """Return the number of trials in each state in a line."""
        return ", ".join(f"{count} {state}" for state, count in sorted(self.counts.items()))

    @property
    def num_done(self) -> int:
        """Return the number of trials at their end."""
        return sum(trial.state in ("complete", "pruned", "failed") for trial in self.trials)

    @property
    def is_finished(self) -> bool:
        """Return whether no trial is left to run."""
        return self.num_done >= self.plan.num_trials

    @property
    def ranking(self) -> list[TrialResult]:
        """Return the complete trials, the best objective first."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(complete, key=lambda trial: (-(trial.eval_return or 0.0), trial.number))

    def best_config(self) -> Config | None:
        """Return the settings of the best trial; None if no trial is complete."""
        if not self.ranking:
            return None
        best = self.ranking[0]
        config = self.plan.trial_config(best.number, best.values)
        return replace(config, run=replace(config.run, dir=None))

    def write(self) -> None:
        """Write trials.csv and best.json."""
        settings = self.plan.space
        stream = io.StringIO()
        table = csv.writer(stream, lineterminator="\n")
        figures = ("trial", "state", "eval_return", "score", "score_low", "score_high", "cpu_s", "pareto")
        table.writerow([*figures, *(setting.name for setting in settings), "error"])
        for trial in self.trials:
            low, high = trial.interval or (None, None)
            figures = (trial.number, trial.state, trial.eval_return, trial.score, low, high, trial.cpu_s)
            values = [_cell(setting, trial.values) for setting in settings]
            table.writerow([*figures, int(trial.is_efficient), *values, csv_text(trial.error)])
        write_text(self.plan.folder / "trials.csv", stream.getvalue())
        config = self.best_config()
        if config is not None:
            best = self.ranking[0]
            head = {"env": self.plan.env, "trial": best.number, "eval_return": best.eval_return, "score": best.score}
            text = json.dumps(head | {"config": config.to_dict()}, indent=2)
            write_text(self.plan.folder / "best.json", text + "\n")


def _cell(setting: Setting, values: Mapping[str, Any]) -> str:
    """Return the value of a setting as JSON; empty for a trial that has not begun."""
    return json.dumps(setting.option_value(values[setting.name])) if setting.name in values else ""


def collect_results(plan: SweepPlan, frozen_trials: Sequence[Any]) -> SweepResults:
    """Return the results of Optuna's frozen trials."""
    trials = [_result(trial) for trial in frozen_trials]
    front = pareto_front(trials)
    return SweepResults(plan, [replace(trial, is_efficient=trial.number in front) for trial in trials])


def _result(trial: Any) -> TrialResult:
    state: str = trial.state.name
    rounds: dict[int, float] = trial.intermediate_values
    last = rounds[max(rounds)] if rounds else None
    attributes: dict[str, Any] = trial.user_attrs
    interval = attributes.get("ci95")
    return TrialResult(
        trial.number,
        "failed" if state == "FAIL" else state.lower(),
        trial.params,
        trial.value if state == "COMPLETE" else last,
        attributes.get("score"),
        None if interval is None else (interval[0], interval[1]),
        attributes.get("cpu_s"),
        attributes.get("error", ""),
    )


def pareto_front(trials: Sequence[TrialResult]) -> set[int]:
    """Return the numbers of the complete trials that no other complete trial beats in quality and cost."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.cpu_s is not None]
    front: set[int] = set()
    best: float | None = None
    for trial in sorted(complete, key=lambda trial: (trial.cpu_s or 0.0, -(trial.quality or 0.0))):
        if trial.quality is not None and (best is None or trial.quality > best):
            best = trial.quality
            front.add(trial.number)
    return front
