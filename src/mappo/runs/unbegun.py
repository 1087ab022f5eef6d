"""Directory of a run that ended before its first update, as by an error of the environment. Loads no torch."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

from mappo.runs.lock import lock_directory
from mappo.runs.own_files import holds_only_own_files


def free_name(run: Path) -> None:
    """Remove the directory of a run that ended before its first update, so that a new run can take its name.

    Nothing is removed from a directory with a row of metrics, with anything in `checkpoints`, or with other files.

    Raises:
        UserError: another process trains in the directory.
    """
    if not _is_unbegun(run):
        return
    with ExitStack() as stack:
        for folder in _seed_folders(run):
            stack.enter_context(lock_directory(folder))
        if _is_unbegun(run):
            shutil.rmtree(run)


def _is_unbegun(run: Path) -> bool:
    """Return whether a directory holds a run without results. A run that begins right now has no lock file yet."""
    is_run = (run / "config.json").is_file() and (run / ".lock").is_file() and not run.is_symlink()
    try:
        return is_run and holds_only_own_files(run) and not any(map(_has_results, _seed_folders(run)))
    except OSError:  # a folder that cannot be read may hold anything
        return False


def _seed_folders(run: Path) -> list[Path]:
    return [run, *sorted(run.glob("seed-*"))]


def _has_results(folder: Path) -> bool:
    tables = [folder / name for name in ("metrics.csv", "returns.csv")]
    others = [*(folder / name for name in ("score.json", "curve.png", "report.html")), *folder.glob("replay*")]
    checkpoints = folder / "checkpoints"
    return (
        any(table.exists() and table.read_bytes().count(b"\n") > 1 for table in tables)
        or any(file.exists() for file in others)
        or (checkpoints.exists() and any(checkpoints.iterdir()))
    )
