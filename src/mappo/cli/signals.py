"""Signal handlers of the command line: how a run is stopped, and how the program leaves hanging code.

`start_listening` is called once at the start; `Signals` handles the signals while a run trains. Signals belong to the
program: the library installs no handler.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any

from mappo.errors import StopTraining
from mappo.system.deadline import Deadline
from mappo.system.launched import is_quiet
from mappo.system.shutdown import CloseLimit, Interrupts, exit_now
from mappo.system.signals import hold

# Exit codes of the program.
DONE = 0
USER_ERROR = 2
STOPPED = 3
# SIGHUP comes from a closed terminal; some systems have no such signal.
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
HANGUP = getattr(signal, "SIGHUP", None)
# Job managers send these ahead of the end of a job, as SLURM by --signal.
WARNINGS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
# Seconds. `timeout`, systemd and terminals send the same signal twice: two signals within AT_ONCE are not two Ctrl-C.
AT_ONCE = 0.3
# Time for an environment to return once the run must stop.
GRACE = 10.0
# Time for compiled code to react to the second signal.
DEAF = 1.0


class Stopped(KeyboardInterrupt):
    """Raised on SIGINT, SIGTERM or SIGHUP. Not an `Exception`: `except Exception` must not catch a signal.

    Args:
        number: number of the signal.
    """

    # Number of the last signal raised: compiled code may turn the exception into an error of its own.
    raised = 0

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def start_listening() -> None:
    """Raise `Stopped` on these signals from now on, in order to close files and environments.

    A warning is kept for a training that is about to begin; other commands go on.

    Python runs signal handlers between bytecodes only. If compiled code blocks, a watchdog thread ends the process
    after the second signal.
    """
    for number in handled_signals():
        hold(number, _raise_stopped)
    for number in WARNINGS:
        hold(number, _remember_warning)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch_signals, args=(reader,), daemon=True).start()


def handled_signals() -> list[int]:
    """Return all numbers, without a SIGHUP silenced by nohup."""
    return [n for n in STOPS if n != HANGUP or signal.getsignal(n) is not signal.SIG_IGN]


def stop_listening() -> None:
    """End the process on these signals at once from now on, without a traceback."""
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            hold(number, signal.SIG_DFL)
    for number in WARNINGS:
        hold(number, signal.SIG_IGN)


def _remember_warning(number: int, _frame: FrameType | None) -> None:
    Signals.early_warning = number


def _raise_stopped(number: int, _frame: FrameType | None) -> None:
    # A second signal during the shutdown ends the process at once.
    for other in STOPS:
        if other != HANGUP and signal.getsignal(other) is _raise_stopped:
            hold(other, signal.SIG_DFL)
    if number == HANGUP:
        hold(number, signal.SIG_IGN)
    Stopped.raised = number
    raise Stopped(number)


def _watch_signals(reader: int) -> None:
    """Exit the process `DEAF` seconds after the second signal, unless the main thread exits before."""
    first_at = 0.0
    while received := os.read(reader, 1):
        number = received[0]
        # A hang-up counts only as the first signal: systemd sends SIGHUP right after SIGTERM.
        if number not in (signal.SIGINT, signal.SIGTERM) and not (number == HANGUP and not first_at):
            continue
        if first_at and time.monotonic() - first_at > AT_ONCE:
            time.sleep(DEAF)
            exit_now(128 + number)
        first_at = first_at or time.monotonic()


def print_error(text: bytes) -> None:
    """Write to standard error without the buffer of Python, forbidden to signal handlers."""
    with suppress(OSError):  # the terminal may be gone
        os.write(2, text)


class Alarm:
    """Calls a function in the main thread after so many seconds, see `Deadline`; once it has been stopped, never."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._former: Any = None
        self._deadline: Deadline | None = None

    def start(self, seconds: float) -> None:
        """Start to count; a signal handler may call this."""
        self._deadline = Deadline(seconds)
        self._former = signal.signal(signal.SIGALRM, self._count)
        signal.setitimer(signal.ITIMER_REAL, self._deadline.tick, self._deadline.tick)

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        if self._deadline is not None and self._deadline.count():
            self.stop()
            self._action()

    def stop(self) -> None:
        """Stop to count, and restore the former handler of SIGALRM. An alarm on its way has no effect."""
        if self._deadline is not None:
            self._deadline = None
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._former)


class Signals(Interrupts):
    """Handlers of a training: the first signal ends the run, within an update or an evaluation too.

    The run is then saved as it was after the last finished update. A second signal exits at once. See `waiting` for
    hanging environments. A warning (SIGUSR1, SIGUSR2) lets the update and its evaluation finish.

    Args:
        close_limit: context for closing the environments of the run.
    """

    early_warning = 0  # number of a warning ahead of the training

    def __init__(self, close_limit: CloseLimit = nullcontext) -> None:
        super().__init__()
        self.warned = self.early_warning
        self.close_limit = close_limit
        self._caught_at = 0.0
        self._is_waiting = False
        self._alarm = Alarm(self._leave)
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        self._former = self._hold_all()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            hold(number, handler)

    @property
    def reason(self) -> str:
        """Return what stopped the run, for a message; "" for a signal such as Ctrl-C."""
        return "" if self.caught else f" by {signal.Signals(self.warned).name}" if self.warned else " by run.time-limit"

    def _hold_all(self) -> dict[int, Any]:
        """Install the handlers, and return the former handlers by number."""
        stops = {number: hold(number, self._catch) for number in handled_signals()}
        return stops | {number: hold(number, self._heed_warning) for number in WARNINGS}

    def check(self) -> None:
        """Raise `StopTraining` after a signal, or if the time is over."""
        if self.caught:
            raise StopTraining
        super().check()

    def _heed_warning(self, number: int, _frame: FrameType | None) -> None:
        if not self.warned and not is_quiet():
            print_error(b"\nmappo: warned of the end of the job: stopping after this update\n")
        self.warned = number

    def _catch(self, number: int, _frame: FrameType | None) -> None:
        if self._caught_at:  # unlike `caught`, which another process of the run may have set
            if number == HANGUP or time.monotonic() - self._caught_at <= AT_ONCE:
                return
            if sys.stderr.isatty():
                print_error(b"\x1b[?25h\n")  # show the cursor: the live view hides the cursor
            exit_now(128 + number)
        self.caught = number
        self._caught_at = time.monotonic()
        if self._is_waiting:
            self._alarm.start(GRACE)
        if not is_quiet():  # the first of several processes speaks
            print_error(
                b"\nmappo: stopping, and saving the last finished update; press Ctrl-C again to leave at once\n"
            )

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Raise `Stopped` in the context `GRACE` seconds after a signal: the environment does not return."""
        self._is_waiting = hasattr(signal, "setitimer")
        if self._is_waiting and self.caught:
            self._alarm.start(GRACE)
        try:
            yield
        finally:
            self._is_waiting = False
            self._alarm.stop()
            if self._former:
                self._hold_all()  # compiled code may have replaced the handlers

    def _leave(self) -> None:
        raise Stopped(self.caught)
