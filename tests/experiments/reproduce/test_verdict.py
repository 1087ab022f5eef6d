"""The verdict on repeated trainings, against Student's t by hand and against chance."""

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from mappo.experiments.reproduce.verdict import judge

RETURNS = st.lists(st.floats(-100, 100), min_size=2, max_size=8)


def test_disjoint_intervals_are_better_or_worse():
    published = [-25.0, -25.2, -25.4]
    assert judge([-23.0, -23.1, -22.9], published).word == "better"
    assert judge([-28.0, -28.1, -27.9], published).word == "worse"
    assert judge([-25.1, -25.3, -25.2], published).word == "as published"


def test_intervals_and_band_are_students():
    verdict = judge([1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0])
    # t(2) = 4.302653 and s = 1 over 3 seeds; t(3) = 3.182446 and s^2 = 5/3 over 4.
    assert verdict.interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    half = 3.182446 * (5 / 3) ** 0.5
    assert verdict.published_interval == pytest.approx((1.5 - half / 2, 1.5 + half / 2))
    wide = half * (1 / 4 + 1 / 3) ** 0.5
    assert verdict.band == pytest.approx((1.5 - wide, 1.5 + wide))
    assert verdict.published == 1.5


def test_outside_the_band_with_overlapping_intervals_is_within():
    verdict = judge([10.0, 30.0], [0.0, 1.0, 2.0])  # two seeds far apart: the interval is huge
    assert verdict.word == "within"
    assert "outside the band" in verdict.meaning


def test_a_single_seed_is_held_against_the_band():
    published = [0.0, 1.0, 2.0]
    low, high = judge([1.0], published).band or (0.0, 0.0)
    assert judge([1.0], published).interval is None
    assert [judge([x], published).word for x in (low - 0.1, low + 0.1, high - 0.1, high + 0.1)] == [
        "worse",
        "as published",
        "as published",
        "better",
    ]


@pytest.mark.parametrize("published", [[], [3.0]])
def test_without_two_published_seeds_there_is_nothing_to_judge_by(published: list[float]):
    verdict = judge([1.0, 2.0], published)
    assert verdict.word == "first"
    assert verdict.band is None
    assert verdict.published == (3.0 if published else None)


@settings(max_examples=40)
@given(RETURNS, RETURNS, st.floats(-50, 50))
def test_a_shift_of_all_returns_changes_no_verdict(returns: list[float], published: list[float], shift: float):
    verdict = judge(returns, published)
    edges = [*(verdict.interval or ()), *(verdict.published_interval or ()), *(verdict.band or ()), verdict.mean]
    gaps = np.abs(np.subtract.outer(edges, edges))[~np.eye(len(edges), dtype=bool)]
    assume(gaps.min() > 1e-6)  # else rounding decides
    assert judge([x + shift for x in returns], [x + shift for x in published]).word == verdict.word


@settings(max_examples=40)
@given(RETURNS, RETURNS)
def test_mirrored_returns_mirror_the_verdict(returns: list[float], published: list[float]):
    mirror = {"better": "worse", "worse": "better"}
    word = judge(returns, published).word
    assert judge([-x for x in returns], [-x for x in published]).word == mirror.get(word, word)


def test_seeds_of_one_distribution_are_as_published_19_times_of_20():
    rng = np.random.default_rng(0)
    words = [judge(rng.normal(size=3).tolist(), rng.normal(size=5).tolist()).word for _ in range(2000)]
    assert 0.93 < words.count("as published") / len(words) < 0.97
    assert (words.count("better") + words.count("worse")) / len(words) < 0.02
