"""Intervals cover what they promise; games and seeds are never mixed."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from matplotlib.figure import Figure

from mappo.core.spec import ActionHeads, Spec
from mappo.evaluation import curve, score as scoring
from mappo.evaluation.episodes import Budget, Episodes
from mappo.evaluation.score import score
from mappo.evaluation.statistics import (
    STUDENT,
    compare_tasks,
    difference_interval,
    mean_interval,
    performance_profile,
    student_quantile,
    summarize,
    summarize_seeds,
    summarize_tasks,
)


def student(degrees: int, t: float) -> float:
    """Probability below t, by Simpson's rule over Student's density."""
    x = np.linspace(0.0, t, 20_001)
    scale = math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2) / math.sqrt(degrees * math.pi)
    density = scale * (1 + x**2 / degrees) ** (-(degrees + 1) / 2)
    weights = np.ones(len(x))
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return 0.5 + float((weights * density).sum() * (x[1] - x[0]) / 3)


@pytest.mark.parametrize("degrees", range(1, len(STUDENT) + 1))
def test_the_table_holds_students_quantiles(degrees: int):
    assert student(degrees, STUDENT[degrees - 1]) == pytest.approx(0.975, abs=1e-7)


def test_the_interval_of_a_few_values_is_students():
    low, high = summarize(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))["ci95"]
    assert (low, high) == pytest.approx((3 - 1.963243, 3 + 1.963243), abs=1e-5)  # 2.776445 sqrt(2.5 / 5)
    assert summarize(np.array([2.0, 2.0, 2.0]))["ci95"] == [2.0, 2.0]


def test_a_single_value_has_no_interval():
    assert summarize(np.array([7.0])) == {"mean": 7.0, "iqm": 7.0, "ci95": None}
    assert np.isnan(mean_interval(np.ones((1, 3)))).all()


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_the_interval_of_a_mean_covers_it_in_19_of_20_cases(count: int):
    samples = np.random.default_rng(count).normal(3.0, 2.0, (count, 40_000))
    low, high = mean_interval(samples)
    assert ((low <= 3.0) & (high >= 3.0)).mean() == pytest.approx(0.95, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "covered"), [(2, 0.5), (3, 0.77), (5, 0.83), (10, 0.90), (20, 0.93)])
def test_a_bootstrap_of_few_values_is_as_narrow_as_is_said(count: int, covered: float):
    """The reason for Student's interval, and the least number of values of the bootstrap."""
    rng = np.random.default_rng(0)
    samples = rng.normal(3.0, 2.0, (2000, count))
    means = np.stack([sample[rng.integers(count, size=(1000, count))].mean(1) for sample in samples])
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    assert ((low <= 3.0) & (high >= 3.0)).mean() == pytest.approx(covered, abs=0.03)


@pytest.mark.parametrize(("count", "narrow"), [(2, True), (9, True), (10, False), (30, False)])
def test_the_interquartile_mean_of_seeds_is_bootstrapped_and_marked_where_seeds_are_few(count: int, narrow: bool):
    means = np.random.default_rng(count).normal(0, 1, count)
    told = summarize_seeds(means)
    assert {k: told[k] for k in ("mean", "iqm", "ci95")} == summarize(means)
    assert told["iqm_ci95_too_narrow"] == narrow
    rng = np.random.default_rng(1)
    cut = count // 4
    draws = [np.sort(rng.choice(means, count))[cut : count - cut].mean() for _ in range(4000)]
    assert told["iqm_ci95"] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.1)


def played(*returns: Any) -> Any:
    """In place of `play_episodes`: each policy is the returns of its games."""

    def play(env: Any, policy: Any, seeds: Any, on_step: Any, **_: Any) -> Episodes:
        values = np.asarray(policy, dtype=float)[: len(seeds)]
        return Episodes(values[:, None], values, np.full(len(values), 3))

    return play


class Place:
    spec = Spec(("x",), (spaces.Box(0, 1, (1,)),), (ActionHeads((2,)),))
    device = torch.device("cpu")


def test_games_and_seeds_are_never_mixed(monkeypatch: pytest.MonkeyPatch):
    """Two seeds that differ by 10, in a hundred games that hardly differ: the interval is that of two numbers."""
    monkeypatch.setattr(scoring, "play_episodes", played())
    monkeypatch.setattr(scoring, "baseline_policies", lambda *_: {"lazy": np.zeros(100)})
    rng = np.random.default_rng(0)
    seeds: list[Any] = [rng.normal(0, 0.1, 100), rng.normal(10, 0.1, 100)]
    told = score(Place(), "place", {"greedy": seeds, "sampled": [s + 1 for s in seeds]}, 100)  # type: ignore[arg-type]
    means = [s.mean() for s in seeds]
    assert told["by_policy"] == pytest.approx(means)
    assert told["return_sum"] == summarize_seeds(np.array(told["by_policy"]))
    low, high = told["return_sum"]["ci95"]
    assert high - low > 100
    assert told["baselines"]["lazy"]["difference"]["ci95"] == pytest.approx([low, high])
    assert told["scores"]["sampled"]["return_sum"]["mean"] == pytest.approx(np.mean(means) + 1)
    assert np.array(told["scores"]["greedy"]["returns"]).shape == (2, 100)
    one = score(Place(), "place", {"greedy": seeds[:1], "sampled": seeds[1:]}, 100)  # type: ignore[arg-type]
    assert one["scores"]["sampled"]["returns"] == pytest.approx(seeds[1])
    assert one["return_sum"] == summarize(seeds[0])
    assert one["baselines"]["lazy"]["difference"]["mean"] == pytest.approx(seeds[0].mean())


def test_all_policies_are_scored_on_the_games_that_the_slowest_played(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scoring, "play_episodes", played())
    monkeypatch.setattr(scoring, "baseline_policies", lambda *_: {"random": np.arange(4.0)})
    told = score(Place(), "place", {"greedy": [np.arange(8.0)], "sampled": [np.arange(6.0)]}, 10)  # type: ignore[list-item]
    assert told["episodes"] == 4
    assert told["return_sum"]["mean"] == told["baselines"]["random"]["mean"] == 1.5
    assert told["scores"]["greedy"]["returns"] == [0, 1, 2, 3]
    assert told["baselines"]["random"]["difference"]["mean"] == 0
    assert Budget().steps == math.inf


@pytest.mark.parametrize("count", [2, 5, 25])
def test_the_band_of_a_curve_is_the_interval_of_the_mean(count: int):
    axes = Figure().add_subplot()
    values = np.random.default_rng(count).normal(0, 1, (count, 3))
    curve._draw_mean(axes, [(np.arange(3.0), row) for row in values], 1.0, "x", "#000000", "")
    drawn = axes.collections[0].get_paths()[0].vertices
    low, high = mean_interval(values)
    bottom, top = axes.get_ylim()
    assert top - bottom < 1.5 * np.ptp(values.mean(0)), "the band does not flatten the curve"
    for t in range(3):
        at = drawn[drawn[:, 0] == t][:, 1]
        assert (at.min(), at.max()) == pytest.approx((low[t], high[t]))


RLIABLE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "rliable" / "expected.json").read_text())


class Stream:
    """numpy's global stream of old, in place of a generator: rliable draws from it."""

    def __init__(self, seed: int) -> None:
        self.state = np.random.RandomState(seed)

    def integers(self, count: int, size: Any) -> Any:
        return self.state.choice(count, size, replace=True)


@pytest.mark.parametrize("case", [name for name in RLIABLE if name != "versions"])
def test_statistics_over_tasks_are_those_of_rliable(case: str, monkeypatch: pytest.MonkeyPatch):
    """Numbers recorded from rliable itself by tests/data/rliable/record.py; its intervals have 50,000 resamples."""
    expected = RLIABLE[case]
    x, y = ([np.array(scores) for scores in expected[name]] for name in "xy")
    found = summarize_tasks(x)
    assert (found["mean"], found["iqm"]) == pytest.approx((expected["mean"], expected["iqm"]), rel=1e-12)
    width = np.ptp(expected["iqm_ci95"])
    assert found["iqm_ci95"] == pytest.approx(expected["iqm_ci95"], abs=0.06 * width)
    improvement = compare_tasks(x, y)
    assert improvement["probability"] == pytest.approx(expected["improvement"], rel=1e-12)
    assert improvement["ci95"] == pytest.approx(expected["improvement_ci95"], abs=0.03)
    assert compare_tasks(y, x)["probability"] == pytest.approx(1 - expected["improvement"], rel=1e-12)
    if len(x) == 1:  # with the same random numbers the same interval
        monkeypatch.setattr(np.random, "default_rng", Stream)
        assert summarize_tasks(x)["iqm_ci95"] == pytest.approx(expected["iqm_ci95_seeded"], rel=1e-12)


def test_ties_count_half():
    x = [np.array([1.0, 2.0])]
    assert compare_tasks(x, [np.array([1.0, 0.0])])["probability"] == 0.875
    assert compare_tasks(x, x)["probability"] == 0.5


@pytest.mark.parametrize("degrees", [19, 25, 60, 200])
def test_students_quantiles_go_on_beyond_the_table(degrees: int):
    assert student(degrees, student_quantile(degrees)) == pytest.approx(0.975, abs=5e-5)


@pytest.mark.parametrize(("first", "second"), [(2, 2), (3, 5), (5, 30), (10, 10)])
def test_the_interval_of_a_difference_covers_it_in_19_of_20_cases(first: int, second: int):
    rng = np.random.default_rng(first)
    pairs = [(rng.normal(1.0, 1.0, first), rng.normal(0.0, 4.0, second)) for _ in range(1500)]
    intervals = [difference_interval(x, y) for x, y in pairs]
    covered = np.mean([low <= 1.0 <= high for interval in intervals if interval for low, high in [interval]])
    assert covered > 0.93
    assert covered < 0.995


def test_a_difference_of_constants_is_exact():
    assert difference_interval(np.ones(3), np.zeros(3)) == [1.0, 1.0]
    assert difference_interval(np.ones(1), np.zeros(3)) is None


def test_a_performance_profile_is_the_fraction_of_runs_above_each_threshold():
    tasks = [np.array([0.1, 0.5, 0.9, 1.0]), np.array([0.5, 0.6])]
    fractions, (low, high) = performance_profile(tasks, np.array([0.0, 0.5, 0.95, 2.0]))
    # 4/4 and 2/2; 2/4 and 1/2 (strictly above); 1/4 and 0; none
    assert fractions.tolist() == [1.0, 0.5, 0.125, 0.0]
    assert (low[0], high[0], low[3], high[3]) == (1.0, 1.0, 0.0, 0.0)
    assert low[1] < 0.5 < high[1]


def test_the_interval_of_a_profile_covers_it_in_about_19_of_20_cases():
    rng = np.random.default_rng(0)
    profiles = [performance_profile([rng.random(40), rng.random(40)], np.array([0.3])) for _ in range(200)]
    covered = np.mean([low[0] <= 0.7 <= high[0] for _, (low, high) in profiles])
    assert 0.9 <= covered <= 0.99
