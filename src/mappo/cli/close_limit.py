"""Limit on the time for closing environments, by an alarm in the main thread."""

from collections.abc import Generator
from contextlib import contextmanager

from mappo.cli.signals import USER_ERROR, Alarm, print_error
from mappo.system.shutdown import CloseTimeoutError, exit_now, start_watchdog


class LimitedClose:
    """Limit on closing environments: each call returns a context with `CloseTimeoutError` after `seconds`.

    Blocking compiled code hears no signal: a watchdog ends the process after as many seconds again. After the first
    timeout the limit is 1 s, because further environments are usually of the same kind.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    @contextmanager
    def __call__(self) -> Generator[None]:
        """Limit the time within the context."""
        cancel_watchdog = start_watchdog(2 * self.seconds, _exit_stuck)
        alarm = Alarm(self._interrupt)
        alarm.start(self.seconds)
        try:
            yield
        finally:
            alarm.stop()
            cancel_watchdog()

    def _interrupt(self) -> None:
        seconds = self.seconds
        self.seconds = min(seconds, 1.0)
        raise CloseTimeoutError(
            f"the environment's close() did not return within {seconds:g} s, and is waited for no longer"
        )


def _exit_stuck() -> None:
    print_error(
        b"mappo: ended by force, because the environment's close() cannot be interrupted: it must return or raise\n"
    )
    exit_now(USER_ERROR)
