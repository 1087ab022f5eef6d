"""Series of numbers over environment steps, from the `metrics.csv` of each seed: read, smoothed, averaged. No torch."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mappo.evaluation.statistics import Floats, mean_interval
from mappo.runs.csv_table import read_table

# For each seed: steps `(N,)` and values `(N,)`.
Seeds = list[tuple[Floats, Floats]]

# A smoothed curve averages over windows of a thirtieth of the curve.
_WINDOWS = 30
# The window has this many points on each side at least, and curves of fewer points in all are not smoothed.
_LEAST_HALF = 3
FEWEST_SMOOTHED = 10
RETURN = "return_sum"
EVALUATION = "eval_return"


def read_returns(paths: Sequence[Path]) -> tuple[Seeds, Seeds]:
    """Return the series of the returns in training and of the evaluations, see `read_series`."""
    found = read_series(paths, [RETURN, EVALUATION])
    return found[RETURN], found[EVALUATION]


def read_series(paths: Sequence[Path], names: Sequence[str] | None = None) -> dict[str, Seeds]:
    """Return steps and values of each seed, without NaN and empty cells, by the names of columns.

    Args:
        paths: `metrics.csv` of each seed.
        names: the columns; by default all of the first file.

    Raises:
        UserError: a file is damaged, or lacks columns.
    """
    found: dict[str, Seeds] = {name: [] for name in names or ()}
    for path in paths:
        table = read_table(path, None if names is None else ["seed", "step", *names], ["return_latest"])
        if RETURN in table:  # no episode may have ended in the update
            table[RETURN] = np.where(np.isnan(table[RETURN]), table["return_latest"], table[RETURN])
        for seed in np.unique(table.get("seed", ())):
            for name in names or [name for name in table if name not in ("seed", "update", "step")]:
                is_measured = (table["seed"] == seed) & ~np.isnan(table[name])
                if is_measured.any():
                    found.setdefault(name, []).append((table["step"][is_measured], table[name][is_measured]))
    return found


def smooth(values: Floats) -> Floats:
    """Return a line fitted within a window of about a thirtieth of the curve, for each point; short curves unchanged.

    In the middle of a curve this is the moving average. At its ends the window holds points on one side alone: their
    average would lie far from a curve that rises.
    """
    if len(values) < FEWEST_SMOOTHED:
        return values
    half = max(_LEAST_HALF, len(values) // (2 * _WINDOWS))
    positions = np.arange(len(values), dtype=float)
    start = np.maximum(positions - half, 0).astype(int)
    stop = np.minimum(positions + half + 1, len(values)).astype(int)

    def window_means(x: Floats) -> Floats:
        sums = np.concatenate([[0.0], np.cumsum(x)])
        return (sums[stop] - sums[start]) / (stop - start)

    center = window_means(positions)
    mean = window_means(values)
    variance = window_means(positions**2) - center**2
    slope = (window_means(positions * values) - center * mean) / np.maximum(variance, 1e-9)
    return mean + slope * (positions - center)


def mean_over_seeds(seeds: Seeds) -> tuple[Floats, Floats, Floats | None]:
    """Return steps `(N,)`, means over seeds `(N,)` and their 95 % interval `(2, N)`, None for a single seed.

    Seeds may have been measured at different steps. They are interpolated, and the mean is NaN where not all seeds have
    values.
    """
    steps = np.unique(np.concatenate([steps for steps, _ in seeds]))
    stack = np.stack([np.interp(steps, s, v, left=math.nan, right=math.nan) for s, v in seeds])  # (S, N)
    return steps, stack.mean(0), mean_interval(stack) if len(seeds) > 1 else None
