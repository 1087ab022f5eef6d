"""Letting go of environments, whose own code may raise, hang, or leave threads behind. Loads no torch."""

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any


class CloseTimeoutError(Exception):
    """Raised in the midst of a `close()` that takes too long."""


# How long a `close()` may take. Only a signal ends what waits in the thread that made an environment, where many must
# be closed; and signals are the program's: the command line sets this. Whoever calls the library has Ctrl-C.
limit: AbstractContextManager[Any] = nullcontext()
# Entered while an environment is waited for, and nothing is lost if that ends by an exception: the command line, once
# it has been told to stop, leaves one that does not come back.
waiting: Callable[[], AbstractContextManager[Any]] = nullcontext


def close_all(*envs: Any) -> None:
    """Closes each of them, whatever another one raises; none any more, once one has taken too long."""
    try:
        with limit:
            for env in envs:
                _close(env)
    except CloseTimeoutError as late:
        warnings.warn(str(late), stacklevel=1)


def _close(env: Any) -> None:
    if not callable(own := getattr(env, "close", None)):
        return
    try:
        own()
    except (CloseTimeoutError, KeyboardInterrupt):
        raise
    except BaseException as error:  # what it was needed for is done
        warnings.warn(f"the environment's close() raised {type(error).__name__}: {error}", stacklevel=1)


@contextmanager
def closing(env: Any) -> Generator[Any]:
    """A context behind which it is closed."""
    try:
        yield env
    finally:
        close_all(env)


def exit_within(seconds: float, code: int, prefix: str = "") -> None:
    """To be called last: the process ends with this exit code, also where threads and exit handlers do not end.

    Args:
        told: begins the line that says so; by default nothing is said.
    """

    def force() -> None:
        time.sleep(seconds)
        threads = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
        some = ", ".join(threads if len(threads) < 4 else [*threads[:2], f"{len(threads) - 2} more"])
        left = f"threads that go on: {some}" if threads else "something that does not end"
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        if prefix:
            os.write(2, f"{prefix}ended by force, for the environment left {left}\n".encode())
        os._exit(code)

    with suppress(RuntimeError):  # no thread can be started
        threading.Thread(target=force, daemon=True).start()
