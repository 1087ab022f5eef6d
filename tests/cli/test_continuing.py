"""Runs that go on, by the command line."""

import json
import os
import signal
from pathlib import Path

import pytest

from mappo.cli.main import main
from mappo.cli.signals import Stopped
from mappo.runs import checkpoint

OPTIONS = "--env.num-envs 4 --ppo.rollout-length 5 --ppo.minibatches 1 --ppo.epochs 1 --network.hidden 4 "
OPTIONS += "--run.total-steps 40 --run.eval-interval 20 --run.eval-episodes 2 "
SMALL = (OPTIONS + "--run.score-episodes 2 --run.replay-episodes 0").split()


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A run by the command that is put into a queue again and again."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", "probe/signal", "--run.name", "x", "--resume", *SMALL]) == 0
    out = capsys.readouterr().out
    assert out.startswith("runs/x is not there yet: a new run begins\n")
    assert "Scoring 2 episodes" in out
    return Path("runs/x")


def test_a_complete_run_is_not_scored_again_and_may_go_on_as_a_longer_run(
    trained: Path, capsys: pytest.CaptureFixture[str]
):
    score = (trained / "score.json").read_bytes()
    for args in (["train", "probe/signal", "--run.name", "x", "--resume", *SMALL], ["resume", str(trained)]):
        assert main(args) == 0
        out = capsys.readouterr().out
        assert out.startswith("runs/x is complete: 40 steps, trained and scored; nothing is left to do.\n")
        assert out.endswith("mappo resume runs/x --total-steps 80\n")
    assert (trained / "score.json").read_bytes() == score
    assert main(["resume", str(trained), "--total-steps", "80"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("runs/x goes on from step 40 to 80\n")
    assert "Scoring 2 episodes" in out
    assert checkpoint.load(trained).state["step"] == json.loads((trained / "score.json").read_text())["step"] == 80
    (trained / "score.json").write_bytes(score)  # of the shorter run, as if killed before the new score
    assert main(["resume", str(trained)]) == 0
    assert "Scoring 2 episodes" in capsys.readouterr().out
    assert main(["resume", str(trained), "--total-steps", "60"]) == 2
    assert "has done 80 steps: --total-steps must be at least that, got 60" in capsys.readouterr().err


def test_a_complete_run_that_was_not_scored_is_scored_and_other_settings_are_named(
    trained: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["train", "probe/signal", "--run.name", "x", "--resume", *SMALL, "--ppo.gamma", "0.5"]) == 2
    assert "ppo.gamma 0.99, not 0.5; to continue with the settings in its config.json: " in capsys.readouterr().err
    last = max((trained / "checkpoints").iterdir())
    (last / "model.safetensors").write_bytes(b"damaged")
    assert main(["resume", str(trained)]) == 0  # from the checkpoint before, if there is one
    assert "Scoring 2 episodes" in capsys.readouterr().out
    (trained / "score.json").unlink()
    assert main(["resume", str(trained)]) == 0
    assert "Scoring 2 episodes" in capsys.readouterr().out
    assert (trained / "score.json").exists()


@pytest.mark.parametrize(
    ("work", "named"),
    [
        ("mappo.evaluation.score_run.evaluate_run", "score, replay and report"),
        ("mappo.evaluation.score_run.draw_replay", "replay and report"),
        ("mappo.experiments.report.report.report_at_end", "report"),
    ],
)
def test_a_stop_after_the_training_names_what_is_missing_and_a_resume_makes_it(
    work: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)

    def stop(*_: object, **__: object) -> None:
        raise Stopped(signal.SIGINT)

    run = tmp_path / "runs/x"
    options = [*OPTIONS.split(), "--run.score-episodes", "2", "--run.replay-episodes", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(work, stop)
        assert main(["train", "spread", "--run.name", "x", *options]) == 128 + signal.SIGINT
    assert f"Finished and saved in {run}, without its {named}: stopped.  Go on with:  mappo resume {run}\n" in (
        capsys.readouterr().out
    )
    scored = (run / "score.json").read_bytes() if "score" not in named else b""
    assert main(["resume", str(run)]) == 0
    assert (run / "replay.gif").exists()
    assert (run / "report.html").exists()
    out = capsys.readouterr().out
    assert ("Scoring 2 episodes" in out) == ("score" in named)
    assert not scored or scored == (run / "score.json").read_bytes()
    os.utime(run / "replay.gif", (0, 0))  # of a shorter run
    assert main(["resume", str(run)]) == 0
    assert capsys.readouterr().out.startswith(f"{run} lacks its replay; trying again\n")
    assert main(["resume", str(run)]) == 0
    assert capsys.readouterr().out.startswith(f"{run} is complete: ")
