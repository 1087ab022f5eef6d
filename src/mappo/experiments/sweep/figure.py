"""The picture of a sweep, trials.png: quality over cost with the Pareto front, and the objective over each setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mappo.evaluation.labels import TEXT, style_axes
from mappo.experiments.sweep.results import SweepResults, TrialResult
from mappo.experiments.sweep.setting import Setting
from mappo.system.files import replace_file
from mappo.system.safe_read import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_SETTINGS = 11
_COLUMNS = 3
_COMPLETE = "#0072B2"
_PRUNED = "#999999"
_BEST = "#D55E00"


def plot_trials(results: SweepResults) -> None:
    """Draw trials.png into the study's folder, if there is a complete trial.

    Raises:
        OSError: the file cannot be written.
    """
    if not results.ranking:
        return
    # Imported late: matplotlib writes files of its own, and warns where it cannot.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings = results.plan.space[:_MOST_SETTINGS]
    columns = min(_COLUMNS, 1 + len(settings))
    rows = -(-(1 + len(settings)) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows), dpi=150, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    plan = results.plan
    title = f"{plan.env}, sweep {plan.options.study}: {results.describe_counts()}"
    figure.suptitle(printable(title, keep=""), x=0.01, ha="left", weight="bold", parse_math=False)
    _draw_cost(figure.add_subplot(rows, columns, 1), results)
    figure.legend(loc="outside lower left", ncols=4, fontsize=9, frameon=False, labelcolor=TEXT)
    for index, setting in enumerate(settings):
        _draw_setting(figure.add_subplot(rows, columns, index + 2), setting, results)
    replace_file(plan.folder / "trials.png", lambda temporary: canvas.print_png(temporary))


def _draw_cost(axes: Axes, results: SweepResults) -> None:
    """Draw the quality of complete trials over their cost, with intervals and the Pareto front."""
    best = results.ranking[0]
    trials = [trial for trial in results.ranking if trial.cpu_s is not None]
    ends = [end for trial in trials for end in trial.interval or ()]
    quality = "eval_return" if best.score is None else "score, 95 % interval"
    _frame(axes, "CPU-seconds of the run", quality, [*(trial.quality for trial in trials), *ends])

    def points(chosen: Sequence[TrialResult]) -> tuple[list[float], list[float]]:
        return [trial.cpu_s or 0.0 for trial in chosen], [_inside(axes, trial.quality or 0.0) for trial in chosen]

    for trial in trials:
        if trial.interval is not None:
            axes.plot([trial.cpu_s or 0.0] * 2, trial.interval, color=_COMPLETE, alpha=0.35, lw=1, zorder=1)
    axes.plot(*points(trials), "o", color=_COMPLETE, ms=5, label="complete", clip_on=False)
    front = sorted((trial for trial in trials if trial.is_efficient), key=lambda trial: trial.cpu_s or 0.0)
    if front:
        style: dict[str, Any] = {"marker": "o", "ms": 9, "mfc": "none"}  # a front of one trial shows by its ring
        axes.step(*points(front), where="post", color=_BEST, lw=1.5, label="Pareto front", **style)
    if results.counts["pruned"]:
        axes.plot([], [], "x", color=_PRUNED, ms=5, label="pruned: last evaluation, or below the axis")
    axes.plot(*points([best]), "*", color=_BEST, ms=13, label=f"best objective: trial {best.number}", clip_on=False)


def _draw_setting(axes: Axes, setting: Setting, results: SweepResults) -> None:
    """Draw the objective of each trial over its value of a setting."""
    from matplotlib.ticker import MaxNLocator

    names = [str(name) for name in setting.choices]
    complete = results.ranking
    _frame(axes, setting.name, "eval_return", [trial.eval_return for trial in complete])
    pruned = [trial for trial in results.trials if trial.state == "pruned"]
    for trials, color, marker in ((pruned, _PRUNED, "x"), (complete, _COMPLETE, "o"), (complete[:1], _BEST, "*")):
        size = 13 if marker == "*" else 5
        for trial in trials:
            if trial.eval_return is not None:
                y = _inside(axes, trial.eval_return)
                axes.plot(_place(trial, setting), y, marker, color=color, ms=size, clip_on=False)
    if names:
        axes.set_xticks(range(len(names)), [printable(name, keep="") for name in names], fontsize=8, parse_math=False)
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif setting.log:
        axes.set_xscale("log")
    elif setting.is_whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _place(trial: TrialResult, setting: Setting) -> float:
    value = trial.values[setting.name]
    return list(setting.choices).index(value) if setting.choices else value


def _inside(axes: Axes, value: float) -> float:
    """Return a value, or the nearer end of the vertical axis: a few poor trials must not flatten the picture."""
    low, high = axes.get_ylim()
    return min(max(value, low), high)


def _frame(axes: Axes, x_label: str, y_label: str, values: Sequence[float | None]) -> None:
    """Label the axes, and fit the vertical axis to most of the values."""
    finite = np.array([value for value in values if value is not None and math.isfinite(value)])
    low, quarter, high = np.quantile(finite, [0.0, 0.25, 1.0])
    if high > quarter:
        low = max(low, quarter - 2 * (high - quarter))
    margin = 0.08 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)
    style: dict[str, Any] = {"color": TEXT, "fontsize": 9}
    axes.set_xlabel(printable(x_label, keep=""), parse_math=False, **style)
    axes.set_ylabel(y_label, **style)
    style_axes(axes, 8)
