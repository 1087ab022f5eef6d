"""Advice for errors in a run directory. No advice costs more than the run that it names. Loads no torch."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from mappo.runs.steps import has_checkpoint
from mappo.system.files import shell_path

_NO_SPACE = "free some space"
_TOO_MANY = "raise the limit of open files (ulimit -n), or use fewer workers"
_NO_PERMISSION = "fix the permissions"
_REMEDIES = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: _TOO_MANY,
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.EROFS: _NO_PERMISSION,
    errno.ENOENT: "put the folder back in its place",
    errno.EEXIST: "move away what is not mappo's",
    errno.ENOTEMPTY: "move away what is not mappo's",
}


def recovery_hint(run: Path, error: Exception) -> str:
    """Return advice for a write error in the directory of a run or of a seed."""
    whole = run.parent if _is_seed(run) else run
    # safetensors gives the number of the system's error in its text alone.
    number = re.search(r"os error (\d+)", str(error))
    code = int(number[1]) if number else getattr(error, "errno", None)
    remedy = _REMEDIES.get(code or 0, "look at the disk")
    if has_checkpoint(run):
        return f"{remedy}, then `mappo resume {shell_path(whole)}`: the checkpoints before are whole"
    return f"{remedy}, then start the run again: nothing was saved in {whole} yet"


def missing_hint(run: Path) -> str:
    """Return advice for a missing directory of a run or of a seed."""
    if not _is_seed(run):
        return "it was moved or deleted"
    others = [path for path in sorted(run.parent.glob("seed-*")) if has_checkpoint(path)]
    if others:
        return f"go on with another seed by itself: mappo resume {shell_path(others[0])}"
    return f"the run {run.parent} is incomplete: start it again under another name"


def _is_seed(run: Path) -> bool:
    """Return True for the directory of one seed of several."""
    return run.name.startswith("seed-") and (run.parent / "config.json").exists()
