"""Lock of a run directory: a single process trains in it at a time."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mappo.errors import UserError
from mappo.runs.hints import missing_hint
from mappo.system.files import error_text

_locked: set[Any] = set()  # open files of the locks held by this process


@contextmanager
def lock_directory(run: Path) -> Generator[None, None, None]:
    """Lock a run directory against training by other processes. Do nothing where the system cannot lock files.

    Raises:
        UserError: the directory is missing or not writable, or another process trains in it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    if not run.is_dir():
        raise UserError(f"{run} is missing: {missing_hint(run)}")
    try:
        file = open(run / ".lock", "w")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UserError(f"cannot train in {run}: its .lock cannot be written ({error_text(error)})") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process trains in {run}: wait for it, or stop it") from None
        except OSError as error:
            raise UserError(f"cannot train in {run}: its .lock cannot be locked ({error_text(error)})") from None
        _locked.add(file)
        try:
            yield
        finally:
            _locked.remove(file)
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: a forked process may still hold the file


def _close_locks() -> None:
    """Close the locks in a forked process: a helper of an environment must not keep a run locked."""
    for file in _locked:
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_locks)
