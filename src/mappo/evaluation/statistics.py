"""Means and interquartile means with their confidence intervals, over episodes or over seeds. Loads no torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# 97.5 % quantiles of Student's t with 1 to 18 degrees of freedom.
STUDENT = (
    *(12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157),
    *(2.228139, 2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922),
)
# Fewest seeds for a bootstrap interval of an interquartile mean; of fewer seeds the interval is too narrow.
FEWEST_SEEDS = 10
RESAMPLES = 2000


def mean_interval(values: Floats) -> Floats:
    """Return the 95 % interval of the mean over the first axis, low and high `(2, ...)`; NaN for a single value.

    Below 20 values the interval is Student's t. The percentile bootstrap of few values is too narrow: instead of 95 %
    it covers 50, 77, 83 and 90 % for 2, 3, 5 and 10 values.
    """
    count = len(values)
    mean = values.mean(0)
    if count == 1:
        return np.stack([mean, mean]) * np.nan
    if count <= len(STUDENT) + 1:
        half = STUDENT[count - 2] * values.std(0, ddof=1) / np.sqrt(count)
        return np.stack([mean - half, mean + half])
    rng = np.random.default_rng(0)
    means = np.stack([rng.choice(values, count).mean(0) for _ in range(RESAMPLES)])
    return np.quantile(means, [0.025, 0.975], axis=0)


def summarize(values: Floats) -> dict[str, Any]:
    """Return mean, interquartile mean and the 95 % interval of the mean (None for a single value) of values `(N,)`."""
    interval = mean_interval(values).tolist() if len(values) > 1 else None
    return {"mean": float(values.mean()), "iqm": float(_interquartile_mean(values)), "ci95": interval}


def summarize_seeds(means: Floats) -> dict[str, Any]:
    """Summarize the means `(S,)` of several seeds, with the bootstrap interval of their interquartile mean.

    The interval is that of rliable (arXiv:2108.13264) for a single task: it resamples seeds.
    """
    resampled = np.random.default_rng(0).integers(len(means), size=(RESAMPLES, len(means)))
    interval = np.quantile(_interquartile_mean(means[resampled]), [0.025, 0.975])
    return summarize(means) | {
        "iqm_ci95": interval.tolist(),
        "iqm_ci95_too_narrow": len(means) < FEWEST_SEEDS,
    }


def _interquartile_mean(values: Floats) -> Floats:
    """Return the mean of the middle half over the last axis."""
    quarter = values.shape[-1] // 4
    return np.sort(values)[..., quarter : values.shape[-1] - quarter].mean(-1)


def summarize_policies(returns: Floats) -> dict[str, Any]:
    """Summarize returns `(S, N)` over the episodes of a single policy, or over the means of several policies."""
    return summarize(returns[0]) if len(returns) == 1 else summarize_seeds(returns.mean(1))
