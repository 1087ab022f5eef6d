"""Figure of a comparison: evaluations during training by group, a panel for each environment."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mappo.errors import UserError
from mappo.evaluation.labels import TEXT, label_right, spread_apart, style_axes
from mappo.evaluation.number_format import format_return
from mappo.evaluation.statistics import Floats, mean_interval
from mappo.experiments.compare.comparison import Comparison, Group, Panel
from mappo.system.files import replace_file, write_errors
from mappo.system.safe_read import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette stays distinct for colour-blind readers; further groups repeat it with dashes.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C6D1F", "#56B4E9", "#7B3294")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))
_BASELINE = "#777777"
_MOST_COLUMNS = 3
# Labels stand beside the lines; more groups, or longer names, get a legend below.
_MOST_LABELS = 8
_MOST_LABEL_LINES = 16
_LABEL_WIDTH = 18
# Part of a panel's height that a line of text takes.
_LINE_HEIGHT = 0.052
# Characters of a title in an inch of the panel.
_TITLE_CHARACTERS = 7.5
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
    figure = make_figure(comparison)
    with write_errors(out):
        replace_file(out, lambda temporary: figure.savefig(temporary, format=out.suffix[1:].lower()))


def make_figure(comparison: Comparison) -> Figure:
    """Return the figure of a comparison, see `draw_comparison`."""
    # Imported late: matplotlib writes files of its own, and warns where it cannot.
    from matplotlib.figure import Figure

    panels = [panel for panel in comparison.panels if panel.groups]
    columns = 2 if len(panels) == 4 else min(len(panels), _MOST_COLUMNS)
    rows = -(-len(panels) // columns)
    width = 8.0 if columns == 1 else 5.0 * columns
    figure = Figure(figsize=(width, 5.0 if columns == 1 else 3.8 * rows), dpi=150, layout="constrained")
    figure.set_facecolor("white")
    names = list(dict.fromkeys(group.name for panel in panels for group in panel.groups))
    styles = {name: (_COLORS[k % 7], _DASHES[k // 7 % 3]) for k, name in enumerate(sorted(names))}
    has_legend = not _fit_beside(names)
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        is_cut = _draw_panel(axes, panel, styles, not has_legend)
        _draw_title(axes, panel, int(width / columns * _TITLE_CHARACTERS), is_cut)
    if has_legend:
        place: dict[str, Any] = {"loc": "outside lower left", "fontsize": 8, "frameon": False, "labelcolor": TEXT}
        handles, labels = _legend_entries(figure.axes)
        legend = figure.legend(handles, labels, ncols=max(1, int(width * 12 / (max(map(len, labels)) + 6))), **place)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _fit_beside(names: Sequence[str]) -> bool:
    """Return whether the names of the groups fit beside the lines, each in at most three lines of text."""
    lines = -(-max(map(len, names)) // _LABEL_WIDTH)
    return len(names) <= _MOST_LABELS and lines <= 3 and len(names) * lines <= _MOST_LABEL_LINES


def _legend_entries(all_axes: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Return a line and a label for each group of all panels."""
    found: dict[str, Any] = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def _draw_panel(axes: Axes, panel: Panel, styles: Mapping[str, tuple[str, Any]], has_labels: bool) -> bool:
    """Draw the curves of an environment; return whether a band is cut at an edge of the axes."""
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
    _make_room(axes, edges)
    _draw_baselines(axes, panel, list(ends.values()))
    if has_labels:
        _draw_labels(axes, ends, styles)
    axes.set_xlim(0.0, last / unit)
    axes.set_xlabel(f"Environment steps ({unit_name})", color=TEXT, size=9)
    axes.set_ylabel(f"{panel.policy.capitalize()} evaluation, team return", color=TEXT, size=9)
    style_axes(axes, 8)
    low, high = axes.get_ylim()
    return any(not low <= edge <= high for edge in edges)


def _make_room(axes: Axes, edges: Sequence[float]) -> None:
    """Extend the vertical axis to the edges of the bands, but not of a very wide band: it would flatten the curves."""
    low, high = axes.get_ylim()
    height = high - low
    margin = 0.04 * height
    lowest = min([low, *(edge - margin for edge in edges)])
    highest = max([high, *(edge + margin for edge in edges)])
    axes.set_ylim(max(lowest, low - height), min(highest, high + height))


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
    heights = spread_apart(ends, (high - low) * _LINE_HEIGHT * lines, high)
    for name, height in heights.items():
        label_right(axes, texts[name], height, styles[name][0])


def _draw_baselines(axes: Axes, panel: Panel, ends: Sequence[float]) -> None:
    """Draw the baselines near the curves as dashed lines with their names.

    A far baseline would flatten the curves: its name and mean stand at the edge of the axes, with an arrow. A name goes
    below its line where a curve ends just above.
    """
    low, high = axes.get_ylim()
    margin = 0.5 * (high - low)
    means = {name: found["mean"] for name, found in panel.baselines.items()}
    near = {name: mean for name, mean in means.items() if low - margin <= mean <= high + margin}
    above = {name: mean for name, mean in means.items() if mean > high + margin}
    below = {name: mean for name, mean in means.items() if mean < low - margin}
    low = min([low, *(mean - 0.1 * margin for mean in near.values())])
    high = max([high, *(mean + 0.2 * margin for mean in near.values())])
    gap = _LINE_HEIGHT * (high - low)
    for mean in near.values():
        axes.axhline(mean, color=_BASELINE, lw=0.9, ls=(0, (4, 3)), zorder=1)
    is_below = {name: any(0 <= end - mean < 1.5 * gap for end in ends) for name, mean in near.items()}
    wanted = {name: mean - gap * is_below[name] for name, mean in near.items()}
    places = spread_apart(wanted, gap, high - gap)
    # Far names need an edge without lines and near names.
    low -= gap * len(below)
    high += gap * len(above)
    axes.set_ylim(low, high)
    for index, (name, mean) in enumerate(sorted(below.items(), key=lambda item: item[1])):
        places[f"{name} {format_return(mean)} \N{DOWNWARDS ARROW}"] = low + gap * index
    for index, (name, mean) in enumerate(sorted(above.items(), key=lambda item: -item[1])):
        places[f"{name} {format_return(mean)} \N{UPWARDS ARROW}"] = high - gap * (index + 1)
    for text, height in places.items():
        _name_baseline(axes, text, height)


def _name_baseline(axes: Axes, text: str, height: float) -> None:
    """Write the name of a baseline above a height, at the right end of the axes, readable over curves."""
    from matplotlib.patheffects import withStroke

    stroke = withStroke(linewidth=2, foreground="white")
    style: dict[str, Any] = {"xytext": (-3, 2), "ha": "right", "va": "baseline", "size": 8, "zorder": 4}
    label_right(axes, printable(text, keep=""), height, _BASELINE, path_effects=[stroke], **style)


def _draw_title(axes: Axes, panel: Panel, width: int, is_cut: bool) -> None:
    """Write the name of the environment above the axes, in lines of `width` characters, and below it the seeds."""
    title = textwrap.fill(printable(panel.env, keep=""), width)
    axes.set_title(title, loc="left", pad=18, weight="bold", size=11, color="black", parse_math=False)
    note = "a single seed" if panel.num_seeds == "1" else f"mean and 95 % interval, {panel.num_seeds} seeds"
    note += "; wide intervals are cut" * is_cut
    axes.annotate(note, (0, 1), xytext=(0, 6), xycoords="axes fraction", textcoords="offset points", color=TEXT, size=8)
