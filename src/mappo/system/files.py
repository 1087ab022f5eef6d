"""Atomic writes: a file is complete under its name, or absent. Checksums, and words about files for messages."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from mappo.errors import UserError


def write_text(file: Path, text: str | Iterable[str]) -> None:
    """Write a text file, or its parts in turn, atomically: under a temporary name, flushed to disk, renamed.

    After an error nothing is left.
    """
    temporary = unfinished(file)
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as stream:
            stream.writelines([text] if isinstance(text, str) else text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    flush_to_disk(file.parent)  # the rename is an entry of the directory


def as_path(path: str | Path) -> Path:
    """Return an argument as a path.

    Raises:
        UserError: the argument is neither text nor a path.
    """
    try:
        return Path(path)
    except TypeError:
        raise UserError(f"expected the path of a directory, got {path!r}") from None


def unfinished(path: Path) -> Path:
    """Return the temporary name of a file or folder while it is written."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def complete_folder(folder: Path, make_room: Callable[[], None] = lambda: None) -> Generator[Path]:
    """Give a new folder to fill; at the end flush its files to disk and rename it. After an error nothing is left.

    Args:
        folder: the final folder; missing folders above are made. The temporary folder stands beside it.
        make_room: called ahead of the renaming, once all files are on the disk.

    Raises:
        OSError: a folder exists, or cannot be written.
    """
    temporary = unfinished(folder)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in (*temporary.iterdir(), temporary):
            flush_to_disk(path)
        make_room()
        os.replace(temporary, folder)  # the folder exists from here on
        flush_to_disk(folder.parent)
    except Exception:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def flush_to_disk(path: Path) -> None:
    """Flush a file or a directory to disk. Do nothing where the system cannot open a directory (Windows)."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (PermissionError, IsADirectoryError):
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def error_text(error: Exception) -> str:
    """Return the system's words for a file error, without the file's name: the caller's message names the file."""
    return getattr(error, "strerror", None) or str(error)


@contextmanager
def write_errors(file: Path) -> Generator[None, None, None]:
    """Within the context, make of a file error the message that the file cannot be written.

    Raises:
        UserError: the message.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {file}: {error_text(error)}") from None


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def shell_path(path: Path) -> str:
    """Return a path as a word for a shell: quoted where needed, and never like an option."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))


def replace_file(out: Path, write: Callable[[Path], None]) -> None:
    """Write a file under a temporary name and rename it, so that readers never see half of the file.

    Args:
        out: the final path; missing folders are made.
        write: writes the file to a path.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.part")
    try:
        write(temporary)
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
