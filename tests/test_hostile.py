"""Environments that hang, shout and fall over: the program keeps its word, and its exit code, all the same."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hostile
import pytest

import mappo
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.envs import closing, pool
from mappo.envs.checker import check
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
