"""Files that are written whole or not at all, and directories that one process has for itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_text(file: Path, text: str) -> None:
    """Writes a file whole or not at all: under a temporary name, flushed to the disk, renamed."""
    temporary = file.with_name(f".{file.name}.tmp")
    with open(temporary, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)
    flush_to_disk(file.parent)


def flush_to_disk(path: Path) -> None:
    """To the disk itself; a directory cannot be opened for that on every system."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (PermissionError, IsADirectoryError):
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def error_text(error: Exception) -> str:
    """What went wrong with a file, in the system's words and without the file: whoever tells it names that."""
    return getattr(error, "strerror", None) or str(error)


def replace_file(out: Path, write: Callable[[Path], None]) -> None:
    """Write a file under a temporary name first, so that readers never meet half of it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    try:
        write(part)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
