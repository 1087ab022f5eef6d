"""Standard output and standard error of the program. For the command line alone."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout

from mappo.system.stdio import outlast


def prepare_streams() -> None:
    """They lead nowhere where whoever started the program has closed them, or leaves later; see `lasting`."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # their numbers are not for other files
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (stays open)
    outlast()


@contextmanager
def only_own_output() -> Generator[None]:
    """What environments, and programs that they start, print goes to standard error, as it does from workers."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
