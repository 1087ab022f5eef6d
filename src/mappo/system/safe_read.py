"""Files that anyone may have written: bounded before memory is taken, never waited for, never run. Loads no torch."""

import json
import math
import os
import stat
import unicodedata
from pathlib import Path
from typing import Any, BinaryIO, cast

MAX_JSON, MAX_TABLE, MAX_TENSORS, MAX_HEADER = 1 << 24, 1 << 31, 1 << 32, 1 << 22  # bytes


def open_plain(file: Path, limit: int) -> BinaryIO:
    """A file to read that is one, and no larger.

    Raises:
        OSError, ValueError: it is not there, is a pipe, a device or a directory, or holds more.
    """
    # A pipe would be waited for until somebody writes into it.
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    stream = open(descriptor, "rb")  # noqa: SIM115 (the caller closes it)
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size <= limit:
        return stream
    stream.close()
    if stat.S_ISREG(found.st_mode):
        raise ValueError(f"it holds {found.st_size:,} bytes, and at most {limit:,} are read")
    raise ValueError("it is a directory" if stat.S_ISDIR(found.st_mode) else "it is not a plain file")


def read_text(file: Path, limit: int = MAX_TABLE) -> str:
    """A whole file of text.

    Raises:
        OSError, ValueError: as `open_plain`; or it is no UTF-8.
    """
    with open_plain(file, limit) as stream:
        return stream.read(limit).decode()


def parse_json(text: str | bytes) -> Any:
    """JSON, strictly: no name twice, no NaN, nothing infinite.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1) if len(names) < 1000 else "a name"
        raise ValueError(f"{quote(twice)} is given twice")
    return found


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text[:20])


def read_header(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Of a safetensors file: dtype and shape of each tensor, by name.

    Raises:
        OSError, ValueError: as `open_plain`; or the header is none. The bytes behind it are not looked at.
    """
    with open_plain(file, MAX_TENSORS) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, os.fstat(stream.fileno()).st_size - 8):
            raise ValueError(f"its header cannot be {length:,} bytes long")
        header = parse_json(stream.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, told in cast("dict[str, Any]", header).items():
        if name == "__metadata__":
            continue
        said = cast("dict[str, Any]", told if isinstance(told, dict) else {})
        shape, dtype = cast(Any, said.get("shape")), said.get("dtype")
        if not isinstance(shape, list) or not isinstance(dtype, str):
            raise ValueError(f"its header says nothing of {quote(name)}")
        sizes = cast("list[Any]", shape)
        if any(type(n) is not int or not 0 <= n < 2**63 for n in sizes):
            raise ValueError(f"its header says nothing of {quote(name)}")
        tensors[name] = dtype, tuple(sizes)
    return tensors


def printable(text: str, keep: str = "\n\t") -> str:
    """Text for a terminal or a picture: what would move the cursor, colour or turn the letters is spelled out."""

    def spelled(letter: str) -> str:
        safe = letter in keep or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        return letter if safe else letter.encode("unicode_escape").decode()

    return text if text.isascii() and text.isprintable() else "".join(map(spelled, text))


def quote(text: str) -> str:
    """A name out of a file, within a message."""
    return printable(text if len(text) <= 80 else f"{text[:77]}...", keep="")
