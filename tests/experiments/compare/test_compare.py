"""Runs become groups, scores are of the same step and of the same games, and what is missing is said."""

from pathlib import Path

import numpy as np
import pytest

from mappo.errors import UserError
from mappo.evaluation.statistics import mean_interval, summarize_seeds
from mappo.experiments.compare.comparison import compare
from mappo.experiments.compare.figure import curve_of
from recorded_runs import BASE, OWN, changed, evaluated, record_run, record_study, write_config


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return record_study(tmp_path / "runs")


def test_seeds_of_equal_settings_are_a_group_named_by_the_settings_that_differ(runs: Path):
    found = compare([runs])
    assert [panel.env for panel in found.panels] == ["battle", "spread"]
    for panel in found.panels:
        assert [group.name for group in panel.groups] == ["critic-input auto", "critic-input own"]
        assert [len(group.scores) for group in panel.groups] == [3, 3]
        assert (panel.source, panel.step, panel.notes) == ("score", 1000, [])
    best, other = found.panels[1].groups
    assert best.means == pytest.approx([-19, -18, -17])
    assert best.summary == summarize_seeds(best.means)
    assert best.versus_best is None
    assert other.versus_best is not None
    assert other.versus_best["difference"] == pytest.approx(-3)
    assert other.versus_best["improvement"]["probability"] == 1.0
    assert found.panels[0].baselines["random"]["mean"] == -80


def test_games_are_compared_one_by_one_where_they_are_the_same(tmp_path: Path):
    """The games differ by hundreds; the second run is 2 better in each of the games of both."""
    games = np.random.default_rng(0).normal(0, 100, 40)
    record_run(tmp_path / "a", evaluated(0), games)
    record_run(tmp_path / "b", evaluated(0), games[:30] + 2 + 0.1 * np.sin(np.arange(30)), config=OWN)
    best, other = compare([tmp_path / "b", tmp_path / "a"]).panels[0].groups
    versus = other.versus_best or best.versus_best
    assert versus is not None
    sign = -1 if best.name == "critic-input own" else 1
    assert versus["games"] == 30
    assert versus["difference"] == pytest.approx(sign * 2, abs=0.05)
    low, high = versus["ci95_games"]
    assert high - low < 0.1
    assert versus["ci95"] is None, "one seed each"


def test_runs_of_other_lengths_are_compared_at_the_same_step(tmp_path: Path):
    longer = changed(run={"total_steps": 2000})
    record_run(tmp_path / "a1", evaluated(-20), [-20.0])
    record_run(tmp_path / "a2", evaluated(-10, 2000), [-10.0], config=longer)
    panel = compare([tmp_path]).panels[0]
    assert (panel.source, panel.step) == ("evaluation", 1000)
    assert {group.name for group in panel.groups} == {"total-steps 1,000", "total-steps 2,000"}
    assert sorted(float(group.means[0]) for group in panel.groups) == [-20.0, -20.0]
    assert panel.notes[0] == "runs have 1,000 to 2,000 steps: compared by their evaluations at 1,000"
    assert panel.notes[-1] == "a single seed has no interval: total-steps 1,000, total-steps 2,000"
    assert all(group.summary["ci95"] is group.summary["iqm_ci95"] is None for group in panel.groups)


def test_lengths_that_differ_by_rounding_keep_their_scores(tmp_path: Path):
    record_run(tmp_path / "a", evaluated(-20), [-20.0])
    odd = changed(ppo={"rollout_length": 30})  # rounded up to 1200 steps
    record_run(tmp_path / "b", evaluated(-10, 1200), [-10.0], config=odd)
    panel = compare([tmp_path]).panels[0]
    assert (panel.source, panel.step) == ("score", 1000)


def test_runs_without_returns_of_games_are_compared_by_means_and_it_is_said(tmp_path: Path):
    record_run(tmp_path / "old", evaluated(-20), has_games=False)
    record_run(tmp_path / "new", evaluated(-18), [-18.0, -17.0], config=OWN)
    best, other = (panel := compare([tmp_path]).panels[0]).groups
    assert panel.source == "evaluation"
    assert other.versus_best is not None
    assert (other.versus_best["difference"], other.versus_best["games"]) == (-2.0, 0)
    assert panel.notes[:2] == [
        f"compared by evaluations, for {tmp_path / 'old'} has no score: mappo evaluate {tmp_path / 'old'} adds it",
        f"returns of episodes were not kept by {tmp_path / 'old'}: means alone are compared",
    ]
    assert best.name == "critic-input own"


def test_a_score_of_an_earlier_step_is_not_the_score_of_the_run(tmp_path: Path):
    path = record_run(tmp_path / "a", evaluated(-30, 800), [-30.0], config=BASE)
    with (path / "metrics.csv").open("a") as file:
        file.write("1,10,1000,-50.0,-12.0\n")
    panel = compare(path).panels[0]
    assert (panel.source, panel.step, panel.groups[0].summary["mean"]) == ("evaluation", 1000, -12.0)


def test_a_run_of_several_seeds_counts_once_for_each_whatever_it_is_named_by(tmp_path: Path):
    several = changed(run={"seeds": 3})
    write_config(tmp_path / "all", "spread", several)
    for seed in (1, 2, 3):
        record_run(tmp_path / "all" / f"seed-{seed}", evaluated(seed), [seed], seed=seed)
    (tmp_path / "link").symlink_to(tmp_path / "all")
    words = [tmp_path / "all", tmp_path / "all" / "seed-2", str(tmp_path / "*"), tmp_path]
    (group,) = compare(words).panels[0].groups
    assert group.name == "all runs"
    assert group.means.tolist() == [1, 2, 3]


def test_by_a_setting_and_by_name(runs: Path):
    record_run(runs / "lr", evaluated(-19), [-19.0], config=changed(OWN, ppo={"actor_lr": 1e-2}))
    assert {group.name for group in compare([runs / "*spread*", runs / "lr"]).panels[0].groups} == {
        "critic-input auto, actor-lr 0.0007",
        "critic-input own, actor-lr 0.0007",
        "critic-input own, actor-lr 0.01",
    }
    panel = compare([runs / "*spread*", runs / "lr"], by="network.critic-input").panels[0]
    assert {group.name: len(group.scores) for group in panel.groups} == {"critic-input auto": 3, "critic-input own": 4}
    assert panel.notes == ["runs of critic-input own differ in ppo.actor-lr"]
    named = compare([f"MAPPO={runs}/mappo-spread-*", f"IPPO={runs}/ippo-spread-*"]).panels[0]
    assert [group.name for group in named.groups] == ["MAPPO", "IPPO"]
    with pytest.raises(UserError, match=r"no setting 'ppo.actor-lf' to group by; did you mean 'ppo.actor-lr'\?"):
        compare([runs], by="ppo.actor-lf")


def test_other_numbers_of_agents_are_another_task(tmp_path: Path):
    record_run(tmp_path / "three", evaluated(-20), [-20.0])
    record_run(tmp_path / "five", evaluated(-40), [-40.0], config=changed(env={"num_agents": 5}))
    assert [panel.env for panel in compare([tmp_path]).panels] == ["spread (5 agents)", "spread"]


def test_several_environments_are_scaled_and_put_together(runs: Path):
    best, other = compare([runs]).overall
    assert (best.name, other.name) == ("critic-input auto", "critic-input own")
    assert best.summary["mean"] == pytest.approx(np.mean([0.6, 0.8, 1.0]))
    assert other.versus_best is not None
    assert other.versus_best["improvement"]["probability"] == 1.0
    assert set(other.versus_best) == {"improvement"}


def test_the_curve_is_the_mean_where_all_seeds_have_values(tmp_path: Path):
    record_run(tmp_path / "a", {100: [0.0], 300: [2.0], 500: [4.0]}, seed=1)
    record_run(tmp_path / "b", {200: [5.0], 300: [6.0], 400: [8.0]}, seed=2)
    (group,) = compare([tmp_path]).panels[0].groups
    steps, means, band = curve_of(group)
    assert steps.tolist() == [200, 300, 400]
    assert means.tolist() == [3.0, 4.0, 5.5]
    assert band == pytest.approx(mean_interval(np.array([[1.0, 2.0, 3.0], [5.0, 6.0, 8.0]])))
