"""Several processes of a run on this machine, for `run.processes`. Loads no torch.

The same command is started once for each process. Where a process is lost, all end and are started again: the run
goes on from its last checkpoint. A signal is passed on to all.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from mappo.cli.ending import complete, has_no_time_left
from mappo.cli.parsing import parse
from mappo.cli.results import program_name
from mappo.cli.signals import USER_ERROR, WARNINGS, handled_signals
from mappo.config import Config
from mappo.errors import ElsewhereError, UserError
from mappo.runs.names import free_path, named_path
from mappo.runs.unbegun import free_name
from mappo.system.files import shell_path
from mappo.system.launched import LAUNCHER, START_AGAIN, is_quiet
from mappo.system.shutdown import CloseLimit
from mappo.system.signals import hold
from mappo.system.stdio import say

LOST = 4
# Seconds for the other processes to end by themselves once a process is lost, and after SIGTERM.
LEAVE_S = 20.0
KILL_S = 5.0
POLL_S = 0.05

Process = subprocess.Popen[bytes]


def parse_once(args: Sequence[str]) -> Any:
    """Return the command. Of several processes the first alone shows an error of the command line."""
    try:
        return parse(list(args))
    except UserError as error:
        if is_quiet():
            raise ElsewhereError(str(error)) from None
        raise


def launch(args: Sequence[str], env: str, config: Config, resume: bool, close_limit: CloseLimit) -> int:
    """Run `mappo ARGS` in `run.processes` processes and return the exit code of the run; score seeds trained apart.

    Args:
        args: the command line; `train`, or `resume`.
        env: name of the environment.
        config: settings of the run.
        resume: go on with a run.
        close_limit: see `closing`.

    Raises:
        UserError: the run exists, or cannot be divided among the processes.
    """
    run = config.run
    _check_shares(config)
    path = named_path(config, Path(run.dir or "runs")) or free_path(Path("runs"), env)
    if not resume:
        if run.exists == "refuse":
            _check_free(path)
        # A restart finds the run in the same directory.
        args = [*args, "--run.exists", "resume", *([] if run.name or run.dir else ["--run.dir", str(path)])]
    remaining = run.restarts
    while True:
        started = time.monotonic()
        with _forwarding() as processes:
            codes = _run_all(args, run.processes, processes)
        if processes.caught and any(codes):
            return 128 + processes.caught
        code = run_code(codes, run.seeds > 1)
        if code == 0 and run.seeds > 1:
            _show_seeds(path, started, processes.is_warned, close_limit)
        if code != LOST:
            return code
        if not remaining or processes.is_warned:
            say(f"mappo: {_describe(codes)}. {START_AGAIN}", sys.stderr)
            return LOST
        say(f"mappo: {_describe(codes)}; all are started again ({remaining} restarts left)", sys.stderr)
        remaining -= 1


def _check_shares(config: Config) -> None:
    """Raise `UserError` if the environments, or the seeds, cannot be divided among the processes."""
    run = config.run
    if run.seeds == 1:
        config.share(run.processes)
    elif run.seeds < run.processes:
        raise UserError(f"run.processes {run.processes} for {run.seeds} run.seeds: each process needs a seed")


def _check_free(path: Path) -> None:
    """Raise `UserError` if there is a run in the directory; a run that ended before its first update is removed."""
    free_name(path)
    if path.exists():
        advice = f"choose another --run.name or --run.dir, or go on with it: mappo resume {shell_path(path)}"
        raise UserError(f"{path} exists: {advice}")


def _show_seeds(path: Path, started: float, is_warned: bool, close_limit: CloseLimit) -> None:
    """Score the seeds of a complete run, if there is time left."""
    from mappo.training.run import load_run

    run = load_run(path, allow_code=True)
    program = program_name()
    if not has_no_time_left(run, started, is_warned, program):
        complete(run, None, close_limit, program)


def run_code(codes: Sequence[int], is_by_seed: bool) -> int:
    """Return the exit code of a run from the codes of its processes; a negative code is the signal that killed one.

    Args:
        codes: of all processes, in order.
        is_by_seed: the processes train seeds apart; otherwise the run is complete once the first process is done.
    """
    if not any(codes) or (codes[0] == 0 and not is_by_seed):
        return 0
    errors = [code for code in codes if code in (1, USER_ERROR)]
    others = [code for code in codes if code > 0 and code != LOST]
    has_died = any(code < 0 or code == LOST for code in codes)
    return errors[0] if errors else LOST if has_died else others[0]


def _describe(codes: Sequence[int]) -> str:
    """Return which processes were killed."""
    killed = [f"process {k} was ended by {signal.Signals(-code).name}" for k, code in enumerate(codes) if code < 0]
    return ", ".join(killed) or "a process is lost"


class _Processes(list[Process]):
    """The running processes, and the signals passed on to them."""

    caught = 0  # the last signal to stop
    is_warned = False

    def stop(self, number: int, _frame: FrameType | None = None) -> None:
        """Pass a signal to stop on to all processes."""
        self.caught = number
        self._send(number)

    def warn(self, number: int, _frame: FrameType | None = None) -> None:
        """Pass a warning on to all processes."""
        self.is_warned = True
        self._send(number)

    def _send(self, number: int) -> None:
        for process in self:
            process.send_signal(number)


@contextmanager
def _forwarding() -> Generator[_Processes]:
    """Pass signals on to the processes within the context."""
    processes = _Processes()
    former: dict[int, Any] = {number: hold(number, processes.stop) for number in handled_signals()}
    former |= {number: hold(number, processes.warn) for number in WARNINGS}
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
        for number, handler in former.items():
            hold(number, handler)


def _run_all(args: Sequence[str], size: int, processes: _Processes) -> list[int]:
    """Start all processes and wait for them. After the first that fails, the others are ended in time."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    common |= {"LOCAL_WORLD_SIZE": str(size), LAUNCHER: str(os.getpid())}
    if sys.platform == "linux":
        common.setdefault("GLOO_SOCKET_IFNAME", "lo")
    for rank in range(size):
        variables = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        # In a session of its own: a terminal sends its signals to this process alone, which passes them on once.
        command = [sys.executable, "-m", "mappo", *args]
        processes.append(subprocess.Popen(command, env=variables, start_new_session=True))
    failed_at: float | None = None
    while any(process.poll() is None for process in processes):
        time.sleep(POLL_S)
        if failed_at is None and any(process.returncode for process in processes):
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() > failed_at + LEAVE_S:
            _end(processes)
    return [process.returncode for process in processes]


def _end(processes: Sequence[Process]) -> None:
    """End processes, a process with SIGKILL that does not hear SIGTERM."""
    for process in processes:
        process.terminate()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILL_S)
        process.kill()
