"""Environments that hang, shout and fall over: the program keeps its word, and its exit code, all the same."""

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
import torch

import mappo
from mappo import checkpoint, evaluate
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.envs import closing, pool
from mappo.envs.checker import check
from mappo.envs.parallel import ParallelEnvs
from mappo.envs.pool import WorkerPool
from mappo.signals import Patience

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
TESTS = str(Path(__file__).parent)


def small(path: Path, workers: int = 0, **env: Any) -> Config:
    return Config(
        env=EnvConfig(num_envs=2, workers=workers, **env),
        network=NetworkConfig(hidden=(8,)),
        ppo=PPOConfig(rollout_length=4, epochs=1),
        run=RunConfig(total_steps=24, eval_interval=8, eval_episodes=2, dir=str(path), progress="off"),
    )


def program(*args: str, settings: str = "") -> tuple[list[str], dict[str, str]]:
    """The command `mappo ...` with shorter waits, and its variables, by which it finds `hostile`."""
    code = f"from mappo import cli\ncli.CLOSING = cli.ENDING = 0.5\n{settings}\ncli.entry()"
    path = os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])
    return [sys.executable, "-c", code, *args], os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def told(*args: str, settings: str = "") -> tuple[int, str, str]:
    """Its exit code, standard output and standard error."""
    command, variables = program(*args, settings=settings)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables, timeout=120)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


# Closing


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (hostile.CloseHangs, r"close\(\) had not come back after 0\.3 s, and is waited for no longer"),
        (hostile.CloseRaises, r"close\(\) raised OSError: the simulator is gone"),
        (hostile.CloseExits, r"close\(\) raised SystemExit: 7"),
    ],
)
def test_a_close_that_fails_costs_nothing_that_was_done(
    make: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(closing, "limit", Patience(0.3))
    with pytest.warns(UserWarning, match=message):
        run = mappo.train(make, small(tmp_path / "run"))
    assert run.finished
    with pytest.warns(UserWarning, match="close"):
        assert run.evaluate(2, env=make)["episodes"] == 2


def test_a_worker_whose_close_hangs_is_killed_and_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pool, "CLOSE_TIMEOUT", 0.3)
    env = WorkerPool(hostile.CloseHangs, 2, 2)
    env.reset(0)
    message = (
        r"^worker 0 \(environments 1\) and worker 1 \(environments 0\) did not close the environments within 0.3 s, "
        r"and were killed$"
    )
    with pytest.warns(UserWarning, match=message):
        env.close()
    env.close()


def test_a_worker_leaves_whatever_threads_there_are():
    env = WorkerPool(hostile.LeavesThreads, 2, 1)
    env.reset(0)
    process: Any = env._members[0].process  # pyright: ignore[reportPrivateUsage]
    env.close()
    assert process.returncode == 0, "by itself"


def test_a_check_names_a_close_that_hangs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(closing, "limit", Patience(0.3))
    [violation] = check(hostile.CloseHangs, 1).violations
    assert violation.code == "raised"
    assert "close raised CloseTimeoutError: the environment's close() had not come back" in violation.message
    assert "in close: time.sleep(1000)" in violation.message


def test_one_that_hung_is_enough_of_its_kind(monkeypatch: pytest.MonkeyPatch):
    """The first takes all the time that there is, and the others none."""
    closed: list[int] = []

    class Counted(hostile.CloseHangs):
        def close(self) -> None:
            closed.append(1)
            super().close()

    monkeypatch.setattr(closing, "limit", Patience(0.3))
    with pytest.warns(UserWarning, match=r"after 0\.3 s"):
        closing.close(*[Counted() for _ in range(5)])
    assert len(closed) == 1


def test_each_is_closed_whatever_another_one_raises():
    closed: list[int] = []

    class Counted(hostile.CloseRaises):
        def close(self) -> None:
            closed.append(1)
            super().close()

    with pytest.warns(UserWarning, match="the simulator is gone"):
        closing.close(*[Counted() for _ in range(3)])
    assert len(closed) == 3


def test_nothing_is_interrupted_behind_a_close():
    before = time.monotonic()
    with Patience(0.2), Patience(0.2):
        pass
    time.sleep(0.5)
    assert time.monotonic() - before >= 0.5


def test_threads_that_an_environment_leaves_do_not_keep_the_program():
    code, out, err = told("check", "hostile:LeavesThreads")
    assert code == 0
    assert "ready to train" in out
    assert err == "mappo: ended by force, for the environment left threads that go on: reader, writer, 6 more\n"


@pytest.mark.skipif(sys.platform != "linux", reason="made of glibc's mutexes")
def test_a_close_that_cannot_be_interrupted_ends_the_program():
    code, _, err = told("check", "hostile:CloseCannotBeInterrupted")
    assert code == 2
    assert err == "mappo: ended by force, for the environment's close() cannot be interrupted: mend it\n"


# Games that never end


def stopped(number: signal.Signals, mark: Path, *args: str) -> tuple[int, str, str]:
    """As `told`, of a program that gets a signal while it plays the games of an evaluation or a score."""
    command, variables = program(*args)
    variables |= {"MARK": str(mark)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables) as process:
        try:
            last = time.monotonic() + 60
            while not mark.exists() and process.poll() is None and time.monotonic() < last:
                time.sleep(0.02)
            time.sleep(0.3)
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
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
    assert err == "\nmappo: stopping after this update, and saving; once more leaves at once\n"
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
        if len(calls) > 3 * 7:  # three evaluations, of two games side by side
            raise mappo.StopTraining

    run = mappo.train(hostile.Drawn, small(tmp_path / "run"), stop=stop)
    assert run.finished
    assert len(calls) == 3 * 7 + 1
    assert np.isfinite(run.metrics["eval_return"]).all()


def test_a_replay_of_a_game_that_goes_on_shows_its_beginning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evaluate, "MAX_DRAWN", 10)
    env = ParallelEnvs(hostile.NeverEnds, 1)
    with pytest.warns(UserWarning, match="the game of seed 5 is shown up to step 10: it went on"):
        frames = evaluate.replay(env, lambda obs, memory=None, **_: (torch.zeros(1, 2, 3), memory), [5])
    assert len(frames) == 10 + 4
