"""Environments that hang, shout and fall over: the program keeps its word, and its exit code, all the same."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hostile
import mappo
from mappo.cli import main as cli
from mappo.cli.close_limit import LimitedClose
from mappo.cli.signals import Signals
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.config.settings import EnvOptions
from mappo.envs import check_name as check_named
from mappo.envs.check.checker import check
from mappo.envs.vector import pool
from mappo.envs.vector.pool import WorkerPool
from mappo.envs.vector.serial import SerialEnvs
from mappo.errors import UserError
from mappo.evaluation import episodes as playing, replay as pictures
from mappo.evaluation.options import EvaluateOptions
from mappo.evaluation.score_run import evaluate_run
from mappo.runs import checkpoint
from mappo.system import tracebacks as trace
from mappo.system.shutdown import close_all
from paths import PYTHONPATH

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")


def small(path: Path, workers: int = 0, **env: Any) -> Config:
    return Config(
        env=EnvConfig(num_envs=2, workers=workers, **env),
        network=NetworkConfig(hidden=(8,)),
        ppo=PPOConfig(rollout_length=4, epochs=1),
        run=RunConfig(total_steps=24, eval_interval=8, eval_episodes=2, dir=str(path), progress="off"),
    )


def program(*args: str, settings: str = "") -> tuple[list[str], dict[str, str]]:
    """The command `mappo ...` with shorter waits, and its variables, by which it finds `hostile`."""
    code = f"from mappo.cli import main as cli\ncli.CLOSING = cli.ENDING = 0.5\n{settings}\ncli.entry()"
    return [sys.executable, "-c", code, *args], os.environ | {"PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}


def told(*args: str, settings: str = "") -> tuple[int, str, str]:
    """Its exit code, standard output and standard error."""
    command, variables = program(*args, settings=settings)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables, timeout=600)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


# Closing


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (hostile.CloseHangs, r"close\(\) did not return within 0\.3 s, and is waited for no longer"),
        (hostile.CloseRaises, r"close\(\) raised OSError: the simulator is gone"),
        (hostile.CloseExits, r"close\(\) raised SystemExit: 7"),
    ],
)
def test_a_close_that_fails_costs_nothing_that_was_done(make: Any, message: str, tmp_path: Path):
    limit = LimitedClose(0.3)
    with pytest.warns(UserWarning, match=message):
        run = mappo.train(make, small(tmp_path / "run"), stop=Signals(limit))
    assert run.finished
    with pytest.warns(UserWarning, match="close"):
        assert evaluate_run(run.path, EvaluateOptions(2), env=make, close_limit=limit)["episodes"] == 2


def test_a_worker_whose_close_hangs_is_killed_and_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pool, "CLOSE_TIMEOUT", 0.3)
    env = WorkerPool(hostile.CloseHangs, 2, EnvOptions(workers=2))
    env.reset(0)
    message = (
        r"^worker 0 \(environments 1\) and worker 1 \(environments 0\) did not close the environments within 0.3 s, "
        r"and were killed$"
    )
    with pytest.warns(UserWarning, match=message):
        env.close()
    env.close()


def test_a_worker_leaves_whatever_threads_there_are():
    env = WorkerPool(hostile.LeavesThreads, 2, EnvOptions(workers=1))
    env.reset(0)
    process: Any = env._handles[0].process  # pyright: ignore[reportPrivateUsage]
    env.close()
    assert process.returncode == 0, "by itself"


def test_a_check_names_a_close_that_hangs():
    [violation] = check(hostile.CloseHangs, 1, close_limit=LimitedClose(0.3)).violations
    assert violation.code == "close-raised"
    assert "close raised CloseTimeoutError: the environment's close() did not return within" in violation.message
    assert "in close: time.sleep(HANG)" in violation.message


def test_one_that_hung_is_enough_of_its_kind():
    """The first takes all the time that there is, and the others none."""
    closed: list[int] = []

    class Counted(hostile.CloseHangs):
        def close(self) -> None:
            closed.append(1)
            super().close()

    with pytest.warns(UserWarning, match=r"within 0\.3 s"):
        close_all(*[Counted() for _ in range(5)], limit=LimitedClose(0.3))
    assert len(closed) == 1


def test_each_is_closed_whatever_another_one_raises():
    closed: list[int] = []

    class Counted(hostile.CloseRaises):
        def close(self) -> None:
            closed.append(1)
            super().close()

    with pytest.warns(UserWarning, match="the simulator is gone"):
        close_all(*[Counted() for _ in range(3)])
    assert len(closed) == 3


def test_nothing_is_interrupted_behind_a_close():
    before = time.monotonic()
    with LimitedClose(0.2)(), LimitedClose(0.2)():
        pass
    time.sleep(0.5)
    assert time.monotonic() - before >= 0.5


def test_threads_that_an_environment_leaves_do_not_keep_the_program():
    code, out, err = told("check", "hostile:LeavesThreads")
    assert code == 0
    assert "ready to train" in out
    assert err == "mappo: ended by force, because the environment left threads that go on: reader, writer, 6 more\n"


@pytest.mark.skipif(sys.platform != "linux", reason="made of glibc's mutexes")
def test_a_close_that_cannot_be_interrupted_ends_the_program():
    code, _, err = told("check", "hostile:CloseCannotBeInterrupted")
    assert code == 2
    assert (
        err
        == "mappo: ended by force, because the environment's close() cannot be interrupted: it must return or raise\n"
    )


# Games that never end


def stopped(number: signal.Signals, mark: Path, *args: str) -> tuple[int, str, str]:
    """As `format_error`, of a program that gets a signal while it plays the games of an evaluation or a score."""
    command, variables = program(*args)
    variables |= {"MARK": str(mark)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables) as process:
        try:
            last = time.monotonic() + 600
            while not mark.exists() and process.poll() is None and time.monotonic() < last:
                time.sleep(0.02)
            time.sleep(0.3)
            process.send_signal(number)
            out, err = process.communicate(timeout=600)
        finally:
            process.kill()
    return process.returncode, out, err


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 2), (signal.SIGTERM, 0)])
def test_a_signal_ends_an_evaluation_within_training(number: signal.Signals, workers: int, tmp_path: Path):
    path = tmp_path / "run"
    options = "--env.num-envs 2 --network.hidden 8 --ppo.rollout-length 4 --ppo.epochs 1 --run.eval-episodes 2"
    options += f" --run.total-steps 24 --run.eval-interval 8 --env.workers {workers} --run.dir {path}"
    code, out, err = stopped(number, tmp_path / "mark", "train", "hostile:NeverEnds", *options.split())
    assert code == 128 + number
    assert err == "\nmappo: stopping, and saving the last finished update; press Ctrl-C again to leave at once\n"
    assert f"Stopped at step 8 and saved.  Go on with:  mappo resume {path} --allow-code" in out
    assert checkpoint.load(path).state["step"] == 8
    assert mappo.Run(path, "", Config(), 0).metrics["step"].tolist() == [8], "the row of that update"


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 2)])
def test_a_signal_ends_a_score(number: signal.Signals, workers: int, tmp_path: Path):
    path = mappo.train(partial(hostile.Drawn, masks=False, state=False), small(tmp_path / "run")).path
    config = path / "config.json"
    config.write_text(re.sub('"env": "custom/[^"]*"', '"env": "hostile:NeverEnds"', config.read_text()))
    args = ["evaluate", str(path), "--allow-code", "--workers", str(workers)]
    assert stopped(number, tmp_path / "mark", *args) == (128 + number, "", "mappo: stopped\n")


def test_the_baselines_of_a_run_that_is_complete_are_not_waited_for(tmp_path: Path):
    calls: list[int] = []

    def stop() -> None:
        calls.append(1)
        if len(calls) > 3 * (7 + 1):  # three evaluations, of two games side by side, and three updates
            raise mappo.StopTraining

    run = mappo.train(hostile.Drawn, small(tmp_path / "run"), stop=stop)
    assert run.finished
    assert len(calls) == 3 * (7 + 1) + 1
    assert np.isfinite(run.metrics["eval_return"]).all()


def test_a_replay_of_a_game_that_goes_on_shows_its_beginning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pictures, "LONG_EPISODE", 10)
    env = SerialEnvs(hostile.NeverEnds, 1)
    with pytest.warns(UserWarning, match="the episode of seed 5 did not end: it is shown up to step 10"):
        [frames] = pictures.replay(env, lambda obs, memory=None, **_: (torch.zeros(1, 2, 3), memory), [5])
    assert len(frames) == 10


# What they raise


@pytest.mark.parametrize(
    ("error", "workers"),
    [
        *((error, workers) for error in (ValueError, SystemExit, GeneratorExit, hostile.Mine) for workers in (0, 2)),
        (KeyboardInterrupt, 2),  # in this process it may be the user's: see the test of that
    ],
)
def test_whatever_an_environment_raises_is_told_from_its_first_line_on_and_the_run_saved(
    error: type[BaseException], workers: int, tmp_path: Path
):
    config = small(tmp_path / "run", workers)
    with pytest.raises(UserError) as raised:
        mappo.train(partial(hostile.Raises, error), config)
    what, title, first, *rest = str(raised.value).splitlines()
    assert re.search(r"environment \d \(seed \d+, episode 1\) failed as it was stepped:$", what)
    assert title == "Traceback (most recent call last):"
    assert re.search(r'hostile\.py", line \d+, in step$', first), "nothing of ours ahead of it"
    assert "".join(rest).count("in fail") == 3
    assert rest[-2].endswith(f"{error.__name__}: no more")
    assert rest[-1] == f"The run is saved at step 8; mappo resume {config.run.dir} goes on with it"
    assert checkpoint.load(tmp_path / "run").state["step"] == 8


def test_lines_of_ours_between_theirs_stay():
    def cause() -> None:
        check_named(3)  # pyright: ignore[reportArgumentType]

    def act(_now: dict[str, Any]) -> None:
        try:
            cause()
        except TypeError as error:
            raise RuntimeError("all is lost") from error

    env = SerialEnvs(partial(hostile.Drawn, act=act), 1)
    env.reset(0)
    with pytest.raises(UserError) as raised:
        env.step(torch.zeros(1, 2, 3))
    frames = re.findall(r"line \d+, in (\w+)", str(raised.value))
    assert frames == ["act", "cause", "check_name", "is_code", "step", "act"]
    assert "The above exception was the direct cause of the following exception" in str(raised.value)


def test_a_cause_begins_with_the_users_line_too():
    def policy(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError) as raised:
        playing.play_episodes(SerialEnvs(hostile.Drawn, 1), policy, [1])
    error = RuntimeError("all is lost")
    error.__cause__ = raised.value.with_traceback(raised.tb.tb_next)  # it begins in `play`
    assert re.findall(r"line \d+, in (\w+)", trace.format_error(error)) == ["policy"]


def test_an_error_of_ours_alone_keeps_its_lines():
    with pytest.raises(TypeError) as raised:
        check_named(3)  # pyright: ignore[reportArgumentType]
    error = raised.value.with_traceback(raised.tb.tb_next)
    assert "in check_name" in trace.format_error(error)


@contextmanager
def ctrl_c(handler: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_is_no_users_where_none_is_heard():
    env = SerialEnvs(hostile.RaisesInterrupt, 1)
    with ctrl_c(signal.SIG_IGN), pytest.raises(UserError, match=r"failed as it was stepped:[^$]*KeyboardInterrupt"):
        playing.play_episodes(env, lambda obs, memory=None, **_: (torch.zeros(1, 2, 3), memory), [1, 2])


@pytest.mark.parametrize("interval", [8, 1000])
def test_an_interrupt_in_this_process_may_be_the_users_and_passes_with_the_run_saved(interval: int, tmp_path: Path):
    """In the first evaluation, and in the second rollout."""
    config = small(tmp_path / "run")
    config = replace(config, run=replace(config.run, eval_interval=interval))
    with ctrl_c(signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        mappo.train(hostile.RaisesInterrupt, config)
    assert checkpoint.load(tmp_path / "run").state["step"] == 8
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 2


def test_an_interrupt_of_an_environments_own_is_told_by_the_program():
    code, _, err = told("check", "hostile:RaisesInterrupt")
    assert (code, err) == (2, "mappo: stopped by a KeyboardInterrupt of the environment\n")


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (lambda _: 1 // 0, r"environment 0 \(seed 1000000, episode 0\) failed as it was rendered:\nTraceback"),
        (lambda _: np.zeros((8, 8)), r"make no replay: frames must all be uint8 \(H, W, 3\), got float64 \(8, 8\)"),
        (lambda game: np.zeros((8, 8 + game.clock, 3), np.uint8), r"got uint8 \(8, 9, 3\) after \(8, 8, 3\)"),
    ],
)
def test_pictures_that_are_none_are_told(
    picture: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = mappo.train(hostile.Drawn, small(tmp_path / "run")).path
    config = path / "config.json"
    config.write_text(config.read_text().replace("custom/Drawn", "hostile:Drawn"))
    monkeypatch.setattr(hostile.Drawn, "render", picture)
    assert cli.main(["play", str(path), "--allow-code"]) == 2
    assert re.search(message, capsys.readouterr().err)


# What they print


def test_what_they_print_stays_out_of_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = mappo.train(hostile.Drawn, small(tmp_path / "run")).path
    config = path / "config.json"
    config.write_text(config.read_text().replace("custom/Drawn", "hostile:Prints"))
    capfd.readouterr()
    for command, shown in (("play", str(path / "replay.gif")), ("evaluate", "2 episodes"), ("check", "ready to train")):
        args = [str(path), "--allow-code", "--episodes", "2"] if command != "check" else ["hostile:Prints"]
        assert cli.main([command, *args]) == 0
        out, err = capfd.readouterr()
        assert "hello" not in out
        assert shown in out
        assert "hello from Python" in err
        assert "hello from a program" in err
        if command == "play":
            assert out == shown + "\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(closed: str):
    command, variables = program("check", "hostile:Prints")
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
    done = subprocess.run(shell, capture_output=True, text=True, check=False, env=variables, timeout=600)
    assert done.returncode == 0
    assert ("ready to train" in done.stdout) == (closed == "2>&-")
    assert "Traceback" not in done.stderr
