"""Evaluations in training: which policy, how many games, and games without an end."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mappo
from film import Film
from mappo.cli.main import main
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.core.seeding import derive_seed
from mappo.evaluation import episodes as playing
from mappo.evaluation.episodes import Budget, play_episodes
from mappo.evaluation.options import SELECT_SEED
from mappo.runs import checkpoint
from mappo.training import evaluator
from training_runs import everything, stop_after, within

CONFIG = Config(
    env=EnvConfig(num_envs=4, workers=0),
    network=NetworkConfig(hidden=(8,)),
    ppo=PPOConfig(rollout_length=10, epochs=1),
    run=RunConfig(total_steps=160, eval_interval=40, progress="off", eval_policy="sampled"),
)


@pytest.fixture(autouse=True)
def no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mappo.training.session.draw_curve", lambda *_: None)


def test_the_policy_of_the_evaluations_makes_the_curve_and_the_best(tmp_path: Path):
    run = mappo.train("probe/combined", within(CONFIG, tmp_path / "sampled"))
    greedy = within(CONFIG, tmp_path / "greedy", eval_policy="greedy")
    other = mappo.train("probe/combined", greedy)
    curves = [r.metrics["eval_return"][~np.isnan(r.metrics["eval_return"])] for r in (run, other)]
    assert not np.array_equal(*curves)
    assert np.array_equal(run.metrics["return_sum"], other.metrics["return_sum"], equal_nan=True)
    best = checkpoint.load(run.path, "best").state
    assert best["eval_return"] == max(curves[0])
    env = mappo.make("probe/combined", 256)
    for r, sampled in ((run, True), (other, False)):
        actor = mappo.load_actor(r.path, sampled=sampled)
        if sampled:
            actor.generator.manual_seed(derive_seed(1, 4, 4))  # type: ignore[union-attr]
        sums = play_episodes(env, actor, range(SELECT_SEED, SELECT_SEED + 256)).team_returns
        assert float(sums.mean()) == r.metrics["eval_return"][-1]


def test_each_evaluation_keeps_its_returns_game_by_game(tmp_path: Path):
    run = mappo.train("probe/combined", within(CONFIG, tmp_path / "run", eval_policy="greedy", eval_episodes=9))
    with open(run.path / "returns.csv", newline="") as file:
        rows = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    games = [str(SELECT_SEED + k) for k in range(9)]
    assert [*rows[0]] == ["seed", "update", "step", *games]
    curve = run.metrics["eval_return"]
    assert [np.mean([row[game] for game in games]) for row in rows] == curve[~np.isnan(curve)].tolist()
    env = mappo.make("probe/combined", 9)
    played = play_episodes(env, mappo.load_actor(run.path), range(SELECT_SEED, SELECT_SEED + 9))
    assert [rows[-1][game] for game in games] == played.team_returns.tolist()


def test_games_that_the_budget_left_out_are_empty_and_many_games_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluator, "EVALUATION_BUDGET", Budget(steps=256))
    monkeypatch.setattr(evaluator, "MAX_KEPT", 100)
    run = mappo.train(lambda: Film(5), within(CONFIG, tmp_path / "run", total_steps=40))
    header, row = (line.split(",") for line in (run.path / "returns.csv").read_text().splitlines())
    assert len(header) == len(row) == 3 + 100
    assert all(row[:67])
    assert row[67:] == [""] * 36


def test_a_run_with_sampled_evaluations_resumes_exactly(tmp_path: Path):
    mappo.train("probe/combined", within(CONFIG, tmp_path / "whole"))
    config = within(CONFIG, tmp_path / "parts")
    mappo.train("probe/combined", config, callback=stop_after(2))
    mappo.train("probe/combined", config, resume=True)
    whole, parts = (everything(tmp_path / name) for name in ("whole", "parts"))
    assert whole[0] == parts[0]
    assert whole[1]["best"] == parts[1]["best"]


def test_seeds_sample_by_random_numbers_of_their_own(tmp_path: Path):
    """Otherwise nearly uniform policies would play the same games, with an interval of width 0."""
    config = within(CONFIG, tmp_path / "run", total_steps=40, seeds=2, eval_episodes=16)
    run = mappo.train("probe/combined", config)
    first, second = run.metrics["eval_return"]
    assert first != second
    returns = run.evaluate(16)["scores"]["sampled"]["returns"]
    assert returns[0] != returns[1]
    alone = mappo.train(
        "probe/combined", replace(config, run=replace(config.run, seeds=1, seed=2, dir=str(tmp_path / "b")))
    )
    assert alone.metrics["eval_return"].tolist() == [second], "a seed is evaluated as in its single run"


def test_both_policies_are_measured_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: list[Any] = []
    monkeypatch.setattr("mappo.training.session.draw_curve", lambda *args: drawn.append(args[4]))
    run = mappo.train("probe/combined", within(CONFIG, tmp_path / "run", eval_episodes=8))
    env = mappo.make("probe/combined", 8)
    sums = play_episodes(env, mappo.load_actor(run.path), range(SELECT_SEED, SELECT_SEED + 8)).team_returns
    assert drawn[0][evaluator.AT_END].mean == float(sums.mean())
    assert drawn[0]["random"].episodes == 8
    scored = run.evaluate(8)["baselines"]["random"]
    assert drawn[0]["random"].mean == scored["mean"], "a baseline has one value"
    low, high = drawn[0]["random"].interval
    assert low < drawn[0]["random"].mean < high


@pytest.mark.parametrize(
    ("horizon", "episodes", "games"), [(1, None, 256), (2, None, 128), (5, None, 64), (300, None, 16), (5, 40, 40)]
)
def test_long_games_are_evaluated_by_steps_and_a_given_number_in_full(
    horizon: int, episodes: int | None, games: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A run of an earlier version has the number in its config.json, and plays all of them as it did."""
    assert playing.EVALUATION_BUDGET.steps == 256 * 100
    lengths: list[int] = []

    def play(*args: Any) -> Any:
        played = play_episodes(*args)
        lengths.append(len(played.lengths))
        return played

    monkeypatch.setattr(evaluator, "EVALUATION_BUDGET", Budget(steps=256))
    monkeypatch.setattr(evaluator, "play_episodes", play)
    mappo.train(lambda: Film(horizon), within(CONFIG, tmp_path / "run", total_steps=40, eval_episodes=episodes))
    assert lengths == [games] * 3


def test_a_game_without_an_end_is_told_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(evaluator, "EVALUATION_BUDGET", Budget(steps=100, max_length=50))
    run = mappo.train(lambda: Film(10**9), within(CONFIG, tmp_path / "run", progress="plain"))
    assert run.finished
    assert np.isnan(run.metrics["eval_return"]).all()
    told = capsys.readouterr().out
    assert told.count("is not evaluated: an episode did not end within 50 steps: the environment needs a time") == 4
    assert "--env.time-limit" in told


def long_game() -> Any:
    return Film(300)


def test_the_end_of_a_run_of_long_games_is_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Few games are scored, and said to be few; the replay is drawn."""
    monkeypatch.setattr(playing, "SCORE_BUDGET", Budget(steps=1000))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    words = ["--run.total-steps", "40", "--env.num-envs", "4", "--ppo.rollout-length", "10", "--ppo.epochs", "1"]
    words += ["--run.dir", str(tmp_path / "run"), "--env.workers", "0", "--run.eval-episodes", "1"]
    monkeypatch.setattr("mappo.envs.create._PYTHON_EVAL_ENVS", 2)
    assert main(["train", "test_evaluator:long_game", *words, "--run.replay-episodes", "1"]) == 0
    told = capsys.readouterr().out
    assert "Scoring up to 320 episodes of each policy ..." in told
    assert "Episodes are long, 300 steps: 4 were scored in place of 320." in told
    assert "--allow-code --episodes 320" in told.split("Next:")[1], "and not 2,000 of these long games"
    assert "Drawing a replay, greedy policy ..." in told
    assert (tmp_path / "run" / "replay.gif").exists()


def test_score_and_replay_may_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--run.total-steps", "40", "--env.num-envs", "4", "--ppo.rollout-length", "10", "--run.eval-episodes", "1"]
    run = str(tmp_path / "run")
    words += ["--run.dir", run, "--run.progress", "off"]
    assert main(["train", "probe/signal", *words, "--run.score-episodes", "0", "--run.replay-episodes", "0"]) == 0
    told = capsys.readouterr().out
    assert not {"Scoring", "replay", "mean return", " play "} & set(told.split())
    assert f"mappo evaluate {run}" in told
    assert main(["train", "probe/signal", *words, "--resume", "--run.score-episodes", "7"]) == 0
    told = capsys.readouterr().out
    assert "Scoring 7 episodes of each policy" in told
    assert ", 7 episodes, last checkpoint" in told
    for option, most in (("score", "1,000,000"), ("replay", "100")):
        for value in ("-1", "9" * 9):
            assert main(["train", "probe/signal", f"--run.{option}-episodes", value]) == 2
            bound = f"at most {most}" if value[0] == "9" else "at least 0"
            assert f"run.{option}-episodes must be {bound}" in capsys.readouterr().err.replace("\n", " ")


def test_evaluate_measures_both_and_compares_the_policy_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = mappo.train("probe/combined", within(CONFIG, tmp_path / "run", eval_episodes=1))
    told: dict[bool, Any] = {}
    for sampled in (False, True):
        words = ["evaluate", str(run.path), "--episodes", "6", "--json", *(["--sampled"] if sampled else [])]
        assert main(words) == 0
        told[sampled] = json.loads(capsys.readouterr().out)
    greedy, drawn = told[False], told[True]
    assert (greedy["policy"], drawn["policy"]) == ("greedy", "sampled")
    assert greedy["scores"] == drawn["scores"]
    for policy, result in (("greedy", greedy), ("sampled", drawn)):
        score = result["scores"][policy]
        assert {k: result[k] for k in ("return_sum", "return_per_agent")} == {
            k: score[k] for k in ("return_sum", "return_per_agent")
        }
        assert len(score["returns"]) == result["episodes"] == 6
        assert score["return_sum"]["mean"] == pytest.approx(np.mean(score["returns"]))
        difference = result["baselines"]["random"]["difference"]["mean"]
        assert difference == pytest.approx(score["return_sum"]["mean"] - result["baselines"]["random"]["mean"])
    assert {"env", "package_version", "checkpoint", "step", "episodes", "scores", "baselines"} <= set(greedy)
