"""Pictures of a run: its learning curve and animations of its episodes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mappo.errors import UserError
from mappo.system.files import replace_file
from mappo.system.safe_read import printable, read_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Seeds = list[tuple[Floats, Floats]]

# Okabe and Ito's palette, which stays distinct for colour-blind readers.
_SAMPLED, _GREEDY = "#56B4E9", "#D55E00"
_BASELINES = ["#4D4D4D", "#009E73", "#CC79A7", "#E69F00", "#8C6D1F"]
_TEXT, _GRID = "#333333", "#E3E3E3"


def plot_curve(
    run: Path,
    baselines: Mapping[str, float],
    out: Path | None = None,
    *,
    title: str | None = None,
    tables: Sequence[Path] = (),
) -> Path:
    """Draw the learning curve in `run/metrics.csv` as a PNG of 1200 x 750 pixels and return its path.

    `baselines` maps names to returns (sum over agents). `out` defaults to `run/curve.png`, `title` to the folder's
    name, `tables` to `run/metrics.csv` alone. Of several seeds the mean is shown, and its 95 % bootstrap interval.
    `ValueError` if columns are missing.
    """
    sampled, greedy = _read(tables or [run / "metrics.csv"])
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # late: it writes files of its own, and says so where it cannot

    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    last = max((float(steps[-1]) for steps, _ in sampled + greedy), default=0.0)
    unit, unit_name = (1e6, "millions") if last >= 1e5 else (1e3, "thousands")

    for place, (steps, values) in enumerate(sampled):
        label = "" if place else "Sampled"  # an empty label stays out of the legend
        axes.plot(steps / unit, values, color=_SAMPLED, alpha=0.5, lw=0.7, label=label)
    _draw_mean(axes, [(s, _smooth(v)) for s, v in sampled], unit, "Sampled, smoothed", "#0072B2", "")
    _draw_mean(axes, greedy, unit, "Greedy evaluation", _GREEDY, "o")
    if not sampled and not greedy:
        axes.text(0.5, 0.5, "no finished episodes yet", transform=axes.transAxes, ha="center", color=_TEXT)
    axes.set_xlim(0.0, last / unit or 1.0)
    _draw_baselines(axes, {name: value for name, value in baselines.items() if math.isfinite(value)})

    named = printable(run.resolve().name if title is None else title, keep="")
    axes.set_title(named, loc="left", pad=32, weight="bold", size=13, parse_math=False)
    if max(len(sampled), len(greedy)) > 1:
        axes.set_title(
            f"mean and 95 % interval of {max(len(sampled), len(greedy))} seeds",
            loc="right",
            pad=32,
            color=_TEXT,
            size=9,
        )
    axes.set_xlabel(f"Environment steps ({unit_name})", color=_TEXT)
    axes.set_ylabel("Team return", color=_TEXT)
    axes.grid(color=_GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_TEXT, length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#BBBBBB")
    if axes.get_legend_handles_labels()[0]:
        # Above the axes it covers no curve, wherever that runs.
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=4, frameon=False, labelcolor=_TEXT)

    out = run / "curve.png" if out is None else out
    replace_file(out, lambda part: canvas.print_png(part))
    return out


def _read(paths: Sequence[Path]) -> tuple[Seeds, Seeds]:
    """Steps and values per seed, of the sampled returns and of the greedy evaluations, NaN left out."""
    names = ["seed", "step", "return_sum", "eval_return"]
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for path in paths:
        text = read_text(path)
        # A run may be writing its last line just now.
        rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
        if missing := [name for name in names if name not in (rows.fieldnames or names)]:
            raise ValueError(f"{path} lacks the columns {', '.join(missing)}")
        try:
            for row in rows:
                for name in names[2:]:
                    if row[name]:
                        points.setdefault((name, row["seed"]), []).append((float(row["step"]), float(row[name])))
        except (ValueError, csv.Error) as error:
            raise UserError(f"{path} is damaged: {error}") from None

    def seeds(wanted: str) -> Seeds:
        series = [np.array(sorted(values)).T for (name, _), values in points.items() if name == wanted]
        return [(steps, values) for steps, values in series]

    return seeds("return_sum"), seeds("eval_return")


def _smooth(values: Floats) -> Floats:
    """Centred moving average over about a thirtieth of the curve, over what there is at its ends."""
    half = len(values) // 60
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    start, stop = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return (sums[stop] - sums[start]) / (stop - start)


def _draw_mean(axes: Axes, seeds: Seeds, unit: float, label: str, color: str, marker: str) -> None:
    """Line of the mean over seeds, with a band that is its 95 % bootstrap interval."""
    if not seeds:
        return
    # Seeds may have been measured at different steps; the mean is drawn where all of them have values.
    steps = np.unique(np.concatenate([steps for steps, _ in seeds]))
    stack = np.stack([np.interp(steps, s, v, left=math.nan, right=math.nan) for s, v in seeds])
    if len(seeds) > 1:
        drawn = np.random.default_rng(0).integers(len(stack), size=(1000, len(stack)))
        low, high = np.quantile(stack[drawn].mean(1), [0.025, 0.975], axis=0)
        axes.fill_between(steps / unit, low, high, color=color, alpha=0.15, lw=0)
    marker = marker or ("o" if len(steps) == 1 else "")
    axes.plot(steps / unit, stack.mean(axis=0), color=color, lw=1.8, marker=marker, ms=4, label=label, clip_on=False)


def _draw_baselines(axes: Axes, baselines: Mapping[str, float]) -> None:
    """Dashed lines, each with its name and value at the right end."""
    for color, value in zip(_BASELINES * len(baselines), baselines.values(), strict=False):
        axes.axhline(value, color=color, lw=1.2, ls=(0, (5, 3)))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    # Labels of close lines are moved apart: two lines of text need about a twelfth of the height.
    gap, floor = (high - low) / 12, -math.inf
    places: dict[str, float] = {}
    for name in sorted(baselines, key=lambda name: baselines[name]):
        places[name] = floor = max(baselines[name], floor + gap)
    ceiling = high
    for name in reversed(places):
        places[name] = min(places[name], ceiling)
        ceiling = places[name] - gap
    for color, (name, value) in zip(_BASELINES * len(baselines), baselines.items(), strict=False):
        axes.annotate(
            f"{printable(name, keep='')}\n{value:,.1f}".replace("-", "−"),
            (1.0, places[name]),
            xytext=(6, 0),
            textcoords="offset points",
            xycoords=axes.get_yaxis_transform(),
            va="center",
            color=color,
            size=9,
            annotation_clip=False,
            parse_math=False,
        )
