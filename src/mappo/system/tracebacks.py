"""Tracebacks of the user's own code: frames of mappo ahead of that code are left out. Loads no torch."""

import os
import sysconfig
import traceback
from collections.abc import Generator
from pathlib import Path

_PACKAGE = f"{Path(__file__).parent.parent}{os.sep}"
_STANDARD_LIBRARY = f"{sysconfig.get_path('stdlib')}{os.sep}"
_INSTALLED = f"{os.sep}site-packages{os.sep}"
_LIBRARIES = tuple(f"{_INSTALLED}{name}{os.sep}" for name in ("torch", "numpy"))


def is_own_code(filename: str) -> bool:
    """Return True for a source file of mappo."""
    return filename.startswith(_PACKAGE)


def runs_user_code(error: BaseException) -> bool:
    """Return whether an error passed through code of the user or of a package with environments."""
    return any(_is_user_code(frame.f_code.co_filename) for frame, _ in traceback.walk_tb(error.__traceback__))


def _is_user_code(filename: str) -> bool:
    is_standard = filename.startswith(_STANDARD_LIBRARY) and _INSTALLED not in filename
    is_library = is_standard or any(library in filename for library in _LIBRARIES)
    return not (is_own_code(filename) or is_library or filename.startswith("<frozen"))


def format_error(error: BaseException) -> str:
    """Format an error with its traceback and its causes, without mappo's frames before the first foreign frame."""
    report = traceback.TracebackException.from_exception(error)
    for part in _chain(report):
        frames = list(part.stack)
        while frames and is_own_code(frames[0].filename):
            del frames[0]
        if frames:  # an error with mappo's frames alone keeps all frames
            part.stack = traceback.StackSummary.from_list(frames)
    return "".join(report.format()).rstrip()


def describe_error(error: BaseException) -> str:
    """Return an error in a line, with the last place in the user's own code: `ValueError: ... (mine.py:12)`."""
    places = [x for x in traceback.extract_tb(error.__traceback__) if _is_user_code(x.filename)]
    place = f" ({Path(places[-1].filename).name}:{places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}{place}"


def _chain(error: traceback.TracebackException | None) -> Generator[traceback.TracebackException]:
    if error is not None:
        yield error
        for other in (error.__cause__, error.__context__, *(error.exceptions or ())):
            yield from _chain(other)
