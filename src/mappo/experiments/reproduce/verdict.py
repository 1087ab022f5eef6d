"""The verdict on repeated trainings: their returns beside the published returns. Loads no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mappo.evaluation.statistics import mean_interval, student_quantile

Interval = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """Repeated and published returns, and their comparison in a word.

    Args:
        word: `as published`, `within`, `better`, `worse`, or `first` where fewer than two returns are published.
        mean: mean of the repeated returns.
        interval: 95 % interval of this mean over seeds, by Student's t; None for a single seed.
        published: mean of the published returns; None if there are none.
        published_interval: the interval of this mean; None for fewer than two seeds.
        band: 95 % prediction interval for the mean of as many new seeds as were repeated, by the published returns.
    """

    word: str
    mean: float
    interval: Interval | None
    published: float | None
    published_interval: Interval | None
    band: Interval | None

    @property
    def meaning(self) -> str:
        """Return the meaning of the word for the user."""
        return _MEANINGS[self.word]


_MEANINGS = {
    "as published": "the mean lies in the band that the published seeds predict, and the 95 % intervals overlap",
    "within": "the mean lies outside the band that the published seeds predict, but the 95 % intervals overlap",
    "better": "the 95 % intervals are disjoint, and the mean is higher",
    "worse": "the 95 % intervals are disjoint, and the mean is lower",
    "first": "there are no published returns of two or more seeds to compare with",
}


def judge(returns: Sequence[float], published: Sequence[float]) -> Verdict:
    """Compare the returns of repeated trainings with published returns, a mean return for each seed.

    The 95 % intervals of both means decide first: disjoint intervals are `better` or `worse`. The band decides
    between the others: with n published and N repeated seeds it is mean ± t s sqrt(1/n + 1/N), for the standard
    deviation s of the published seeds and the 97.5 % quantile t of Student's t with n - 1 degrees of freedom. A single
    repeated seed has no interval; the band stands for the published interval.
    """
    new = np.array(returns, dtype=float)
    old = np.array(published, dtype=float)
    mean = float(new.mean())
    interval = _interval(new)
    old_mean = float(old.mean()) if len(old) else None
    if len(old) < 2 or old_mean is None:
        return Verdict("first", mean, interval, old_mean, None, None)
    half = student_quantile(len(old) - 1) * float(old.std(ddof=1)) * (1 / len(old) + 1 / len(new)) ** 0.5
    band = (old_mean - half, old_mean + half)
    old_interval = _interval(old)
    low, high = interval or (mean, mean)
    old_low, old_high = band if interval is None or old_interval is None else old_interval
    if low > old_high:
        word = "better"
    elif high < old_low:
        word = "worse"
    else:
        word = "as published" if band[0] <= mean <= band[1] else "within"
    return Verdict(word, mean, interval, old_mean, old_interval, band)


def _interval(returns: np.ndarray) -> Interval | None:
    if len(returns) < 2:
        return None
    low, high = mean_interval(returns).tolist()
    return low, high
