"""One process trains in a run directory."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from mappo.errors import UserError
from mappo.system.files import error_text


def recovery_hint(run: Path) -> str:
    """What to do about a file of a run, or of one of its seeds, that cannot be written."""
    whole = run.parent if run.name.startswith("seed-") and (run.parent / "config.json").exists() else run
    if any(run.glob("checkpoints/[0-9]*")):
        then = f"`mappo resume {whole}`: the checkpoints before are whole"
    else:
        then = f"delete {whole} and start it again: nothing was saved in it yet"
    return f"free some space or mend the permissions, then {then}"


@contextmanager
def lock_directory(run: Path) -> Generator[None, None, None]:
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
        raise UserError(f"cannot train in {run}: its .lock cannot be written ({error_text(error)})") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process trains in {run}: wait for it, or stop it") from None
        except OSError as error:
            raise UserError(f"cannot train in {run}: its .lock cannot be locked ({error_text(error)})") from None
        yield
