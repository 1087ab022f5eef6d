"""Standard output and standard error that outlast their reader. Loads no torch: workers use it too."""

import errno
import io
import os
import select
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

BROKEN = (errno.EPIPE, errno.EIO)  # a pipe that nobody reads, a terminal that was closed


class PipeSafeFile(io.FileIO):
    """Leads nowhere once its reader has left: whoever writes has more to lose than what is printed."""

    def write(self, data: Any, /) -> int:
        """As of any file; what nobody can read any more counts as written."""
        try:
            while (written := super().write(data)) is None:  # it does not block, and is full
                select.select([], [self], [])
            return written
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # so that what is written past this object leads there too
            os.close(nowhere)
            if error.errno not in BROKEN:  # a full disk: told once
                raise
            return memoryview(data).nbytes


def ignore_broken_pipe() -> None:
    """Standard output and error take any letter, and no closed terminal or pipe makes them raise."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream.fileno() in (1, 2):  # else it leads nowhere anyway
            stream.flush()
            raw = PipeSafeFile(stream.fileno(), "wb", closefd=False)
            lasting = io.TextIOWrapper(
                io.BufferedWriter(raw),
                encoding=stream.encoding,
                errors="replace",  # a terminal that lacks a letter must not end a run
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, lasting)


def warn_in_one_line() -> None:
    """From here on the program's own warnings are shown without the line of code that Python prints beside them."""
    others, here = warnings.formatwarning, Path(__file__).parents[1]

    def shown(message: Any, category: Any, filename: str, *rest: Any) -> str:
        own = category is UserWarning and Path(filename).is_relative_to(here)
        return f"mappo: {message}\n" if own else others(message, category, filename, *rest)

    warnings.formatwarning = shown


def prepare_streams() -> None:
    """They lead nowhere where whoever started the program has closed them, or leaves later; see `lasting`."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # their numbers are not for other files
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (stays open)
    ignore_broken_pipe()


@contextmanager
def env_output_to_stderr() -> Generator[None]:
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
