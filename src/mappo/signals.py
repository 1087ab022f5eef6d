"""The signals of the program: how it is stopped, and how it stops what hangs. For the command line alone."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from mappo.envs.closing import CloseTimeoutError
from mappo.errors import StopTraining

MEND = 2


class Stopped(KeyboardInterrupt):
    """SIGINT or SIGTERM came. Not an `Exception`: what an environment raises is told from it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def listen() -> None:
    """From here on SIGINT and SIGTERM raise `Stopped`, so that what was begun is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def listen_no_more() -> None:
    """From here on they end the process at once, and without a traceback."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _stop(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one, while this one is on its way out, does not wait for it
    raise Stopped(number)


class Signals:
    """The first Ctrl-C or SIGTERM ends the run after the update, or within the evaluation, under way, and saves.

    A second one leaves at once.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self, _update: object = None) -> None:
        """The callback of the run, and what its evaluations ask."""
        if self.caught:
            raise StopTraining

    def _catch(self, number: int, _frame: FrameType | None) -> None:
        if self.caught:
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # the live view had hidden the cursor
            os._exit(128 + number)
        self.caught = number
        os.write(2, b"\nmappo: stopping after this update, and saving; once more leaves at once\n")


class Patience:
    """A context in which an environment is closed: so many seconds, and CloseTimeoutError is raised in there.

    Where that is no use, as in compiled code that waits, the process ends as many seconds later. After one that hung,
    others have a second: they are of its kind.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self._depth = seconds, 0

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth > 1:  # the outer one's time goes on
            return
        self._over = threading.Event()
        self._before = signal.signal(signal.SIGALRM, self._raise)
        self._watch = threading.Thread(target=self._wait, daemon=True)
        self._watch.start()

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._over.set()
            self._watch.join()  # behind which it sends no signal any more
            signal.signal(signal.SIGALRM, self._before)

    def _wait(self) -> None:
        seconds = self.seconds
        if self._over.wait(seconds):
            return
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
        if not self._over.wait(seconds):
            os.write(2, b"mappo: ended by force, for the environment's close() cannot be interrupted: mend it\n")
            os._exit(MEND)

    def _raise(self, _number: int, _frame: FrameType | None) -> None:
        if not self._over.is_set():
            told = f"the environment's close() had not come back after {self.seconds:g} s, and is waited for no longer"
            self.seconds = min(self.seconds, 1.0)
            raise CloseTimeoutError(told)
