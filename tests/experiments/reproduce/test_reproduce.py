"""`mappo reproduce`: the trainings of a task, stopped and continued, the row, and the words on the terminal."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mappo.cli.main import main
from mappo.config import tasks
from mappo.config.tasks import MARKS, TASKS, Task
from mappo.errors import StopTraining, UserError
from mappo.experiments.reproduce import run as repeat
from mappo.experiments.reproduce.row import Row, read_row, write_row
from mappo.experiments.reproduce.run import repeat_task
from mappo.system.shutdown import Interrupts
from mappo.training import session

SETTINGS = {
    "env.num_envs": 8,
    "network.hidden": (8,),
    "ppo.rollout_length": 5,
    "ppo.minibatches": 1,
    "ppo.epochs": 1,
    "run.total_steps": 240,
    "run.eval_interval": 80,
    "run.eval_episodes": 8,
    "run.progress": "off",
}
TINY = Task("tiny", "spread", settings=SETTINGS, episodes=8)


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learning curve takes as long to draw as a tiny run to train."""
    monkeypatch.setattr(session, "draw_curve", lambda *_: None)


def repeat_tiny(folder: Path, seeds: int = 2, stop: Callable[[], None] | None = None) -> Row | None:
    return repeat_task(TINY, seeds, folder, Interrupts(stop), lambda _: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete repetition of two seeds."""
    folder = tmp_path_factory.mktemp("tiny")
    assert repeat_tiny(folder) is not None
    return folder


def seeds_of(folder: Path) -> list[dict[str, Any]]:
    """The seeds of a row, without times and places."""
    seeds = json.loads((folder / "row.json").read_text())["seeds"]
    return [
        {name: value for name, value in seed.items() if name not in ("cpu_minutes", "trained_by")} for seed in seeds
    ]


def test_a_row_holds_each_game_of_each_seed_and_how_it_came_about(folder: Path):
    row = json.loads((folder / "row.json").read_text())
    assert row["task"] == "tiny"
    assert row["command"] == "mappo reproduce tiny --seeds 2"
    assert row["scored_on"] == row["env"] == "spread"
    assert row["config"]["ppo"]["rollout_length"] == 5
    assert set(row["baselines"]) == {"random", "planner"}
    assert [seed["seed"] for seed in row["seeds"]] == [1, 2]
    for seed in row["seeds"]:
        assert seed["step"] == 240
        assert [step for step, _ in seed["evaluations"]] == [80, 160, 240]
        assert {policy: len(games) for policy, games in seed["returns"].items()} == {"greedy": 8, "sampled": 8}
        score = json.loads((folder / f"seed-{seed['seed']}" / "score.json").read_text())
        np.testing.assert_allclose(seed["returns"]["greedy"], score["returns"]["greedy"], atol=1e-4)
        assert seed["trained_by"][0].keys() >= {"mappo", "commit", "torch", "cpu", "system"}
        assert seed["cpu_minutes"] >= 0


def test_stopped_in_trainings_and_scores_it_ends_as_if_it_never_was(folder: Path, tmp_path: Path):
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls in (2, 3, 20, 40, 120, 200):
            raise StopTraining

    stopped = 0
    while (row := repeat_tiny(tmp_path, stop=stop)) is None:
        stopped += 1
    assert stopped >= 4  # a stop after the last update of a run stops nothing
    for seed, whole in zip(seeds_of(tmp_path), seeds_of(folder), strict=True):
        assert all(pair in whole["evaluations"] for pair in seed.pop("evaluations"))  # a stop may cost an evaluation
        assert seed.items() <= whole.items()
    assert row.returns == pytest.approx([np.mean(seed["returns"]["greedy"]) for seed in seeds_of(folder)], abs=1e-3)


def test_nothing_is_trained_or_scored_twice_and_more_seeds_are_added(folder: Path, monkeypatch: pytest.MonkeyPatch):
    before = seeds_of(folder)
    trained: list[int] = []
    scored: list[str] = []
    train, evaluate = repeat.train, repeat.evaluate_run
    monkeypatch.setattr(repeat, "train", lambda *a, **k: (trained.append(a[1].run.seed), train(*a, **k))[1])
    monkeypatch.setattr(repeat, "evaluate_run", lambda *a, **k: (scored.append(a[0].name), evaluate(*a, **k))[1])
    assert repeat_tiny(folder, 3) is not None
    assert (trained, scored) == ([3], ["seed-3"])
    assert seeds_of(folder)[:2] == before


def test_a_score_of_fewer_games_or_of_another_environment_is_made_again(folder: Path, tmp_path: Path):
    (tmp_path / "seed-1").symlink_to(folder / "seed-1")
    short = replace(TINY, episodes=16)
    row = repeat_task(short, 1, tmp_path, Interrupts(), lambda _: None)
    assert row is not None
    assert len(row.records[0].final_returns or {}) == 16


def test_a_row_is_read_as_it_was_written(folder: Path, tmp_path: Path):
    row = read_row(folder / "row.json")
    assert row.task == "tiny"
    assert [record.seed for record in row.records][:2] == [1, 2]
    assert row.returns[:2] == pytest.approx([np.mean(seed["returns"]["greedy"]) for seed in seeds_of(folder)][:2])
    assert row.records[0].eval_steps.tolist() == [80, 160, 240]
    assert row.records[0].config.ppo.rollout_length == 5
    write_row(tmp_path / "row.json", row)
    again = json.loads((tmp_path / "row.json").read_text())
    first = json.loads((folder / "row.json").read_text())
    assert again["seeds"] == first["seeds"]
    assert again["config"] == first["config"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 7}, "has format 7, this version reads 1"),
        ({"seeds": [{"seed": 1}]}, "is damaged: 'evaluations'"),
        ({"seeds": 3}, "is damaged"),
        ({"config": {"ppo": {"epoch": 1}}}, "is damaged: unknown option"),
        ({"task": None}, "is damaged"),
    ],
)
def test_a_damaged_row_gets_one_message(folder: Path, tmp_path: Path, change: dict[str, Any], message: str):
    (tmp_path / "row.json").write_text(json.dumps(json.loads((folder / "row.json").read_text()) | change))
    with pytest.raises(UserError, match=message):
        read_row(tmp_path / "row.json")


def test_a_run_with_other_settings_is_refused(folder: Path, tmp_path: Path):
    (tmp_path / "seed-1").symlink_to(folder / "seed-1")
    other = replace(TINY, settings=SETTINGS | {"ppo.gamma": 0.5})
    with pytest.raises(UserError, match=r"ppo\.gamma"):
        repeat_task(other, 1, tmp_path, Interrupts(), lambda _: None)


def test_a_missing_package_stops_it_before_any_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mappo.envs.names.is_installed", lambda _: False)
    monkeypatch.setattr(repeat, "train", lambda *_: pytest.fail("trained"))
    with pytest.raises(UserError, match="mpe2 is not installed"):
        repeat_task(replace(TINY, package="mpe2"), 1, tmp_path, Interrupts(), lambda _: None)


def test_the_command_trains_and_says_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    published = replace(TINY, returns=(10.0, 11.0, 12.0), peers=TASKS["speaker_listener"].peers)
    monkeypatch.setitem(tasks.TASKS, "tiny", published)
    assert main(["reproduce", "tiny", "--seeds", "2"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Verdict: worse (the 95 % intervals are disjoint, and the mean is lower)." in out
    assert "published │ 11.0" in out
    assert "EPyMARL MAPPO (unverified), 2,000,000 │" in out
    assert Path("runs/reproduce/tiny/row.json").exists()


def test_stopped_it_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(tasks.TASKS, "tiny", replace(TINY, settings=SETTINGS | {"run.time_limit": 1e-6}))
    monkeypatch.setattr(warnings, "warn", lambda *_, **__: None)  # of a limit too short for an update
    assert main(["reproduce", "tiny"]) == 3
    assert "Go on with: mappo reproduce tiny --seeds 3" in " ".join(capsys.readouterr().out.split())


def test_the_list_has_each_task_with_the_numbers_of_others(capsys: pytest.CaptureFixture[str]):
    assert main(["reproduce"]) == 0
    everything = capsys.readouterr().out
    assert main(["reproduce", "--list"]) == 0
    assert capsys.readouterr().out == everything
    assert all(name in everything for name in TASKS)
    assert main(["reproduce", "speaker_listener", "--list"]) == 0
    one = " ".join(capsys.readouterr().out.split())
    assert "EPyMARL MAPPO (unverified) -10.7 2,000,000" in one
    assert "EPyMARL: arXiv:2006.07869 (unverified: recalled)." in one
    assert "spread" not in one


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["spraed"], "unknown task 'spraed'; did you mean 'spread'? There are: spread, "),
        (["spraed", "--list"], "unknown task 'spraed'; did you mean 'spread'?"),
        (["spread", "--seeds", "0"], "--seeds must be at least 1"),
        (["spread", "--seeds", "101"], "--seeds must be at most 100"),
    ],
)
def test_bad_words_get_one_message(words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["reproduce", *words]) == 2
    captured = capsys.readouterr()
    assert message in " ".join((captured.out + captured.err).split())
    assert "Traceback" not in captured.err


def test_every_task_has_settings_and_its_numbers_have_sources():
    for task in TASKS.values():
        assert task.config.run.eval_policy == task.policy
        assert task.episodes >= 1
        for peer in task.peers:
            assert peer.mark in MARKS
            assert peer.source
            assert peer.steps >= 1
