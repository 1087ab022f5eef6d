"""Checkpoints that stay on disk, and the deletion of all others. Nothing but mappo's own files is deleted."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from mappo.errors import UserError
from mappo.runs.config_json import read_json
from mappo.runs.directory import saved_run_id
from mappo.runs.steps import RefusedError, checkpoint_paths

NUM_KEPT = 2  # checkpoints besides the best: the last, and its predecessor in case the last is damaged

_FILE = re.compile(r"(model|trainer)\.safetensors|state\.json")
# A process killed while saving leaves such a folder; safetensors and `write_text` have temporary files of their own.
_UNFINISHED = re.compile(r"\.[0-9]{12,18}\.tmp")
_UNFINISHED_FILE = re.compile(rf"{_FILE.pattern}|\.state\.json\.tmp|\.tmp\w{{6}}")


def prune(run: Path, step: int, best: int | None, every: int | None, later: bool = True) -> None:
    """Delete all checkpoints except the last ones, the best, and the first in each interval of `every` steps.

    Args:
        run: the run directory.
        step: step of the last checkpoint.
        best: step of the best checkpoint, if any.
        every: length of the intervals in steps; None: keep none for its interval.
        later: also delete checkpoints after `step`: a run was rewound past these, because they are damaged.
    """
    run_id = saved_run_id(run)
    steps = {number: path for number, path in checkpoint_paths(run).items() if _is_own(path, run_id)}
    earlier = [number for number in steps if number <= step]
    keep = {*earlier[-NUM_KEPT:], best}
    if every is not None:
        first = {number // every: number for number in reversed(earlier)}
        keep |= {number for interval, number in first.items() if interval}
    for number, path in steps.items():
        if number not in keep and (later or number < step):
            shutil.rmtree(path, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Delete the checkpoints that a process was writing when it was killed."""
    for path in folder.glob(".*.tmp"):
        if _UNFINISHED.fullmatch(path.name) and _holds_only(path, _UNFINISHED_FILE):
            shutil.rmtree(path, ignore_errors=True)


def remove_own(path: Path, run_id: str | None) -> None:
    """Delete a checkpoint of the run with this id; leave any other folder alone."""
    if path.is_dir() and _is_own(path, run_id):
        shutil.rmtree(path, ignore_errors=True)


def _is_own(path: Path, run_id: str | None) -> bool:
    """Return whether a folder is a checkpoint of this run, whole or damaged, and not a user's folder or copy."""
    if not _holds_only(path, _FILE):
        return False
    try:
        state = read_json(path / "state.json", "")
    except RefusedError:
        return False
    except UserError:
        return (path / "trainer.safetensors").exists()
    return state.get("step") == int(path.name) and state.get("run") in (run_id, None)


def _holds_only(folder: Path, names: re.Pattern[str]) -> bool:
    """Return whether a folder can be read, and holds nothing but files of these names."""
    try:
        with os.scandir(folder) as entries:
            return all(names.fullmatch(e.name) and e.is_file(follow_symlinks=False) for e in entries)
    except OSError:
        return False
