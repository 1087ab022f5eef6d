"""Tracebacks as the user is told them: from where the user's own code begins. Loads no torch."""

import os
import traceback
from collections.abc import Generator
from pathlib import Path

_HERE = f"{Path(__file__).parent.parent}{os.sep}"


def is_own_code(filename: str) -> bool:
    """It is a file of mappo's."""
    return filename.startswith(_HERE)


def format_error(error: BaseException) -> str:
    """The error with its traceback, and those that it came of, without our own frames ahead of the first other one."""
    shown = traceback.TracebackException.from_exception(error)
    for part in _chain(shown):
        frames = list(part.stack)
        while frames and is_own_code(frames[0].filename):
            del frames[0]
        if frames:  # else all of it is ours
            part.stack = traceback.StackSummary.from_list(frames)
    return "".join(shown.format()).rstrip()


def _chain(error: traceback.TracebackException | None) -> Generator[traceback.TracebackException]:
    if error is not None:
        yield error
        for other in (error.__cause__, error.__context__, *(error.exceptions or ())):
            yield from _chain(other)
