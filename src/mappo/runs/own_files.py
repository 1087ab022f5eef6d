"""Names of mappo's own files in a run directory: none may be a link, and a run without other files may be deleted."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from mappo.errors import UserError
from mappo.system.safe_read import quote

_FOLDER_NAMES = r"checkpoints|tensorboard|trackers|seed-\d+"
_PAGES = r"curve\.png|replay(-\d+)?\.gif|report\.html"
_NAMES = rf"config\.json|score\.json|(metrics|timing|returns)\.csv|{_PAGES}|{_FOLDER_NAMES}"
# Names with a leading dot are temporary files and the lock.
_OWN = re.compile(rf"{_NAMES}|\..*")
_DELETABLE = re.compile(rf"{_NAMES}|\.lock|\.({_NAMES})\.(tmp|part)")
_ANY = re.compile(".*", re.DOTALL)
_FOLDERS = re.compile(rf"{_FOLDER_NAMES}|\.?\d{{12,18}}(\.tmp)?")


def check_no_links(run: Path) -> None:
    """Check that mappo's own names in a run directory are files and directories. No write may lead elsewhere.

    Raises:
        UserError: a name is a link, a pipe, a socket or a device.
    """
    for entry in _entries(run, _OWN):
        mode = entry.stat(follow_symlinks=False).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "a pipe, a socket or a device"
            raise UserError(f"{quote(entry.path)} is {kind}: replace it by the file itself, or remove it")


def holds_only_own_files(run: Path) -> bool:
    """Return whether a run directory, and the directory of each seed in it, hold no files except mappo's."""
    folders = [run, *run.glob("seed-*")]
    return all(_DELETABLE.fullmatch(name) for folder in folders if folder.is_dir() for name in os.listdir(folder))


def _entries(folder: Path, names: re.Pattern[str], depth: int = 0) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if names.fullmatch(entry.name)]
    except (OSError, ValueError):  # the reader of the folder reports the error
        return
    for entry in entries:
        yield entry
        if depth < 3 and _FOLDERS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            inside = _OWN if entry.name.startswith("seed-") else _ANY
            yield from _entries(Path(entry.path), inside, depth + 1)
