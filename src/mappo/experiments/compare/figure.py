"""Figure of a comparison: evaluations during training by group, a panel for each environment."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mappo.errors import UserError
from mappo.evaluation.labels import TEXT, label_right, spread_apart, style_axes
from mappo.evaluation.statistics import Floats, mean_interval
from mappo.experiments.compare.comparison import Comparison, Group, Panel
from mappo.system.files import replace_file, write_errors
from mappo.system.safe_read import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette stays distinct for colour-blind readers; further groups repeat it with dashes.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C6D1F", "#56B4E9", "#7B3294")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))
_BASELINE = "#777777"
_MOST_COLUMNS = 3
# Labels stand beside the lines; more groups, or longer names, get a legend below.
_MOST_LABELS = 8
_LABEL_WIDTH = 18
_SUFFIXES = (".png", ".pdf", ".svg")


def draw_comparison(comparison: Comparison, out: Path) -> None:
    """Draw the figure: for each group the mean over seeds of the evaluations, with its 95 % interval as a band.

    Nothing is smoothed. The mean exists only where all seeds of the group have evaluations.

    Args:
        comparison: result of `compare`.
        out: file to write, PNG, PDF or SVG by its suffix.

    Raises:
        UserError: the suffix is another, or the file cannot be written.
    """
    if out.suffix.lower() not in _SUFFIXES:
        raise UserError(f"the figure {out} must end in {', '.join(_SUFFIXES)}")
    # Imported late: matplotlib writes files of its own, and warns where it cannot.
    from matplotlib.figure import Figure

    panels = [panel for panel in comparison.panels if panel.groups]
    columns = min(len(panels), _MOST_COLUMNS)
    rows = -(-len(panels) // columns)
    width = 8.0 if columns == 1 else 5.0 * columns
    figure = Figure(figsize=(width, 5.0 if columns == 1 else 3.8 * rows), dpi=150, layout="constrained")
    figure.set_facecolor("white")
    names = list(dict.fromkeys(group.name for panel in panels for group in panel.groups))
    styles = {name: (_COLORS[k % 7], _DASHES[k // 7 % 3]) for k, name in enumerate(sorted(names))}
    has_legend = len(names) > _MOST_LABELS or max(map(len, names)) > 3 * _LABEL_WIDTH
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        _draw_panel(axes, panel, styles, not has_legend)
    if has_legend:
        place: dict[str, Any] = {"loc": "outside lower left", "fontsize": 8, "frameon": False, "labelcolor": TEXT}
        handles, labels = _legend_entries(figure.axes)
        legend = figure.legend(handles, labels, ncols=max(1, int(width * 12 / (max(map(len, labels)) + 6))), **place)
        for text in legend.get_texts():
            text.set_parse_math(False)
    with write_errors(out):
        replace_file(out, lambda temporary: figure.savefig(temporary, format=out.suffix[1:].lower()))


def _legend_entries(all_axes: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Return a line and a label for each group of all panels."""
    found: dict[str, Any] = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def _draw_panel(axes: Axes, panel: Panel, styles: Mapping[str, tuple[str, Any]], has_labels: bool) -> None:
    """Draw the curves of an environment."""
    last = max(float(s.record.eval_steps[-1]) for g in panel.groups for s in g.scores if len(s.record.eval_steps))
    unit, unit_name = (1e6, "millions") if last >= 1e6 else (1e3, "thousands")
    ends: dict[str, float] = {}
    edges: list[float] = []
    for group in panel.groups:
        color, dashes = styles[group.name]
        steps, means, band = curve_of(group)
        if band is not None:
            limits = axes.dataLim.frozen()
            axes.fill_between(steps / unit, band[0], band[1], color=color, alpha=0.16, lw=0)
            axes.dataLim.set(limits)
            edges += [float(band.min()), float(band.max())]
        is_point = len(steps) == 1  # at the edge of the axes, so it must not be clipped
        if is_point and band is not None:
            axes.vlines(steps / unit, band[0], band[1], color=color, alpha=0.4, lw=4, clip_on=False)
        point: dict[str, Any] = {"marker": "o", "ms": 5, "clip_on": False} if is_point else {}
        label = printable(group.name, keep="")
        label = f" {label}" if label.startswith("_") else label  # matplotlib hides lines named _...
        axes.plot(steps / unit, means, color=color, ls=dashes, lw=1.8, label=label, zorder=3, **point)
        if len(means):
            ends[group.name] = float(means[-1])
    axes.autoscale_view()
    low, high = axes.get_ylim()
    # The very wide band of two or three seeds must not flatten the curves.
    axes.set_ylim(max([2 * low - high, min([low, *edges])]), min([2 * high - low, max([high, *edges])]))
    _draw_baselines(axes, panel)
    if has_labels:
        _draw_labels(axes, ends, styles)
    axes.set_xlim(0.0, last / unit)
    _draw_frame(axes, panel, f"Environment steps ({unit_name})")


def curve_of(group: Group) -> tuple[Floats, Floats, Floats | None]:
    """Return steps `(N,)`, means over seeds `(N,)` and their 95 % interval `(2, N)`, None for a single seed.

    Seeds with evaluations at other steps are interpolated; steps that not all seeds reach are left out.
    """
    records = [score.record for score in group.scores if len(score.record.eval_steps)]
    if not records:
        return np.zeros(0), np.zeros(0), None
    steps = np.unique(np.concatenate([record.eval_steps for record in records]))
    low = max(record.eval_steps[0] for record in records)
    high = min(record.eval_steps[-1] for record in records)
    steps = steps[(steps >= low) & (steps <= high)]
    stack = np.stack([np.interp(steps, record.eval_steps, record.eval_returns) for record in records])  # (S, N)
    return steps, stack.mean(0), mean_interval(stack) if len(stack) > 1 and len(steps) else None


def _draw_labels(axes: Axes, ends: Mapping[str, float], styles: Mapping[str, tuple[str, Any]]) -> None:
    """Write the name of each group beside the end of its line."""
    low, high = axes.get_ylim()
    texts = {name: textwrap.fill(printable(name, keep=""), _LABEL_WIDTH) for name in ends}
    lines = max((text.count("\n") + 1 for text in texts.values()), default=1)
    heights = spread_apart(ends, (high - low) * 0.052 * lines, high)
    for name, height in heights.items():
        label_right(axes, texts[name], height, styles[name][0])


def _draw_baselines(axes: Axes, panel: Panel) -> None:
    """Draw the baselines near the curves as dashed lines with their names; far baselines would flatten the curves."""
    low, high = axes.get_ylim()
    margin = 0.5 * (high - low)
    means = {name: found["mean"] for name, found in panel.baselines.items()}
    near = {name: mean for name, mean in means.items() if low - margin <= mean <= high + margin}
    low = min([low, *(mean - 0.1 * margin for mean in near.values())])
    high = max([high, *(mean + 0.2 * margin for mean in near.values())])
    axes.set_ylim(low, high)
    for name, mean in near.items():
        axes.axhline(mean, color=_BASELINE, lw=0.9, ls=(0, (4, 3)), zorder=1)
        axes.annotate(
            printable(name, keep=""),
            (1.0, mean),
            xytext=(-3, 2),
            textcoords="offset points",
            xycoords=axes.get_yaxis_transform(),
            ha="right",
            color=_BASELINE,
            size=8,
            parse_math=False,
        )


def _draw_frame(axes: Axes, panel: Panel, x_label: str) -> None:
    """Draw title, labels and grid."""
    axes.set_title(printable(panel.env, keep=""), loc="left", weight="bold", size=11, color="black", parse_math=False)
    counts = sorted({len(group.scores) for group in panel.groups})
    seeds = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seeds"
    note = "a single seed" if counts == [1] else f"mean and 95 % interval, {seeds}"
    axes.set_title(note, loc="right", color=TEXT, size=8)
    axes.set_xlabel(x_label, color=TEXT, size=9)
    policies = {score.record.policy for group in panel.groups for score in group.scores}
    kind = policies.pop().capitalize() + " evaluation" if len(policies) == 1 else "Evaluation"
    axes.set_ylabel(f"{kind}, team return", color=TEXT, size=9)
    style_axes(axes, 8)
