"""The signals of the program: how it is stopped, and how it stops what hangs. For the command line alone."""

import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from mappo.errors import StopTraining
from mappo.system.shutdown import CloseTimeoutError

USER_ERROR = 2
# A closed terminal's SIGHUP among them, where the system has it and whoever started the program (nohup) lets it come.
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
HANGUP = getattr(signal, "SIGHUP", None)
# Seconds: `timeout`, systemd and terminals send the same twice within moments, which is no second Ctrl-C; what an
# environment may go on for once the run is to stop; what compiled code may take to hear the second one.
AT_ONCE, GRACE, DEAF = 0.3, 10.0, 1.0


class Stopped(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP came. Not an `Exception`: what an environment raises is told from it."""

    heard = 0
    """The number of the one that was raised; compiled code may have made an error of its own of it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def start_listening() -> None:
    """From here on these signals raise `Stopped`, so that what was begun is closed; a second one is never waited for.

    Compiled code that does not come back keeps Python from hearing any: a thread then ends the process.
    """
    for number in _signals_to_handle():
        signal.signal(number, _stop)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_hear, args=(reader,), daemon=True).start()


def _signals_to_handle() -> list[int]:
    """All but the SIGHUP that nohup has silenced."""
    return [n for n in STOPS if n != HANGUP or signal.getsignal(n) is not signal.SIG_IGN]


def stop_listening() -> None:
    """From here on they end the process at once, and without a traceback."""
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, _frame: FrameType | None) -> None:
    for other in STOPS:  # a second one, while this one is on its way out, does not wait for it
        if other != HANGUP and signal.getsignal(other) is _stop:
            signal.signal(other, signal.SIG_DFL)
    if number == HANGUP:
        signal.signal(number, signal.SIG_IGN)
    Stopped.heard = number
    raise Stopped(number)


def _hear(reader: int) -> None:
    first = 0.0
    while heard := os.read(reader, 1):
        if heard[0] not in (signal.SIGINT, signal.SIGTERM) and not (heard[0] == HANGUP and not first):
            continue
        if first and time.monotonic() - first > AT_ONCE:
            time.sleep(DEAF)
            os._exit(128 + heard[0])
        first = first or time.monotonic()


def say(text: bytes) -> None:
    """To standard error, which may be gone."""
    with suppress(OSError):
        os.write(2, text)


class Signals:
    """The first Ctrl-C, SIGTERM or SIGHUP ends the run, after the update or within the evaluation under way, and saves.

    A second one leaves at once. An environment that does not come back is left where that loses nothing: see `waiting`.
    """

    def __init__(self) -> None:
        self.caught, self._since, self._waits = 0, 0.0, False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in _signals_to_handle():
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
            if number == HANGUP or time.monotonic() - self._since <= AT_ONCE:
                return
            if sys.stderr.isatty():
                say(b"\x1b[?25h\n")  # the live view had hidden the cursor
            os._exit(128 + number)
        self.caught, self._since = number, time.monotonic()
        if self._waits:
            signal.setitimer(signal.ITIMER_REAL, GRACE)
        say(b"\nmappo: stopping after this update, and saving; once more leaves at once\n")

    @contextmanager
    def waiting(self) -> Generator[None]:
        """A context in which an environment is waited for: `GRACE` seconds after a signal it raises `Stopped`."""

        def late(_number: int, _frame: FrameType | None) -> None:
            raise Stopped(self.caught)

        before, self._waits = signal.signal(signal.SIGALRM, late), True
        if self.caught:
            signal.setitimer(signal.ITIMER_REAL, GRACE)
        try:
            yield
        finally:
            self._waits = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


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
            say(b"mappo: ended by force, for the environment's close() cannot be interrupted: mend it\n")
            os._exit(USER_ERROR)

    def _raise(self, _number: int, _frame: FrameType | None) -> None:
        if not self._over.is_set():
            told = f"the environment's close() had not come back after {self.seconds:g} s, and is waited for no longer"
            self.seconds = min(self.seconds, 1.0)
            raise CloseTimeoutError(told)
