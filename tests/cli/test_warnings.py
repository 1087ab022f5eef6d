"""A warning of the job's end (SIGUSR1, SIGUSR2): the update and its evaluation finish, and the run leaves with 3."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from mappo.backend.ranks import Ranks
from mappo.cli import main as cli
from mappo.cli.signals import Signals, start_listening, stop_listening
from mappo.errors import StopTraining
from mappo.runs.logger import Update
from mappo.system.shutdown import Interrupts
from mappo.system.signals import _held, hold  # pyright: ignore[reportPrivateUsage]
from mappo.training.session import Session
from mappo.training.shares import end_update
from training_runs import assert_same

SMALL = [
    *("--env.num-envs", "8", "--network.hidden", "8", "--ppo.epochs", "1", "--ppo.minibatches", "1"),
    *("--ppo.rollout-length", "5", "--run.total-steps", "240", "--run.eval-interval", "80", "--run.eval-episodes", "8"),
    *("--run.score-episodes", "0", "--run.replay-episodes", "0", "--run.progress", "off"),
]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_the_update_and_its_evaluation_finish_and_a_resume_is_exact(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    collect = Session._collect_and_learn  # pyright: ignore[reportPrivateUsage]

    def collect_and_warn(session: Session, *args: Any) -> Any:
        if session.updates_done == 3:  # an evaluation follows the update
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        return collect(session, *args)

    warned, whole = tmp_path / "warned", tmp_path / "whole"
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "_collect_and_learn", collect_and_warn)
        assert cli.main(["train", "spread", *SMALL, "--run.dir", str(warned)]) == 3
    assert signal.getsignal(number) == before
    shown = capsys.readouterr().out
    assert f"Stopped at step 160 by {number.name} and saved.  Go on with:  mappo resume {warned}\n" in shown
    assert cli.main(["resume", str(warned), "--progress", "off"]) == 0
    assert cli.main(["train", "spread", *SMALL, "--run.dir", str(whole)]) == 0
    assert_same(whole, warned)


def test_a_run_that_is_complete_when_warned_is_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(Signals, "early_warning", signal.SIGUSR1)
    length = ["--run.total-steps", "40", "--run.score-episodes", "8"]
    assert cli.main(["train", "spread", *SMALL, *length, "--run.dir", str(tmp_path / "run")]) == 0
    assert "Finished and saved in" in (shown := capsys.readouterr().out)
    assert "without its score and report: the job is about to end" in shown


def test_a_warning_ahead_of_the_training_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Signals, "early_warning", 0)
    monkeypatch.setattr(signal, "set_wakeup_fd", lambda *_, **__: -1)
    start_listening()
    try:
        signal.raise_signal(signal.SIGUSR2)
        with Signals() as signals:
            signals()  # an evaluation goes on
            with pytest.raises(StopTraining):
                signals.check_between_updates()
    finally:
        stop_listening()
        signal.raise_signal(signal.SIGUSR2)  # too late for anything
        for number, first in [*_held.items()]:
            hold(number, first)


class Other(Ranks):
    """Two processes, the other of which was warned."""

    size = 2

    def largest(self, *values: float) -> list[float]:
        return [max(pair) for pair in zip(values, (1.0, 0.0, float(signal.SIGUSR1)), strict=True)]

    def sum(self, x: Tensor) -> Tensor:
        raise AssertionError


def test_a_warning_of_another_process_stops_this_one_with_its_reason():
    signals = Signals()
    with pytest.raises(StopTraining):
        end_update(Other(), signals, None, Update(1, 1, 1, {}, {}), None)
    assert (signals.caught, signals.reason) == (0, " by SIGUSR1")
    alone = Interrupts()
    end_update(Ranks(), alone, None, Update(1, 1, 1, {}, {}), None)
    assert alone.warned == 0
