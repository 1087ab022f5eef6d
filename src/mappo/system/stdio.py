"""Standard output and standard error, made to survive the end of their reader. Loads no torch.

The program calls `prepare_streams` once at its start; worker processes call `ignore_broken_pipe`.
"""

import errno
import io
import os
import select
import sys
import textwrap
import warnings
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, cast

BROKEN = (errno.EPIPE, errno.EIO)  # a pipe without a reader, a terminal already closed
_copies: dict[int, int] = {}  # second descriptors of standard output and error


class PipeSafeFile(io.FileIO):
    """File for pipes and terminals: drops output after the reader has gone. A closed terminal must not end a run."""

    def close(self) -> None:
        """Stay open: an environment must not close the program's output."""

    def write(self, data: Any, /) -> int:
        """Write all data; data without a reader counts as written."""
        rest = memoryview(data).cast("B")
        try:
            while rest:
                written = super().write(rest)
                if written is None:  # a full non-blocking pipe
                    select.select([], [self], [])
                rest = rest[written or 0 :]
        except OSError as error:
            # Redirect the descriptor: writes past this object must be dropped too.
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, self.fileno())
            os.close(devnull)
            if error.errno not in BROKEN:  # such as a full disk: raised once, dropped from then on
                raise
        return memoryview(data).nbytes


def ignore_broken_pipe() -> None:
    """Make standard output and error take any character, ignore a closed terminal or pipe, and show each line at once.

    Python holds lines back in a pipe or a file: a log would show them minutes later.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream.fileno() in (1, 2):  # any other stream has no reader to lose
            stream.flush()
            raw = PipeSafeFile(stream.fileno(), "wb", closefd=False)
            safe = io.TextIOWrapper(
                cast(Any, raw),  # as for `python -u`: without a buffer below, in which text would wait
                encoding=stream.encoding,
                errors="replace",  # a terminal without some character must not end a run
                line_buffering=True,
                write_through=stream.write_through,
            )
            setattr(sys, name, safe)


def warn_in_one_line() -> None:
    """Show mappo's own warnings from now on without the line of code printed by Python."""
    format_other = warnings.formatwarning
    package = Path(__file__).parents[1]

    def format_warning(message: Any, category: Any, filename: str, *rest: Any) -> str:
        is_ours = category is UserWarning and Path(filename).is_relative_to(package)
        text = f"mappo: {message}\n"
        if is_ours:
            return fold(text, terminal_width(sys.stderr)) if sys.stderr.isatty() else text
        return format_other(message, category, filename, *rest)

    warnings.formatwarning = format_warning


def terminal_width(stream: Any = None) -> int:
    """Return the columns of the terminal behind a stream, by default of standard output; 80 without a terminal."""
    try:
        found = os.get_terminal_size((sys.stdout if stream is None else stream).fileno()).columns
    except (OSError, AttributeError, ValueError):  # a pipe, a closed stream, or a stream of a test
        found = 0
    return int(os.environ.get("COLUMNS", "").isdecimal() and os.environ["COLUMNS"]) or found or 80


def fold(text: str, width: int) -> str:
    """Wrap the lines of a text between words; further rows of a line are indented like its first row, and by two."""
    rows: list[str] = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        options: Any = {"break_long_words": False, "break_on_hyphens": False, "replace_whitespace": False}
        rows += textwrap.wrap(line, width, subsequent_indent=indent, **options) or [""]
    return "\n".join(rows)


def say(text: str, stream: Any = None) -> None:
    """Print a text; a terminal does not break its words. In a pipe or a file each line stays whole."""
    stream = sys.stdout if stream is None else stream
    print(fold(text, terminal_width(stream)) if stream.isatty() else text, file=stream)


def prepare_streams() -> None:
    """Replace standard streams already closed at the start; make the others survive their reader."""
    # Occupy descriptors 0 to 2: a file opened later must not become standard output.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (stays open)
    ignore_broken_pipe()
    _copies.update((number, os.dup(number)) for number in (1, 2))


def restore_output() -> None:
    """Open standard output and error again where an environment has closed them, in a program after `prepare_streams`.

    A file opened later would otherwise take their place, and the output of the program.
    """
    for number, copy in _copies.items():
        try:
            os.fstat(number)
        except OSError:
            os.dup2(copy, number)


@contextmanager
def env_output_to_stderr() -> Generator[None]:
    """Send output of environments, and of programs they start, to standard error, as worker processes do."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
