"""Lock of a run directory: a single process trains in it at a time. Also hints after errors."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mappo.errors import UserError
from mappo.system.files import error_text

_locked: set[Any] = set()  # open files of the locks held by this process


def has_checkpoint(run: Path) -> bool:
    """Return True if a run directory holds a checkpoint."""
    return any(run.glob("checkpoints/[0-9]*"))


def recovery_hint(run: Path) -> str:
    """Return advice for a write error in the directory of a run or of a seed."""
    whole = run.parent if run.name.startswith("seed-") and (run.parent / "config.json").exists() else run
    if has_checkpoint(run):
        action = f"`mappo resume {whole}`: the checkpoints before are whole"
    else:
        action = f"delete {whole} and start it again: nothing was saved in it yet"
    return f"free some space or fix the permissions, then {action}"


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
        raise UserError(f"{run} is missing: {_missing_seed_hint(run)}")
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


def _missing_seed_hint(run: Path) -> str:
    others = [path for path in sorted(run.parent.glob("seed-*")) if has_checkpoint(path)]
    if others:
        return f"go on with another seed by itself: mappo resume {others[0]}"
    return f"the run is incomplete, delete {run.parent} and start it again"
