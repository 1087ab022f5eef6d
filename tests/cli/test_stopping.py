"""Ways in which a run is stopped from outside: it is saved, says how it goes on, and answers with the right code."""

import itertools
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mappo.cli import main as cli, signals
from mappo.config import RunConfig
from mappo.errors import UserError
from mappo.runs import checkpoint
from mappo.runs.directory import read_run
from mappo.system import shutdown
from mappo.system.stdio import PipeSafeFile
from mappo.training.live_view import LiveView
from paths import PYTHONPATH

SMALL = [
    *("--env.num-envs", "8", "--network.hidden", "8", "--ppo.epochs", "1", "--ppo.minibatches", "1"),
    *("--ppo.rollout-length", "5", "--run.total-steps", "120000", "--run.eval-interval", "119999"),
    *("--run.eval-episodes", "8"),
]
CODE = "from mappo.cli.main import entry; entry()"
ENV = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": PYTHONPATH,
}


def command(*args: object, before: str = "") -> list[str]:
    return [sys.executable, "-c", before + CODE, *map(str, args)]


def until(happens: Any, seconds: float = 120) -> None:
    last = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < last, "it never happened"
        time.sleep(0.02)


@contextmanager
def running(args: list[str], **kwargs: Any) -> Generator[subprocess.Popen[bytes]]:
    """A process that does not outlive the test."""
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs) as process:
        try:
            yield process
        finally:
            process.kill()


def rows(run: Path) -> int:
    return len((run / "metrics.csv").read_text().splitlines()) if (run / "metrics.csv").exists() else 0


def stopped_whole(run: Path) -> int:
    """Updates done by a run that has a row for each and a checkpoint of the last."""
    updates = checkpoint.load(run).state["updates"]
    assert rows(run) == 1 + updates
    return updates


@pytest.fixture
def even_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A millisecond passes from each look at the clock to the next, however busy the machine is."""
    clock = itertools.count()
    monkeypatch.setattr(shutdown, "time", SimpleNamespace(monotonic=lambda: next(clock) / 1000))


@pytest.mark.usefixtures("even_clock")
def test_a_time_limit_saves_and_leaves_with_3_and_may_be_another_when_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    args = ["spread", "--run.dir", str(run), "--run.progress", "off", *SMALL]
    assert cli.main(["train", *args, "--run.time-limit", "0.005"]) == 3
    out, err = capsys.readouterr()
    assert f"by run.time-limit and saved.  Go on with:  mappo resume {run}\n" in out
    assert err == ""
    first = stopped_whole(run)
    assert first > 0
    assert cli.main(["train", *args, "--resume", "--run.time-limit", "0.006"]) == 3
    second = stopped_whole(run)
    assert second > first
    assert cli.main(["resume", str(run), "--time-limit", "0.004", "--progress", "off"]) == 3
    assert stopped_whole(run) > second
    assert read_run(run)[1].run.time_limit == 0.005
    assert cli.main(["resume", str(run), "--time-limit", "-1"]) == 2
    assert "run.time-limit must be above 0, got -1" in capsys.readouterr().err
    limits = list[Any]()
    monkeypatch.setattr(cli, "_train", lambda _, config, *__: limits.append(config.run.time_limit) or 0)
    for limit in ([], ["--time-limit", "0"], ["--time-limit", "7"]):
        assert cli.main(["resume", str(run), *limit]) == 0
    assert limits == [0.005, None, 7], "0 takes it off"


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_limit_is_a_time(value: float):
    with pytest.raises(UserError, match=r"run\.time-limit must be above 0"):
        RunConfig(time_limit=value)


@pytest.mark.usefixtures("even_clock")
def test_a_time_limit_ends_an_evaluation_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = tmp_path / "run"
    options = "--env.num-envs 2 --network.hidden 8 --ppo.rollout-length 4 --ppo.epochs 1 --run.eval-episodes 2"
    options += f" --run.total-steps 24 --run.eval-interval 8 --env.workers 0 --run.dir {run} --run.time-limit 0.001"
    assert cli.main(["train", "hostile:NeverEnds", *options.split()]) == 3
    assert f"mappo resume {run} --allow-code" in capsys.readouterr().out
    assert stopped_whole(run) == 1


def test_a_signal_that_comes_twice_at_once_is_one(tmp_path: Path):
    """`timeout` sends SIGTERM to the process, and then to its group; systemd a SIGHUP behind it."""
    run = tmp_path / "run"
    with running(command("train", "spread", "--run.dir", run, *SMALL), env=ENV) as process:
        until(lambda: rows(run) > 3 or process.poll() is not None)
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
            time.sleep(0.02)
        out, _ = process.communicate(timeout=600)
    # A process that had no turn meanwhile finds all of them at once, and hears the lowest number first.
    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGHUP)
    assert b"Go on with" in out
    assert stopped_whole(run) > 2


@pytest.mark.parametrize("hangup", [True, False])
def test_a_closed_terminal_saves_and_leaves(hangup: bool, tmp_path: Path):
    """Whether SIGHUP comes of it, or is not heard (nohup, disown): writing there fails from then on."""
    run, (ours, theirs) = tmp_path / "run", pty.openpty()
    before = "" if hangup else "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    process = subprocess.Popen(
        command("train", "spread", "--run.dir", run, *SMALL, "--run.progress", "live", before=before),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=ENV | {"TERM": "xterm"},
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),  # its own terminal
    )
    os.close(theirs)
    reading = threading.Event()

    def read() -> None:  # a terminal that nobody reads makes the writer wait
        while not reading.is_set():
            try:
                os.read(ours, 65536)
            except OSError:
                return

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: rows(run) > 3 or process.poll() is not None)
    reading.set()
    reader.join(10)
    os.close(ours)
    if not hangup:
        before_ = rows(run)
        until(lambda: rows(run) > before_ + 50 or process.poll() is not None)
        assert process.poll() is None, "it goes on without its terminal"
        process.terminate()
    assert process.wait(120) == (129 if hangup else 143)
    assert stopped_whole(run) > 2


def test_a_stream_outlasts_its_reader():
    reader, writer = os.pipe()
    os.close(reader)
    with PipeSafeFile(writer, "wb") as stream:
        assert stream.write(b"told to nobody") == 14
        assert os.write(writer, b"nor is this, past the stream") == 28
    with PipeSafeFile(os.open("/dev/full", os.O_WRONLY), "wb") as stream:
        with pytest.raises(OSError, match="No space left"):
            stream.write(b"x")
        assert stream.write(b"told once") == 9


def test_a_live_view_outlasts_its_terminal():
    class Gone:
        encoding = "utf-8"

        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

        def flush(self) -> None:
            pass

        def isatty(self) -> bool:
            return True

    from rich.console import Console

    from mappo.runs.logger import Update

    console: Any = Console(file=Gone(), force_terminal=True)  # pyright: ignore
    with LiveView(10, "x", console) as view:
        view.update(Update(1, 5, 10, {"return_sum": 1.0}, {"elapsed_s": 1.0}))
        view.note("told to nobody")
    assert console.quiet


HANGS = """
import ctypes, os, time
from hostile import Drawn

class Waits(Drawn):
    def reset(self, seed=None, options=None):
        self.steps = getattr(self, "steps", 0)
        return super().reset(seed)

    def step(self, actions):
        self.steps += 1
        if self.steps == 30:
            open("hangs", "w").close()
            if "DEAF" in os.environ:
                libc, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
                libc.pthread_mutex_lock(lock)
                libc.pthread_mutex_lock(lock)
            time.sleep(1000)
        return super().step(actions)

class NeverReset(Drawn):
    def reset(self, seed=None, options=None):
        open("hangs", "w").close()
        time.sleep(1000)

class NeverMade(Drawn):
    def __init__(self):
        open("hangs", "w").close()
        time.sleep(1000)
"""
FORKS = """
import multiprocessing, signal
from hostile import Drawn

class Forks(Drawn):
    def reset(self, seed=None, options=None):
        self.steps = getattr(self, "steps", 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if self.episodes < 2:
            self.helpers = multiprocessing.get_context("fork").Pool(2)
            self.helpers.map(abs, [1])
        if self.episodes == 0:
            self.helpers.terminate()
        return super().reset(seed)

    def step(self, actions):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.steps += 1
        if self.steps == 30:
            open("ready", "w").close()
        return super().step(actions)
"""
ONE_BY_ONE = "--env.num-envs 1 --env.workers 0 --network.hidden 8 --ppo.rollout-length 10 --ppo.epochs 1 --run.dir run"
QUICK = (
    "from mappo.cli import signals; signals.GRACE, signals.DEAF = 0.5, 0.2; "
    "from mappo.envs.vector import pool; pool.CLOSE_TIMEOUT = 0.5; "
)


@contextmanager
def hanging(folder: Path, name: str, *more: str, **variables: str) -> Generator[subprocess.Popen[bytes]]:
    (folder / "mine.py").write_text(HANGS)
    args = command("train", f"mine:{name}", *ONE_BY_ONE.split(), "--run.total-steps", 1000, *more, before=QUICK)
    with running(args, cwd=folder, env=ENV | variables) as process:
        until(lambda: (folder / "hangs").exists() or process.poll() is not None)
        yield process


def test_an_environment_that_hangs_is_left_and_what_was_learned_is_saved(tmp_path: Path):
    with hanging(tmp_path, "Waits") as process:
        process.terminate()
        out, err = process.communicate(timeout=600)
    assert process.returncode == 143, err
    assert stopped_whole(tmp_path / "run") == 2
    assert f"The run is saved at step 20; mappo resume {tmp_path}/run --allow-code goes on with it" in out.decode()


def in_session(session: int) -> list[str]:
    """The processes of a session, but for those that have ended."""
    table = subprocess.run(["ps", "-eo", "sess=,stat=,pid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in table.splitlines()]
    return [rest for number, state, rest in rows if int(number) == session and state[0] != "Z"]


def test_an_environment_with_processes_and_handlers_of_its_own_neither_ends_the_run_nor_keeps_it(tmp_path: Path):
    """Its processes end by signals that the run does not hear; the run hears its own, and leaves none behind."""
    (tmp_path / "mine.py").write_text(FORKS)
    unending = "--run.total-steps 1000000 --run.eval-interval 1000000 --ppo.gamma 0 --network.obs-norm"
    args = command("train", "mine:Forks", *ONE_BY_ONE.split(), *unending.split())
    with running(args, cwd=tmp_path, env=ENV, start_new_session=True) as process:
        until(lambda: (tmp_path / "ready").exists() or process.poll() is not None)
        assert len(in_session(process.pid)) == 3
        process.terminate()
        out, err = process.communicate(timeout=600)
    assert process.returncode == 143, err
    assert b"Go on with" in out
    assert stopped_whole(tmp_path / "run") >= 2
    assert in_session(process.pid) == []


def test_an_environment_that_is_never_made_is_left(tmp_path: Path):
    with hanging(tmp_path, "NeverMade") as process:
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=600)
    assert process.returncode == 129
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_environment_that_never_returns_from_its_first_reset_is_left(workers: str, tmp_path: Path):
    with hanging(tmp_path, "NeverReset", "--env.num-envs", "2", "--env.workers", workers) as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=600)
    assert process.returncode == 130
    assert err.splitlines()[-1] == b"mappo: stopped"


def test_a_second_control_c_leaves_at_once_whatever_does_not_listen(tmp_path: Path):
    """Compiled code that waits keeps Python from hearing the first one."""
    with hanging(tmp_path, "Waits", DEAF="1") as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=600)
    assert process.returncode == 130


@pytest.mark.parametrize("error", [ValueError("no shape"), UserError("cannot read model.safetensors")])
def test_a_signal_that_compiled_code_takes_for_a_failure_is_a_signal(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(*_: Any) -> int:
        with suppress(signals.Stopped):
            signals._raise_stopped(signal.SIGTERM, None)
        raise error

    monkeypatch.setattr(signals.Stopped, "raised", 0)
    monkeypatch.setattr(cli, "_run", interrupted)
    assert cli.main(["envs"]) == 143
    assert capsys.readouterr().err == "mappo: stopped\n"


@pytest.mark.parametrize("at_first", [0, signal.SIGTERM])
def test_only_the_second_signal_to_this_process_ends_it_at_once(monkeypatch: pytest.MonkeyPatch, at_first: int):
    ends: list[int] = []
    monkeypatch.setattr(signals, "exit_now", ends.append)
    monkeypatch.setattr(signals, "AT_ONCE", -1.0)
    with signals.Signals() as found:
        found.caught = at_first  # another process of the run has told of its signal
        os.kill(os.getpid(), signal.SIGTERM)
        assert (found.caught, ends) == (signal.SIGTERM, [])
        os.kill(os.getpid(), signal.SIGTERM)
        assert ends == [128 + signal.SIGTERM]
