"""Locks on files, for a single process at a time. Loads no torch.

The system frees a lock when its process ends, killed or not.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_locked: set[Any] = set()  # open files of the locks held by this process


@contextmanager
def lock_file(path: Path) -> Generator[Any, None, None]:
    """Lock a file, made if missing, and give it open for reading and writing. Where the system cannot lock: no lock.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the file cannot be written or locked.
    """
    with open(path, "a+", encoding="utf-8") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield file
            return
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _locked.add(file)
        try:
            yield file
        finally:
            _locked.remove(file)
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: a forked process may still hold the file


def is_locked(path: Path) -> bool:
    """Return whether another process holds the lock of a file; False where this is not known."""
    try:
        import fcntl

        with open(path, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except (ImportError, OSError):  # Windows; no such file, or no permission
        return False
    return False


def _close_locks() -> None:
    """Close the locks in a forked process: a helper of an environment must not keep a file locked."""
    for file in _locked:
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_locks)
