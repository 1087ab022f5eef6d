"""Safe reading of untrusted files: bounded in size, never blocking, never executed. Loads no torch.

Every reader of run directories, checkpoints and `--config` files opens files through this module. Errors name the
problem but not the file: the caller names the file.
"""

import io
import json
import math
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Largest files, in bytes.
MAX_JSON = 1 << 24
MAX_YAML = 1 << 20
MAX_TABLE = 1 << 28
MAX_TENSORS = 1 << 32
MAX_HEADER = 1 << 22
MAX_LINE = 1 << 20  # of a table


def open_plain(file: Path, limit: int) -> io.BufferedReader:
    """Open a regular file of at most `limit` bytes for reading.

    Raises:
        OSError, ValueError: the file is missing, is a pipe, a device or a directory, or is larger.
    """
    # Opening a pipe without O_NONBLOCK blocks until another process writes into the pipe.
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size <= limit:
        return open(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISREG(found.st_mode):
        raise ValueError(f"{found.st_size:,} bytes are more than the limit of {limit:,} bytes")
    raise ValueError("a directory, not a file" if stat.S_ISDIR(found.st_mode) else "not a plain file")


def read_lines(file: Path) -> Iterator[str]:
    """Yield the lines of a table, read as a stream; without a last line that a crash has cut short.

    A spreadsheet may have added carriage returns and a byte order mark, which are left out.

    Raises:
        OSError, ValueError: see `open_plain`; or the text is not UTF-8, or a line is longer than `MAX_LINE`.
    """
    with io.TextIOWrapper(open_plain(file, MAX_TABLE), encoding="utf-8-sig", newline="\n") as stream:
        while (line := stream.readline(MAX_LINE)).endswith("\n"):
            yield line[:-1].removesuffix("\r")
        if len(line) == MAX_LINE:
            raise ValueError(f"a line is longer than the limit of {MAX_LINE:,} characters")


def read_text(file: Path, limit: int) -> str:
    """Return the whole text of a file.

    Raises:
        OSError, ValueError: see `open_plain`; or the text is not UTF-8.
    """
    with open_plain(file, limit) as stream:
        return stream.read(limit).decode()


def parse_json(text: str | bytes) -> Any:
    """Parse JSON strictly: duplicate names, NaN and infinity are errors.

    Raises:
        ValueError: the text is not strict JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        # The search is quadratic: a hostile file of a million names must not cost hours.
        twice = next(name for name in names if names.count(name) > 1) if len(names) < 1000 else "a name"
        raise ValueError(f"{quote(twice)} is given twice")
    return found


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text[:20])


def check_tensor_file(file: Path) -> None:
    """Check size and header of a safetensors file, before the library maps the file into memory.

    The library itself compares dtypes, shapes and offsets in the header with the size of the file.

    Raises:
        OSError, ValueError: see `open_plain`; or the header is too long, or not strict JSON.
    """
    with open_plain(file, MAX_TENSORS) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, os.fstat(stream.fileno()).st_size - 8):
            raise ValueError(f"the header cannot be {length:,} bytes long")
        parse_json(stream.read(length))


def printable(text: str, keep: str = "\n\t") -> str:
    """Return a text for a terminal or a picture, with control, format and direction characters spelled as escapes.

    Args:
        text: any text, of an untrusted file too.
        keep: control characters to leave as they are.
    """

    def spelled(letter: str) -> str:
        safe = letter in keep or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        return letter if safe else letter.encode("unicode_escape").decode()

    return text if text.isascii() and text.isprintable() else "".join(map(spelled, text))


def csv_text(text: str) -> str:
    """Return a text for a cell of a CSV file; a spreadsheet takes the text for no formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def quote(text: str) -> str:
    """Return a text from a file for use in a message: printable, at most 80 characters."""
    return printable(text if len(text) <= 80 else f"{text[:77]}...", keep="")
