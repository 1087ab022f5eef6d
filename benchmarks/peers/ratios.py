"""Statistics of paired measurements."""

import statistics
from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of the values and its 95 % percentile bootstrap interval, low and high."""
    array = np.asarray(values)
    picks = np.random.default_rng(0).integers(len(array), size=(RESAMPLES, len(array)))
    low, high = np.quantile(np.median(array[picks], axis=1), [0.025, 0.975])
    return statistics.median(values), float(low), float(high)


def paired_ratio(theirs: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of the ratios `theirs / ours` of the rounds, with its interval.

    Raises:
        ValueError: the numbers of rounds differ.
    """
    return median_interval([x / y for x, y in zip(theirs, ours, strict=True)])
