"""Directories of checkpoints by step, and errors of files that may be whole. Loads no torch."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from mappo.errors import UserError, suggest
from mappo.system.files import error_text
from mappo.system.safe_read import quote

STEP_NAME = re.compile(r"[0-9]{12,18}")  # name of a checkpoint's directory; other names in the folder are not mappo's

# Errors of the system, not of the file: the file may be whole, and must not be passed over.
_REFUSALS = {errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.ENOMEM}


class RefusedError(UserError):
    """Error of a file that the system refuses to read now; the file itself may be whole."""


def read_error(message: str, error: Exception) -> UserError:
    """Return a message about a file as the error to raise: a `RefusedError` if `error` says nothing about the file."""
    is_refused = isinstance(error, OSError) and error.errno in _REFUSALS
    return (RefusedError if is_refused else UserError)(message)


def check_name(name: str) -> str:
    """Return the name of a checkpoint: `last`, `best`, or the digits of a step; raise UserError for any other text."""
    if name in ("last", "best") or (name.isascii() and name.isdecimal()):
        return name
    raise UserError(f"checkpoint must be last, best or a step, got '{quote(name)}'{suggest(name, ('last', 'best'))}")


def checkpoint_paths(run: Path) -> dict[int, Path]:
    """Return the directories with the names of checkpoints, by step, in ascending order.

    Raises:
        UserError: the folder cannot be listed.
    """
    folder = run / "checkpoints"
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if STEP_NAME.fullmatch(e.name) and e.is_dir()]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise read_error(f"cannot read {folder}: {error_text(error)}", error) from None
    return {int(name): folder / name for name in sorted(names, key=int) if name == f"{int(name):012d}"}


def has_checkpoint(run: Path) -> bool:
    """Return False if a run directory holds no checkpoint; True if it holds one, or cannot be read."""
    try:
        return bool(checkpoint_paths(run))
    except UserError:
        return True
