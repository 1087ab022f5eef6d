"""The worker pool: the same numbers as the plain loop, and what happens when a worker is lost."""

import ctypes
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mappo
import mappo.runs.checkpoint
from games import Act, Game, die, die_late, die_once, fail, hang, leave, made_at
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.config.settings import EnvOptions
from mappo.core.protocols import Environment
from mappo.core.timestep import TimeStep
from mappo.envs.vector.pool import WorkerPool
from mappo.envs.vector.serial import SerialEnvs
from mappo.envs.vector.slices import half_slices, worker_ranges
from mappo.errors import UserError
from mappo.evaluation.episodes import play_episodes
from mappo.runs import checkpoint
from paths import PYTHONPATH
from vectorized import from_factory

pytestmark = pytest.mark.skipif(os.name == "nt", reason="worker processes need POSIX")


@contextmanager
def pool(make: Callable[[], Any] = Game, num_envs: int = 5, workers: int = 2, **settings: Any) -> Iterator[WorkerPool]:
    env = WorkerPool(make, num_envs, EnvOptions(workers=workers, **settings))
    try:
        yield env
    finally:
        env.close()


def same(a: TimeStep, b: TimeStep) -> None:
    for field in fields(TimeStep):
        x, y = getattr(a, field.name), getattr(b, field.name)
        assert (x is None) == (y is None), field.name
        assert x is None or (x.dtype == y.dtype and torch.equal(x, y)), field.name


def actions(env: Environment, generator: torch.Generator) -> Tensor:
    choice = torch.randint(3, (env.num_envs, 2, 1), generator=generator)
    return torch.cat([choice, torch.randn(env.num_envs, 2, 2, generator=generator)], -1)


def steps(env: Environment, count: int) -> None:
    for _ in range(count):
        env.step(torch.zeros(env.num_envs, 2, 3))


@pytest.mark.parametrize(("num_envs", "workers"), [(1, 1), (2, 2), (3, 2), (5, 1), (5, 3), (5, 9), (8, 2)])
def test_a_pool_is_the_plain_loop(num_envs: int, workers: int):
    """Law 10: masks, deaths, returns, ends and time limits included, bit for bit, whatever the number of workers."""
    loop, generator = SerialEnvs(Game, num_envs), torch.Generator().manual_seed(0)
    with pool(num_envs=num_envs, workers=workers) as env:
        assert env.spec == loop.spec
        for seed in (3, [7 * i for i in range(num_envs)], None):
            same(env.reset(seed), loop.reset(seed))
            for _ in range(20):
                action = actions(env, generator)
                same(env.step(action), loop.step(action))


def test_halves_stepped_in_turn_are_the_whole():
    loop, generator = SerialEnvs(Game, 5), torch.Generator().manual_seed(0)
    with pool() as env:
        env.reset(3), loop.reset(3)
        assert env.slices == (slice(0, 2), slice(2, 5))
        for _ in range(20):
            action = actions(env, generator)
            whole = loop.step(action)
            for index, part in enumerate(env.slices):
                env.send(index, action[part])
            for index, part in enumerate(env.slices):
                half = env.receive(index)
                for field in fields(TimeStep):
                    x = getattr(whole, field.name)
                    assert torch.equal(getattr(half, field.name), x[part]), field.name


def test_what_a_step_showed_is_not_written_over():
    with pool() as env:
        env.reset(0)
        generator = torch.Generator().manual_seed(0)
        first = env.step(actions(env, generator))
        kept = {f.name: getattr(first, f.name).clone() for f in fields(TimeStep)}
        env.step(actions(env, generator))
        assert all(torch.equal(getattr(first, name), x) for name, x in kept.items())


def test_workers_load_no_torch_and_have_one_thread_and_a_process_group_of_their_own():
    def make() -> Game:
        assert "torch" not in sys.modules
        assert os.environ["OMP_NUM_THREADS"] == "1"
        assert os.getpgid(0) == os.getpid()
        return Game()

    with pool(make) as env:
        env.reset(0)


def test_lambdas_and_functions_of_the_main_script_need_no_guard(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "from games import Game\n"
        "from mappo.envs.vector.pool import WorkerPool\n"
        "print('started')\n"
        "class Mine(Game): pass\n"
        "size = 9\n"
        "from mappo.config.settings import EnvOptions\n"
        "env = WorkerPool(lambda: Mine(size), 4, EnvOptions(workers=2))\n"
        "assert env.reset(0).obs.shape == (4, 2, 4)\n"
        "env.close()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")


def test_what_cannot_be_sent_is_told():
    lock = __import__("threading").Lock()
    with pytest.raises(UserError, match=r"cannot be sent to worker processes .*--env.workers 0"):
        WorkerPool(lambda: (lock, Game())[1], 2, EnvOptions(workers=1))


def test_environments_that_cannot_be_made_are_told_by_number_and_cause():
    def make() -> Game:
        raise RuntimeError("no display")

    with pytest.raises(UserError, match=r"environment \d failed as it was made:[^$]*RuntimeError: no display"):
        WorkerPool(make, 4, EnvOptions(workers=2))
    with pytest.raises(UserError, match="is not an environment of PettingZoo's Parallel API"):
        WorkerPool(dict, 4, EnvOptions(workers=2))


def test_an_error_of_the_environment_is_told_with_its_seed_and_traceback():
    def act(now: dict[str, Any]) -> None:
        if now["seed"] == 13 and now["clock"] == 1:
            raise ZeroDivisionError("a bug")

    loop, generator = SerialEnvs(lambda: Game(act=act), 5), torch.Generator().manual_seed(0)
    with pool(lambda: Game(act=act)) as env:
        for either in (loop, env):
            either.reset(10)
            either.step(actions(either, generator))
            with pytest.raises(UserError) as told:
                either.step(actions(either, generator))
            assert "environment 3 (seed 13, episode 0) failed as it was stepped" in str(told.value)
            assert "in act" in str(told.value), "where"
            assert str(told.value).rstrip().endswith("ZeroDivisionError: a bug")


@pytest.mark.parametrize(
    ("act", "timeout", "message"),
    [
        (
            die,
            60.0,
            r"worker 0 \(environments 0 and 3-4\) was killed by SIGKILL while environment 3 \(seed 13, episode 0\)",
        ),
        (hang, 0.5, r"gave no answer for 0.5 s while environment 3 \(seed 13, episode 0\) was at work[^$]*in hang"),
    ],
)
def test_a_worker_that_is_lost_is_named(act: Act, timeout: float, message: str):
    generator = torch.Generator().manual_seed(0)
    with pool(lambda: Game(act=act), worker_timeout=timeout) as env:
        env.reset(10)
        env.step(actions(env, generator))
        with pytest.raises(UserError, match=message):
            env.step(actions(env, generator))
        processes = [m.process for m in env._handles]  # pyright: ignore[reportPrivateUsage]
        assert all(p.poll() is not None for p in processes), "nobody is left"


@pytest.mark.parametrize("act", [die, hang])
def test_a_worker_that_is_lost_is_replaced_and_its_episodes_are_cut_off(act: Act):
    loop, generator = SerialEnvs(Game, 5), torch.Generator().manual_seed(0)
    with pool(lambda: Game(act=act), restart=True, worker_timeout=0.7) as env:
        env.reset(10), loop.reset(10)
        action = actions(env, generator)
        before, _ = env.step(action), loop.step(action)
        action = actions(env, generator)
        with pytest.warns(UserWarning, match="It is replaced, and its episodes begin anew"):
            step, kept = env.step(action), loop.step(action)
        # Environment 0 is of the half that had been answered: it is told at the next step.
        for lost, well, last in (([3, 4], [0, 1, 2], before), ([0], [1, 2], step)):
            if lost == [0]:
                action = actions(env, generator)
                step, kept = env.step(action), loop.step(action)
            assert step.ended.tolist() == [i in lost for i in range(5)]
            assert not step.terminated[lost].any(), "cut off: what was reached still counts"
            assert not step.reward[lost].any()
            assert step.is_first[lost].all()
            assert torch.equal(step.next_obs[lost], last.obs[lost])
            assert torch.equal(step.next_active[lost], last.active[lost])
            for field in fields(TimeStep):
                assert torch.equal(getattr(step, field.name)[well], getattr(kept, field.name)[well])
            seeds = [int(np.random.SeedSequence([10 + i, 1]).generate_state(1)[0]) % 2**31 for i in lost]
            assert step.obs[lost, 1, 0].tolist() == [s % 997 for s in seeds], "the next episodes of the same seeds"
        after = env.step(actions(env, generator))
        assert not after.ended[[0, 3, 4]].any()
        assert after.obs[[0, 3, 4], 1, 1].tolist() == [1, 2, 2]
        assert env.restarts == 1


@pytest.mark.parametrize("first", [True, False])
def test_halves_of_a_lost_worker_are_told_once_each(first: bool):
    """A half that was not under way learns of it at its next step, and acts in its new episode only then."""

    def act(now: dict[str, Any]) -> None:
        if now["seed"] == (10 if first else 13) and now["clock"] == 1:
            os._exit(3)

    generator = torch.Generator().manual_seed(0)
    with pool(lambda: Game(act=act), restart=True) as env, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        env.reset(10)
        seen: list[list[TimeStep]] = [[], []]
        for _ in range(2):
            for index in (0, 1):
                env.send(index, actions(env, generator)[env.slices[index]])
                seen[index].append(env.receive(index))  # never both under way
        assert len(told) == 1
        for _ in range(2):
            for index in (0, 1):
                env.send(index, actions(env, generator)[env.slices[index]])
                seen[index].append(env.receive(index))
        # Environment 0 is of the first half; 3 and 4 are the second and third of the other; all of the lost worker.
        ended = [[step.ended.tolist() for step in half] for half in seen]
        assert [e[0] for e in ended[0]] == ([False, True, False, False] if first else [False, False, True, False])
        assert [e[1:] for e in ended[1]] == [[False] * 2, [True] * 2, [False] * 2, [False] * 2]
        clock = [step.obs[-1, 1, 1].item() for step in seen[1]]
        assert clock == [1, 0, 1, 2]


def test_a_worker_that_dies_again_and_again_is_given_up():
    def act(now: dict[str, Any]) -> None:
        if now["clock"] == 0:
            os._exit(3)

    with pool(lambda: Game(act=act), restart=True) as env, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env.reset(0)
        with pytest.raises(UserError, match=r"ended with exit code 3 while environment .* \(4 times in a row\)"):
            steps(env, 9)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (leave, r"worker 0 \(environments 0 and 1-2\) ended with exit code 3 as its environments were made"),
        (fail, r"worker 0 \(environments 0 and 1-2\): environment \d failed as it was made:[^$]*the port is taken"),
    ],
)
def test_a_worker_that_is_lost_as_the_pool_starts_is_replaced(how: Callable[[], Any], message: str, tmp_path: Path):
    make = partial(made_at, {0, 1}, tmp_path / "count", how)
    with pytest.raises(UserError, match=message):
        WorkerPool(make, 3, EnvOptions(workers=1))
    loop = SerialEnvs(Game, 3)
    (tmp_path / "count").unlink()
    with pytest.warns(UserWarning, match=message + r"\nIt is replaced; it was process \d+\.$"):
        env = WorkerPool(make, 3, EnvOptions(workers=1, restart=True))
    try:
        assert env.restarts == 2
        same(env.reset(0), loop.reset(0))
    finally:
        env.close()


def test_a_worker_that_is_lost_whenever_the_pool_starts_is_given_up(tmp_path: Path):
    make = partial(made_at, set(range(99)), tmp_path / "count", leave)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserError, match=r"as its environments were made \(4 times in a row"):
            WorkerPool(make, 3, EnvOptions(workers=1, restart=True))
    assert len((tmp_path / "count").read_text()) == 4


def test_a_function_that_is_wrong_is_not_tried_again(tmp_path: Path):
    make = partial(made_at, set(range(99)), tmp_path / "count", dict)
    with pytest.raises(UserError, match="is not an environment of PettingZoo's Parallel API"):
        WorkerPool(make, 1, EnvOptions(workers=1, restart=True))
    assert len((tmp_path / "count").read_text()) == 1


def test_a_worker_that_dies_within_a_message_is_named():
    def act(now: dict[str, Any]) -> None:
        if now["seed"] == 13 and now["clock"] == 1:
            os.write(int(sys.argv[1]), b"\x00\x00\x00\x64only")  # four of a hundred bytes, where it answers
            os._exit(3)

    with pool(lambda: Game(act=act)) as env:
        env.reset(10)
        with pytest.raises(UserError, match=r"ended with exit code 3 while environment 3 \(seed 13, episode 0\)"):
            steps(env, 3)


def test_a_replacement_that_cannot_be_started_counts(monkeypatch: pytest.MonkeyPatch):
    with pool(lambda: Game(act=die), restart=True) as env, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env.reset(10)

        def full(*_: Any, **__: Any) -> Any:
            raise OSError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(subprocess, "Popen", full)
        with pytest.raises(UserError, match=r"Resource temporarily unavailable \(4 times in a row\)"):
            steps(env, 9)


def test_a_pool_leaves_nothing_behind():
    def threads_and_files() -> tuple[int, set[str]]:
        return len(os.listdir("/proc/self/task")), {os.readlink(f"/proc/self/fd/{f}") for f in fds()}

    def fds() -> list[str]:
        return [f for f in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{f}")]

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    gc.collect()  # what others left
    before = threads_and_files()
    shared = set(os.listdir("/dev/shm"))
    with pool() as env:
        env.reset(0)
        processes = [m.process for m in env._handles]  # pyright: ignore[reportPrivateUsage]
        assert all(p.poll() is None for p in processes)
        assert set(os.listdir("/dev/shm")) == shared, "the shared memory has no name"
    assert all(p.returncode == 0 for p in processes), "they left by themselves"
    del env
    gc.collect()
    assert threads_and_files() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_workers_hear_that_they_are_closed_though_a_process_was_forked_meanwhile():
    env = WorkerPool(Game, 4, EnvOptions(workers=2))
    processes = [m.process for m in env._handles]  # pyright: ignore[reportPrivateUsage]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads
        other = os.fork()
    if not other:
        time.sleep(60)
        os._exit(0)
    try:
        env.close()
        assert [p.returncode for p in processes] == [0, 0], "they left by themselves"
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_leave_when_the_learner_is_killed(how: signal.Signals, tmp_path: Path):
    code = (
        "from games import Game\n"
        "from mappo.envs.vector.pool import WorkerPool\n"
        "import time\n"
        "from mappo.config.settings import EnvOptions\n"
        "env = WorkerPool(Game, 4, EnvOptions(workers=2))\n"
        "print(*(m.process.pid for m in env._handles), flush=True)\n"
        "time.sleep(60)\n"
    )
    learner = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": PYTHONPATH}
    )
    with learner:
        assert learner.stdout is not None
        pids = [int(pid) for pid in learner.stdout.readline().split()]
        assert len(pids) == 2
        learner.send_signal(how)
    until(lambda: not any(map(alive, pids)))


def until(happens: Callable[[], bool]) -> None:
    """Waits, however busy the machine may be."""
    last = time.monotonic() + 600
    while not happens():
        assert time.monotonic() < last, "it never happened"
        time.sleep(0.02)


class Pools(Game):
    """Works with processes of its own, which it forks and ends."""

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if not self.episodes:
            with multiprocessing.get_context("fork").Pool(2) as helpers:
                assert helpers.map(abs, [-1, -2]) == [1, 2]
        return super().reset(seed, options)


def test_an_environment_may_work_with_processes_of_its_own():
    """They end by SIGTERM, which the worker itself does not hear."""
    with pool(Pools, 2) as env:
        same(env.reset(0), SerialEnvs(Game, 2).reset(0))


HELD = """
import ctypes, os, subprocess, time
from pathlib import Path
import torch
from games import Game
from mappo.config.settings import EnvOptions
from mappo.envs.vector.pool import WorkerPool

class Holds(Game):
    def reset(self, seed=None, options=None):
        Path("helper").write_text(str(subprocess.Popen(["sleep", "300"]).pid))
        return super().reset(seed, options)

    def step(self, actions):
        Path("held").touch()
        if "PYTHON" in os.environ:
            time.sleep(300)
        libc, lock = ctypes.PyDLL(None), ctypes.create_string_buffer(64)  # keeps the lock of the interpreter
        libc.pthread_mutex_lock(lock)
        libc.pthread_mutex_lock(lock)

env = WorkerPool(Holds, 1, EnvOptions(workers=1))
env.reset(0)
print(env._handles[0].process.pid, flush=True)
env.step(torch.zeros(1, 2, 3))
"""


@pytest.mark.slow  # it waits for the kernel's alarm
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells processes of their parent's end")
@pytest.mark.parametrize("mode", ["COMPILED", "PYTHON"])
def test_a_worker_in_compiled_code_does_not_outlive_the_learner(mode: str, tmp_path: Path):
    """Nor does what its environment has started, where Python runs at all."""
    variables = os.environ | {"PYTHONPATH": PYTHONPATH, mode: "1"}
    args = [sys.executable, "-c", HELD]
    with subprocess.Popen(args, stdout=subprocess.PIPE, env=variables, cwd=tmp_path) as learner:
        worker = int(learner.stdout.readline() if learner.stdout else 0)
        helper = int((tmp_path / "helper").read_text())
        until((tmp_path / "held").exists)
        learner.kill()
    try:
        until(lambda: not alive(worker))
        if mode == "PYTHON":
            until(lambda: not alive(helper))
    finally:
        with suppress(ProcessLookupError):
            os.kill(helper, signal.SIGKILL)


def test_a_worker_that_dies_is_missed_at_once_though_a_helper_holds_its_connection():
    def act(_now: dict[str, Any]) -> None:
        ctypes.PyDLL(None).fork() or time.sleep(300)
        os.kill(os.getpid(), signal.SIGKILL)

    with pool(partial(Game, act=act), 1, 1) as env:
        env.reset(0)
        with pytest.raises(UserError, match="was killed by SIGKILL"):
            steps(env, 1)


PAUSED = """
import os, signal, subprocess, time
import torch
from games import Game
from mappo.config.settings import EnvOptions
from mappo.envs.vector.pool import WorkerPool

class Slow(Game):
    def step(self, actions):
        time.sleep(0.7)
        return super().step(actions)

env = WorkerPool(Slow, 1, EnvOptions(workers=1, worker_timeout=1.5))
env.reset(0)
pids = f"{os.getpid()} {env._handles[0].process.pid}"
subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -STOP {pids}; sleep 2; kill -CONT {pids}"])
for _ in range(2):
    env.step(torch.zeros(1, 2, 3))
env.close()
print("done")
"""


@pytest.mark.slow
def test_a_pause_of_all_processes_is_longer_than_the_limit_of_a_worker_and_ends_nothing():
    told = subprocess.run(
        [sys.executable, "-c", PAUSED],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
    )
    assert (told.stdout, told.stderr) == ("done\n", "")


def test_a_forked_process_leaves_the_workers_to_its_parent():
    with pool() as env:
        env.reset(0)
        pid = os.fork()
        if not pid:
            env.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        steps(env, 1)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_masks_that_come_too_late_are_refused():
    with pool(lambda: Game(masks=False)) as env:
        assert env.reset(0).mask is None
    with pool() as env:
        assert env.reset(0).mask is not None


def test_warnings_of_an_environment_reach_the_learner():
    class Same(Game):
        def step(self, actions: dict[str, Any]) -> Any:
            obs, rewards, ends, cuts, infos = super().step(actions)
            self.agents = list(self.possible_agents)
            obs, infos = self._look(self.agents)
            return obs, rewards, dict.fromkeys(ends, False) | {"left": True}, dict.fromkeys(cuts, False), infos

    with pool(Same, 2, 1) as env:
        env.reset(0)
        with pytest.warns(UserWarning, match="left ended at two steps in a row"):
            steps(env, 3)


def test_a_replacement_that_dies_as_it_starts_ends_the_step_once(tmp_path: Path):
    class Fragile(Game):
        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            if (tmp_path / "lost").exists() and not (tmp_path / "again").exists():
                (tmp_path / "again").touch()
                os._exit(4)
            return super().reset(seed, options)

        def step(self, actions: dict[str, Any]) -> Any:
            if self.seed == 13 and self.clock == 1:
                (tmp_path / "lost").touch()
                os._exit(3)
            return super().step(actions)

    with pool(Fragile, restart=True) as env, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        env.reset(10)
        steps(env, 1)
        ended = [env.step(torch.zeros(5, 2, 3)).ended.tolist() for _ in range(3)]
    assert len(told) == 2
    assert [e[3:] for e in ended] == [[True, True], [False, False], [False, False]]
    assert [e[0] for e in ended] == [False, True, False], "its other half, which was not under way"


def test_what_an_environment_prints_goes_to_standard_error(capfd: pytest.CaptureFixture[str]):
    def make() -> Game:
        print("hello", flush=True)
        return Game()

    with pool(make, 2, 2) as env:
        env.reset(0)
    out, err = capfd.readouterr()
    assert (out, err.count("hello")) == ("", 2)


def test_workers_ignore_an_interrupt():
    with pool() as env:
        env.reset(0)
        for member in env._handles:  # pyright: ignore[reportPrivateUsage]
            member.process.send_signal(signal.SIGINT)
        steps(env, 3)


def test_what_was_lost_before_a_reset_is_not_told_behind_it():
    loop, generator = SerialEnvs(Game, 5), torch.Generator().manual_seed(0)
    with pool(lambda: Game(act=die), restart=True) as env:
        env.reset(10)
        with pytest.warns(UserWarning, match="It is replaced"):
            steps(env, 2)
        same(env.reset(20), loop.reset(20))
        action = actions(env, generator)
        same(env.step(action), loop.step(action))


def test_losses_with_steps_between_them_are_not_counted_together():
    def act(now: dict[str, Any]) -> None:
        if now["clock"] == 1:
            os._exit(3)

    with pool(lambda: Game(act=act), 2, 1, restart=True) as env, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env.reset(0)
        steps(env, 12)
        assert env.restarts > 4


def test_games_cut_off_by_a_lost_worker_are_played_again(tmp_path: Path):
    def policy(obs: torch.Tensor, memory: Any = None, **_: Any) -> Any:
        return torch.zeros(len(obs), 2, 3), memory

    expected = play_episodes(SerialEnvs(Game, 5), policy, range(10, 15))
    make = partial(Game, act=partial(die_once, tmp_path / "died"))
    with pool(make, restart=True) as env, pytest.warns(UserWarning, match="It is replaced"):
        played = play_episodes(env, policy, range(10, 15))
    assert (played.lengths == expected.lengths).all()
    assert (played.returns == expected.returns).all()


def test_a_worker_whose_environments_cannot_be_made_at_once_is_tried_again(tmp_path: Path):
    def make() -> Game:
        count = len(list(tmp_path.iterdir()))
        (tmp_path / str(count)).touch()
        if count == 2:
            raise RuntimeError("the port is taken")
        return Game(act=die)

    with pool(make, 2, 1, restart=True) as env, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env.reset(12)
        steps(env, 3)
        assert env.restarts == 2


def test_a_reset_waits_for_what_is_under_way():
    """A game that ends as it is reset would else count an episode of the new seed."""
    with pool(lambda: Game(horizon=1), 4, 2) as env, pool(num_envs=4) as fresh:
        env.reset(0)
        env.send(0, torch.zeros(2, 2, 3))
        env.send(1, torch.zeros(2, 2, 3))
        assert torch.equal(env.reset(5).obs, fresh.reset(5).obs)


def test_a_worker_lost_at_a_reset_begins_episodes_and_cuts_none_off(tmp_path: Path):
    class Mortal(Game):
        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            if seed == 22 and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os._exit(3)
            return super().reset(seed, options)

    loop = SerialEnvs(Game, 4)
    with pool(Mortal, 4, 2, restart=True) as env:
        for either in (env, loop):
            either.reset(10)
            steps(either, 3)
        with pytest.warns(UserWarning, match=r"while environment 2 \(seed 22, episode 0\) was at work"):
            step = env.reset(20)
        assert not step.ended.any()
        assert step.obs[[0, 3]].equal(loop.reset(20).obs[[0, 3]]), "the other worker's"
        assert not env.step(torch.zeros(4, 2, 3)).ended.any(), "nor later"


def test_a_worker_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch):
    started: list[Any] = []
    popen = subprocess.Popen

    def second_fails(*args: Any, **kwargs: Any) -> Any:
        if started:
            raise OSError(24, "Too many open files")
        started.append(popen(*args, **kwargs))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", second_fails)
    with pytest.raises(UserError, match=r"2 worker processes cannot be started: .*Too many open files"):
        WorkerPool(Game, 4, EnvOptions(workers=2))
    assert started[0].wait(5) is not None, "the first one has left"


def test_what_an_environment_started_goes_with_its_worker(tmp_path: Path):
    class Starts(Game):
        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            (tmp_path / f"{os.getpid()}").write_text(str(subprocess.Popen(["sleep", "60"]).pid))
            return super().reset(seed, options)

    with pool(Starts, 2, 2) as env:
        env.reset(0)
        started = [int(path.read_text()) for path in tmp_path.iterdir()]
        assert len(started) == 2
        assert all(map(alive, started))
    time.sleep(0.1)
    assert not any(map(alive, started))


def test_environments_that_differ_share_no_memory(tmp_path: Path):
    def make() -> Game:
        try:
            (tmp_path / "first").touch(exist_ok=False)
        except FileExistsError:
            return Game(state=False)
        return Game()

    with pytest.raises(UserError, match="the function makes different environments: their states"):
        WorkerPool(make, 2, EnvOptions(workers=2))


def test_one_object_given_several_times_is_refused_under_a_time_limit_too():
    one = Game()
    with pytest.raises(UserError, match="returned one Game several times"):
        from_factory(lambda: one, 2, time_limit=5)


def test_a_closed_pool_says_so():
    with pool() as env:
        env.reset(0)
    with pytest.raises(UserError, match="these environments are closed"):
        env.step(torch.zeros(5, 2, 3))
    with pytest.raises(UserError, match="these environments are closed"):
        env.reset(0)


def test_actions_of_a_wrong_shape_are_refused_by_both():
    loop = SerialEnvs(Game, 5)
    with pool() as env:
        for either in (env, loop):
            either.reset(0)
            with pytest.raises(ValueError, match=r"actions must be \(\d, 2, 3\), got \(\d, 2, 1\)"):
                either.step(torch.zeros(5, 2, 1))


def test_a_run_in_this_process_is_scored_in_this_process(tmp_path: Path):
    """What cannot be sent to a worker trains with workers 0, and must not be sent at its evaluation."""
    lock = __import__("threading").Lock()

    def make() -> Game:
        return (lock, Game())[1]

    config = Config(
        env=EnvConfig(num_envs=2, workers=0),
        ppo=PPOConfig(rollout_length=4, epochs=1),
        run=RunConfig(total_steps=8, eval_episodes=2, dir=str(tmp_path / "run"), progress="off"),
    )
    run = mappo.train(make, config)
    assert run.evaluate(4, env=make)["episodes"] == 4


@pytest.mark.parametrize("num_envs", [1, 2, 3, 7])
@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_environments_are_dealt_out_evenly(num_envs: int, workers: int):
    workers = min(workers, num_envs)
    dealt = worker_ranges(half_slices(num_envs), workers)
    assert len(dealt) == workers
    numbers = [[i for part in own for i in part] for own in dealt]
    assert sorted(i for own in numbers for i in own) == list(range(num_envs))
    assert max(map(len, numbers)) - min(map(len, numbers)) <= 1
    for own in dealt:
        for part, half in zip(own, half_slices(num_envs), strict=True):
            assert all(half.start <= i < half.stop for i in part)


def trained(path: Path, workers: int, resume: bool = False, **env: Any) -> mappo.Run:
    config = Config(
        env=EnvConfig(num_envs=6, workers=workers, **env),
        network=NetworkConfig(hidden=(8,), memory_size=4),
        ppo=PPOConfig(rollout_length=10, epochs=2, minibatches=3),
        run=RunConfig(total_steps=240, eval_interval=120, eval_episodes=5, dir=str(path), progress="off"),
    )
    return mappo.train(Game if not env else lambda: Game(act=partial(die_late, path / "died")), config, resume=resume)


def test_metrics_are_the_same_for_any_number_of_workers(tmp_path: Path):
    """Law 13, evaluations included."""
    runs = [trained(tmp_path / str(workers), workers) for workers in (0, 1, 3)]
    for name, lines in (("metrics.csv", 5), ("returns.csv", 3)):
        texts = [(run.path / name).read_bytes() for run in runs]
        assert texts[0].count(b"\n") == lines
        assert texts[1] == texts[0]
        assert texts[2] == texts[0]


def test_a_run_whose_worker_is_lost_is_saved_and_resumed(tmp_path: Path):
    with pytest.raises(UserError, match=r"was killed by SIGKILL[^$]*The run is saved at step 60; mappo resume"):
        trained(tmp_path / "run", 2, worker_timeout=59.0)
    assert checkpoint.load(tmp_path / "run").state["step"] == 60
    run = trained(tmp_path / "run", 2, resume=True, worker_timeout=59.0)
    assert run.finished
    assert run.metrics["step"].tolist() == [60, 120, 180, 240]


def test_a_run_whose_workers_are_replaced_goes_on_and_counts_right(tmp_path: Path):
    with pytest.warns(UserWarning, match="It is replaced") as told:
        run = trained(tmp_path / "run", 2, restart=True)
    assert len([w for w in told if "replaced" in str(w.message)]) == 1
    assert run.metrics["step"].tolist() == [60, 120, 180, 240]


def test_the_number_of_workers_decides_between_loop_and_pool():
    assert isinstance(from_factory(Game, 4), SerialEnvs)
    assert isinstance(from_factory(Game, 1, workers=3), SerialEnvs), "one environment has nothing to share"
    env = from_factory(Game, 2, workers=3)
    assert isinstance(env, WorkerPool)
    env.close()
