"""Lines of charts: the columns of metrics.csv, thinned, with the mean over seeds and its interval."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mappo.evaluation.series import EVALUATION, RETURN, Seeds, mean_over_seeds, read_series
from mappo.evaluation.statistics import Floats
from mappo.experiments.compare.record import MAX_STEP
from mappo.experiments.report.content import line, rounded
from mappo.runs.scores import MAX_RETURN

MAX_POINTS = 500  # of a line; a point of a longer series is the mean over neighbouring updates
MAX_METRICS = 60
MAX_METRICS_CSV = 1 << 26  # bytes of all seeds; of larger files only the returns are read


def read_metrics(tables: Sequence[Path]) -> tuple[dict[str, Seeds], str]:
    """Return the columns of metrics.csv by name, and a note; of huge files the returns alone."""
    tables = [table for table in tables if table.exists()]
    is_huge = sum(table.stat().st_size for table in tables) > MAX_METRICS_CSV
    series = read_series(tables, [RETURN, EVALUATION] if is_huge else None)
    return _clean(series), "metrics.csv is very long: its other columns are left out." if is_huge else ""


def _clean(series: Mapping[str, Seeds]) -> dict[str, Seeds]:
    """Return the series without numbers that are not finite, or too large for sums; empty series are left out."""
    found: dict[str, Seeds] = {}
    for name, seeds in [*series.items()][:MAX_METRICS]:
        good = [(np.abs(values) <= MAX_RETURN) & (steps >= 0) & (steps <= MAX_STEP) for steps, values in seeds]
        found_seeds = [(steps[k], values[k]) for (steps, values), k in zip(seeds, good, strict=True) if k.any()]
        if found_seeds:
            found[name] = found_seeds
    return found


def thin(steps: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return at most `MAX_POINTS` points: each is the mean over as many neighbouring points."""
    size = -(-len(steps) // MAX_POINTS)
    if size <= 1:
        return steps, values
    starts = np.arange(0, len(steps), size)
    counts = np.diff(starts, append=len(steps))
    return np.add.reduceat(steps, starts) / counts, np.add.reduceat(values, starts) / counts


def mean_line(name: str, style: str, color: int, seeds: Seeds) -> dict[str, Any]:
    """Return the mean over seeds as a line of a chart, with its 95 % interval as a band."""
    steps, mean, band = mean_over_seeds(seeds)
    x, y = thin(steps, mean)
    if band is None:
        return line(name, style, color, np.round(x), y)
    low, high = (thin(steps, edge)[1] for edge in band)
    return line(name, style, color, np.round(x), y, low=rounded(low), high=rounded(high))


def level(name: str, color: int, score: Mapping[str, Any]) -> dict[str, Any]:
    """Return a baseline as a line of a chart."""
    edges = {} if score["ci95"] is None else dict(zip(("low", "high"), ([x] for x in score["ci95"]), strict=True))
    return line(name, "level", color, [], [score["mean"]], dash=1, **edges)


def thinned_note(seeds: Seeds) -> list[str]:
    """Return a note for lines with fewer points than updates."""
    size = max((math.ceil(len(values) / MAX_POINTS) for _, values in seeds), default=1)
    return [f"A point of a long line is the mean over {size:,} updates."] if size > 1 else []
