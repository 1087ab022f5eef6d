"""Lock of a run directory: a single process trains in it at a time."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mappo.errors import UserError
from mappo.runs.hints import missing_hint
from mappo.system.file_lock import lock_file
from mappo.system.files import error_text


@contextmanager
def lock_directory(run: Path) -> Generator[None, None, None]:
    """Lock a run directory against training by other processes. Do nothing where the system cannot lock files.

    Raises:
        UserError: the directory is missing or not writable, or another process trains in it.
    """
    if not run.is_dir():
        raise UserError(f"{run} is missing: {missing_hint(run)}")
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_file(run / ".lock"))
        except BlockingIOError:
            raise UserError(f"another process trains in {run}: wait for it, or stop it") from None
        except OSError as error:
            raise UserError(f"cannot train in {run}: its .lock cannot be locked ({error_text(error)})") from None
        yield
