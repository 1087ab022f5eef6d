"""Files that are written whole or not at all, and directories that one process has for itself."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from mappo.errors import UserError


def write_text(file: Path, text: str) -> None:
    """Writes a file whole or not at all: under a temporary name, flushed to the disk, renamed."""
    temporary = file.with_name(f".{file.name}.tmp")
    with open(temporary, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)
    flush(file.parent)


def flush(path: Path) -> None:
    """To the disk itself; a directory cannot be opened for that on every system."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (PermissionError, IsADirectoryError):
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def what(error: Exception) -> str:
    """What went wrong with a file, in the system's words and without the file: whoever tells it names that."""
    return getattr(error, "strerror", None) or str(error)


def mend(run: Path) -> str:
    """What to do about a file of a run, or of one of its seeds, that cannot be written."""
    whole = run.parent if run.name.startswith("seed-") and (run.parent / "config.json").exists() else run
    if any(run.glob("checkpoints/[0-9]*")):
        then = f"`mappo resume {whole}`: the checkpoints before are whole"
    else:
        then = f"delete {whole} and start it again: nothing was saved in it yet"
    return f"free some space or mend the permissions, then {then}"


@contextmanager
def locked(run: Path) -> Generator[None, None, None]:
    """Keeps other processes from training in a run's directory at the same time, where the system can lock files.

    Raises:
        UserError: another process trains in it, or it cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    if not run.is_dir():
        others = [path for path in sorted(run.parent.glob("seed-*")) if any(path.glob("checkpoints/[0-9]*"))]
        way = (
            f"go on with another by itself: mappo resume {others[0]}"
            if others
            else (f"the run was never begun whole, delete {run.parent} and start it again")
        )
        raise UserError(f"{run} is missing: {way}")
    try:
        file = open(run / ".lock", "w")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UserError(f"cannot train in {run}: its .lock cannot be written ({what(error)})") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process trains in {run}: wait for it, or stop it") from None
        except OSError as error:
            raise UserError(f"cannot train in {run}: its .lock cannot be locked ({what(error)})") from None
        yield
