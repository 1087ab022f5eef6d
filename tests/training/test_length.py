"""A run that goes on as a longer run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mappo.errors import UserError
from mappo.runs import checkpoint
from mappo.runs.length import change_length, is_complete
from mappo.runs.lock import lock_directory
from mappo.training.run import load_run
from mappo.training.session import Session
from mappo.training.train import train
from training_runs import CONFIG, SIZE, assert_same, stop_after, within

SHORT, LONG = 4 * SIZE, 8 * SIZE
CONSTANT = replace(CONFIG, ppo=replace(CONFIG.ppo, lr_final=1.0, entropy_final=1.0))


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "finish", Session.close)


def test_a_run_made_longer_is_the_long_run_where_nothing_is_annealed(tmp_path: Path):
    long = train("spread", within(CONSTANT, tmp_path / "long", total_steps=LONG))
    short = train("spread", within(CONSTANT, tmp_path / "short", total_steps=SHORT))
    assert short.finished
    longer = short.extend(LONG)
    assert not longer.finished
    again = train("spread", longer.config, resume=True)
    assert (again.step, again.finished) == (LONG, True)
    assert (long.path / "metrics.csv").read_bytes() == (again.path / "metrics.csv").read_bytes()
    found, other = (checkpoint.load(run.path) for run in (long, again))
    assert found.model.keys() | found.trainer.keys() == other.model.keys() | other.trainer.keys()
    for name, x in (found.model | found.trainer).items():
        assert torch.equal(x, (other.model | other.trainer)[name]), name


def test_annealing_follows_the_new_length_from_the_change_on_and_resumes_exactly(tmp_path: Path):
    run = train("spread", within(CONFIG, tmp_path / "run", total_steps=SHORT))
    notes = change_length(run.path, LONG)
    assert notes[0] == f"{run.path} goes on from step 320 to 640"
    assert notes[1].startswith("annealed over 640 steps from now on, so that these change: actor_lr 0.0005 to 0.00275")
    shutil.copytree(run.path, tmp_path / "copy")
    config = load_run(run.path).config
    whole = train("spread", within(config, run.path), resume=True)
    train("spread", within(config, tmp_path / "copy"), resume=True, callback=stop_after(6))
    train("spread", within(config, tmp_path / "copy"), resume=True)
    assert_same(whole.path, tmp_path / "copy")
    rates = whole.metrics["actor_lr"].tolist()
    before, after = (replace(CONFIG, run=replace(CONFIG.run, total_steps=steps)) for steps in (SHORT, LONG))
    expected = [before.schedule(k)["actor_lr"] for k in range(4)] + [after.schedule(k)["actor_lr"] for k in range(4, 8)]
    assert rates == pytest.approx(expected)
    assert change_length(whole.path, LONG) == []


def test_a_run_never_gets_shorter_than_it_is(tmp_path: Path):
    run = train("spread", within(CONFIG, tmp_path / "run"), callback=stop_after(3))
    text = (run.path / "config.json").read_text()
    for steps, message in (
        (2 * SIZE, f"^{run.path} has done 240 steps: --total-steps must be at least that, got 160$"),
        (0, "^run.total-steps must be at least 1, got 0$"),
    ):
        with pytest.raises(UserError, match=message):
            change_length(run.path, steps)
    with lock_directory(run.path), pytest.raises(UserError, match="another process trains in"):
        change_length(run.path, LONG)
    assert (run.path / "config.json").read_text() == text
    change_length(run.path, 3 * SIZE)
    assert load_run(run.path).finished


def test_all_seeds_change_and_a_change_that_was_interrupted_is_made_again(tmp_path: Path):
    run = train("spread", within(CONSTANT, tmp_path / "run", seeds=2, total_steps=SHORT))
    change_length(run.path / "seed-1", LONG)  # as if killed in between
    longer = run.extend(LONG)
    for path in (run.path, *run.seed_paths):
        data = json.loads((path / "config.json").read_text())
        assert (data["config"]["run"]["total_steps"], data["first_total_steps"]) == (LONG, SHORT)
    assert train("spread", longer.config, resume=True).step == LONG
    alone = train("spread", within(CONSTANT, tmp_path / "alone", total_steps=LONG, seed=2))
    assert (alone.path / "metrics.csv").read_bytes() == (run.path / "seed-2" / "metrics.csv").read_bytes()


def test_another_length_is_refused_in_training_with_the_command_that_changes_it(tmp_path: Path):
    run = train("spread", within(CONFIG, tmp_path / "run", total_steps=SHORT))
    with pytest.raises(UserError, match=rf"mappo resume {run.path}; for another length add --total-steps {LONG}$"):
        train("spread", within(CONFIG, run.path, total_steps=LONG), resume=True)
    assert not is_complete(run.path, run.config)  # it has no score
    assert not is_complete(run.path, replace(run.config, run=replace(run.config.run, score_episodes=0)))
    (run.path / "curve.png").touch()
    assert is_complete(run.path, replace(run.config, run=replace(run.config.run, score_episodes=0)))
