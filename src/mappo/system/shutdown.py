"""Closing of environments: their code may raise, hang or leave threads behind. Loads no torch.

The command line passes an `Interrupts` to training and a close limit to all commands with environments: no
environment may hold up the end of the program. From Python there are no limits by default.
"""

import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, NoReturn

from mappo.errors import StopTraining
from mappo.system.deadline import Deadline

# Makes a context for closing environments; the context may raise `CloseTimeoutError`.
CloseLimit = Callable[[], AbstractContextManager[Any]]

FAILED_CLOSE = 8.0  # seconds; a worker pool takes 5 by its own clock
# Name of threads that may hang in a call to compiled code.
COMPILED_CALL = "compiled call"


class CloseTimeoutError(Exception):
    """Raised inside an environment's `close()` when the call takes too long."""


class Interrupts:
    """Interruptions of a run from outside: a callback, a time limit and, in the subclass of the command line, signals.

    Args:
        stop: may raise `StopTraining`.
    """

    close_limit: CloseLimit = nullcontext
    caught = 0  # number of the signal that stops the run
    warned = 0  # number of the signal that asks for a stop after the present update

    def __init__(self, stop: Callable[[], None] | None = None) -> None:
        self._stop = stop
        self._deadline = math.inf

    def set_time_limit(self, minutes: float | None) -> None:
        """Stop the run after so many minutes from now; None for no limit. An earlier limit stays."""
        if minutes is not None:
            self._deadline = min(self._deadline, time.monotonic() + 60 * minutes)

    @property
    def is_time_over(self) -> bool:
        """Return whether the time limit is reached."""
        return time.monotonic() >= self._deadline

    def __call__(self) -> None:
        """Raise `StopTraining` if the run must stop. Called after each update and at each step of an evaluation."""
        if self._stop is not None:
            self._stop()
        self.check()

    def check_between_updates(self) -> None:
        """Raise `StopTraining` if the run must stop, or should. Called where nothing is left unfinished."""
        self()
        if self.warned:
            raise StopTraining

    def check(self) -> None:
        """Raise `StopTraining` if the time is over. Called within an update too, unlike the callback."""
        if self.is_time_over:
            raise StopTraining

    def waiting(self) -> AbstractContextManager[Any]:
        """Return a context to wait for an environment in, where an exception would lose nothing.

        The context may raise `KeyboardInterrupt` once the run must stop and the environment does not return.
        """
        return nullcontext()


def close_all(*envs: Any, limit: CloseLimit = nullcontext) -> None:
    """Close each environment, even if another raises; after a `CloseTimeoutError` close no further environment."""
    try:
        with limit():
            for env in envs:
                _close(env)
    except CloseTimeoutError as error:
        warnings.warn(str(error), stacklevel=1)


def _close(env: Any) -> None:
    close = getattr(env, "close", None)
    if not callable(close):
        return
    try:
        close()
    except (CloseTimeoutError, KeyboardInterrupt):
        raise
    except BaseException as error:  # the work of the environment is done: a warning is enough
        warnings.warn(f"the environment's close() raised {type(error).__name__}: {error}", stacklevel=1)


def close_failed(*envs: Any) -> None:
    """Close environments after an error, in a thread and for `FAILED_CLOSE` seconds at most.

    The error must be shown even if `close()` hangs.
    """
    closer = threading.Thread(target=close_all, args=envs, daemon=True)
    closer.start()
    closer.join(FAILED_CLOSE)
    if closer.is_alive():
        message = f"the environment's close() did not return within {FAILED_CLOSE:g} s, and is waited for no longer"
        warnings.warn(message, stacklevel=1)


@contextmanager
def closing(env: Any, limit: CloseLimit = nullcontext) -> Generator[Any]:
    """Close an environment at the end of the context, see `close_all`."""
    try:
        yield env
    finally:
        close_all(env, limit=limit)


def start_watchdog(seconds: float, action: Callable[[], None]) -> Callable[[], None]:
    """Call `action` in a thread of its own after so many seconds, see `Deadline`. Return a function to cancel this."""
    is_cancelled = threading.Event()

    def watch() -> None:
        if not Deadline(seconds).wait(is_cancelled.wait):
            action()

    with suppress(RuntimeError):  # no further thread can be started
        threading.Thread(target=watch, daemon=True).start()
    return is_cancelled.set


def exit_now(code: int) -> NoReturn:
    """Exit without exit handlers, which end the processes started by `multiprocessing`: kill these here."""
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            child.kill()
    os._exit(code)


def exit_past_compiled_calls(code: int) -> None:
    """Exit at once if a thread hangs in compiled code: as Python ends, the end of that call would abort the process."""
    if any(thread.name == COMPILED_CALL for thread in threading.enumerate()):
        _flush()
        exit_now(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def exit_within(seconds: float, code: int, prefix: str = "") -> None:
    """Exit the process with `code` after so many seconds, even if threads or exit handlers do not end.

    Args:
        seconds: time for the process to exit by itself; call this function last.
        code: exit code.
        prefix: beginning of a message with the names of the threads; no message if empty.
    """

    def force() -> None:
        names = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
        shown = ", ".join(names if len(names) < 4 else [*names[:2], f"{len(names) - 2} more"])
        _flush()
        if prefix:
            rest = f"threads that go on: {shown}" if names else "something that does not end"
            os.write(2, f"{prefix}ended by force, because the environment left {rest}\n".encode())
        exit_now(code)

    start_watchdog(seconds, force)
