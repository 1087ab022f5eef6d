"""Learning curve of a run as a PNG, drawn from its `metrics.csv` at the end of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mappo.evaluation.labels import TEXT, label_right, spread_apart, style_axes
from mappo.evaluation.number_format import return_format
from mappo.evaluation.series import FEWEST_SMOOTHED, Seeds, mean_over_seeds, read_returns, smooth
from mappo.system.files import replace_file
from mappo.system.safe_read import printable
from mappo.system.stdio import fold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette stays distinct for colour-blind readers.
_TRAINING = "#56B4E9"
_SMOOTHED = "#0072B2"
_EVALUATION = "#D55E00"
_AT_END = "#7B3294"
_TITLE_WIDTH = 60  # characters of a line
_BASELINES = ["#4D4D4D", "#009E73", "#CC79A7", "#E69F00", "#8C6D1F"]


def plot_curve(
    run: Path,
    baselines: Mapping[str, float],
    out: Path | None = None,
    *,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    title: str | None = None,
    footer: str = "",
    tables: Sequence[Path] = (),
    policy: str = "greedy",
    at_end: float = math.nan,
) -> Path:
    """Draw the learning curve of a run as a PNG of 1200 x 750 pixels; return the file.

    Several seeds are shown as their mean and its 95 % interval (see `mean_interval`).

    Args:
        run: run directory.
        baselines: returns of baselines by name, summed over agents.
        out: file to write, by default `run/curve.png`.
        intervals: 95 % interval of baselines by name, low and high.
        title: by default the name of the run directory.
        footer: small lines below the curve, such as the settings.
        tables: `metrics.csv` of each seed, by default `run/metrics.csv` alone.
        policy: policy of the evaluations, greedy or sampled.
        at_end: mean return of the other policy at the end of the run.

    Raises:
        UserError: a table is damaged, or lacks columns.
    """
    training, evaluation = read_returns(tables or [run / "metrics.csv"])
    # Imported late: matplotlib writes files of its own, and warns where it cannot.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_seeds(axes, training, evaluation, policy, at_end)
    known = {name: value for name, value in baselines.items() if math.isfinite(value)}
    _draw_baselines(axes, known, intervals or {})
    _draw_footer(figure, footer)
    _draw_frame(axes, run.resolve().name if title is None else title, max(len(training), len(evaluation)))
    out = run / "curve.png" if out is None else out
    replace_file(out, lambda temporary: canvas.print_png(temporary))
    return out


def _draw_seeds(axes: Axes, training: Seeds, evaluation: Seeds, policy: str, at_end: float) -> None:
    """Draw returns in training, their smoothed mean and the evaluations over environment steps."""
    last = max((float(steps[-1]) for steps, _ in training + evaluation), default=0.0)
    unit, unit_name = (1e6, "millions") if last >= 1e5 else (1e3, "thousands")
    names = ["Training (sampled)", "Training, smoothed"]
    if all(len(values) < FEWEST_SMOOTHED for _, values in training):
        names = ["", names[0]]  # nothing is smoothed; an empty label is not listed in the legend
    for index, (steps, values) in enumerate(training):
        label = "" if index else names[0]
        axes.plot(steps / unit, values, color=_TRAINING, alpha=0.5, lw=0.7, label=label)
    smoothed = [(steps, smooth(values)) for steps, values in training]
    _draw_mean(axes, smoothed, unit, names[1], _SMOOTHED, "")
    _draw_mean(axes, evaluation, unit, f"{policy.capitalize()} evaluation", _EVALUATION, "o")
    if math.isfinite(at_end):
        label = "Greedy at the end" if policy == "sampled" else "Sampled at the end"
        # An open marker hides neither the last evaluation nor a baseline.
        marker: dict[str, Any] = {"marker": "D", "ms": 9, "mew": 1.8, "mfc": "none", "ls": ""}
        axes.plot(last / unit, at_end, color=_AT_END, label=label, clip_on=False, zorder=3, **marker)
    if not training and not evaluation:
        axes.text(0.5, 0.5, "no finished episodes yet", transform=axes.transAxes, ha="center", color=TEXT)
    axes.set_xlim(0.0, last / unit or 1.0)
    axes.set_xlabel(f"Environment steps ({unit_name})", color=TEXT)


def _draw_frame(axes: Axes, title: str, num_seeds: int) -> None:
    """Draw title, labels, grid and legend."""
    text = fold(printable(title, keep=""), _TITLE_WIDTH)
    axes.set_title(text, loc="left", pad=32, weight="bold", size=13, parse_math=False)
    seeds = f", mean and 95 % interval of {num_seeds} seeds" if num_seeds > 1 else ""
    axes.set_ylabel(f"Team return{seeds}", color=TEXT, size=9 if seeds else 10)
    style_axes(axes)
    if axes.get_legend_handles_labels()[0]:
        # Above the axes the legend covers no curve.
        place: dict[str, Any] = {
            "loc": "lower left",
            "bbox_to_anchor": (-0.01, 1.0),
            "ncols": 4,
            "columnspacing": 1.4,
            "fontsize": 9,
        }
        # Out of the layout: the legend is wider than the axes, which would shrink for it.
        axes.legend(**place, frameon=False, labelcolor=TEXT).set_in_layout(False)


def _draw_mean(axes: Axes, seeds: Seeds, unit: float, label: str, color: str, marker: str) -> None:
    """Draw the mean over seeds as a line, with its 95 % interval as a band."""
    if not seeds:
        return
    steps, mean, band = mean_over_seeds(seeds)
    if band is not None:
        low, high = band
        limits = axes.dataLim.frozen()
        axes.fill_between(steps / unit, low, high, color=color, alpha=0.22, lw=0)
        for edge in (low, high):
            axes.plot(steps / unit, edge, color=color, lw=0.8, alpha=0.6)
        axes.dataLim.set(limits)  # the wide band of two or three seeds must not flatten the curves
    marker = marker or ("o" if len(steps) == 1 else "")
    axes.plot(steps / unit, mean, color=color, lw=1.8, marker=marker, ms=4, label=label, clip_on=False)


def _draw_footer(figure: Figure, footer: str) -> None:
    """Write small lines below the axes, wrapped to the width of the picture."""
    rows = fold(printable(footer, keep="\n"), 150).split("\n") if footer else []
    if rows:
        height = 0.022 * len(rows) + 0.01
        cast("Any", figure.get_layout_engine()).set(rect=(0.0, height, 1.0, 1.0 - height))
        figure.text(0.01, 0.012, "\n".join(rows), size=7, color="#777777", va="bottom", parse_math=False)


def _draw_baselines(axes: Axes, baselines: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> None:
    """Draw each baseline as a dashed line within its interval, with name and value at its right end."""
    for color, (name, value) in zip(_BASELINES * len(baselines), baselines.items(), strict=False):
        axes.axhline(value, color=color, lw=1.2, ls=(0, (5, 3)))
        low, high = intervals.get(name, (math.nan, math.nan))
        if low < high:
            axes.axhspan(low, high, color=color, alpha=0.12, lw=0)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    # Labels of close lines are moved apart: two lines of text need about a twelfth of the height.
    heights = spread_apart(baselines, (high - low) / 12, high)
    for color, (name, value) in zip(_BASELINES * len(baselines), baselines.items(), strict=False):
        number = return_format(value)
        low, high = intervals.get(name, (math.nan, math.nan))
        width = f" ± {(high - low) / 2:{number}}" if low < high else ""
        text = f"{printable(name, keep='')}\n{value:{number}}{width}".replace("-", "−")
        label_right(axes, text, heights[name], color)
