"""CSV files of a run: one row for each update."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from mappo.errors import UserError
from mappo.runs.lock import recovery_hint
from mappo.system.files import error_text, flush_to_disk, write_text
from mappo.system.safe_read import read_text


class CsvLog:
    """A CSV file: fixed integer columns, then the names of the first row in their order.

    Args:
        fixed: the first columns; `update` and `step` are among them.
        resume: the updates and the steps done, of a run that goes on: later rows are dropped, and `notes` tells which
            of the others are not there once. None: there must be no such file.
    """

    def __init__(self, path: Path, fixed: list[str], resume: tuple[int, int] | None) -> None:
        self._path, self._fixed = path, fixed
        self._names: list[str] | None = None
        self.notes: list[str] = []
        if resume is None:
            if path.exists():
                raise FileExistsError(f"{path} exists: resume that run or choose another folder")
            return
        try:
            text = read_text(path) if path.exists() else ""
        except ValueError as error:  # no UTF-8, no plain file, or too large
            raise UserError(f"{path} is damaged: {error}") from None
        except OSError as error:
            raise UserError(f"cannot read {path}: {error_text(error)}") from None
        # A line without its newline was cut short by a crash: the last element is "" or that half line.
        kept = self._rows_to_keep(text.split("\n")[:-1], *resume)
        if path.exists():
            self._safely(lambda: write_text(path, "".join(f"{line}\n" for line in kept)))

    def _rows_to_keep(self, lines: list[str], updates: int, step: int) -> list[str]:
        """Of the lines of a file the header, and the rows up to a step."""
        rows: dict[int, str] = {}
        double, damaged = list[int](), list[int]()
        header = lines[0].split(",") if lines else []
        if lines:
            if header[: len(self._fixed)] != self._fixed:
                raise UserError(f"{self._path} has columns {lines[0]!r}, expected {','.join(self._fixed)},…")
            self._names = header[len(self._fixed) :]
        for number, line in enumerate(lines[1:], start=2):
            cells = line.split(",")
            counts = dict(zip(self._fixed, cells, strict=False))
            if len(cells) != len(header) or not all(_is_count(counts[name]) for name in ("update", "step")):
                damaged.append(number)
                continue
            if int(counts["step"]) > step:
                continue
            update = int(counts["update"])
            if update in rows:
                double.append(update)
            rows[update] = line  # the one that was written last
        if damaged:
            self.notes.append(f"{self._path} is damaged at lines {_ranges(damaged)}: they are left out")
        if missing := [n for n in range(1, updates + 1) if n not in rows]:
            self.notes.append(f"{self._path} lacks the rows of updates {_ranges(missing)}: they are lost")
        if double:
            self.notes.append(f"{self._path} had the rows of updates {_ranges(double)} twice: the last ones are kept")
        return [*lines[:1], *(rows[n] for n in sorted(rows))]

    def row(self, fixed: list[int], values: Mapping[str, float]) -> str:
        """A line, checked; before the first one the header."""
        text = ""
        if self._names is None:
            self._names = list(values)
            text = ",".join([*self._fixed, *self._names]) + "\n"
        if unknown := [name for name in values if name not in self._names]:
            raise UserError(f"{self._path} has no column for {', '.join(unknown)}")
        if missing := [name for name in self._names if name not in values]:
            raise UserError(f"no value for column {', '.join(missing)} of {self._path}")
        numbers = [float(values[name]) for name in self._names]
        cells = ["" if math.isnan(number) else repr(number) for number in numbers]
        return text + ",".join([*map(str, fixed), *cells]) + "\n"

    def append(self, row: str) -> None:
        """Opened for each row: a killed run loses none, and nothing has to be closed."""

        def write() -> None:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                file.write(row)

        self._safely(write)

    def flush(self) -> None:
        """To the disk itself."""
        self._safely(lambda: flush_to_disk(self._path))

    def _safely(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise UserError(
                f"could not write {self._path}: {error_text(error)}; {recovery_hint(self._path.parent)}"
            ) from None


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _ranges(numbers: list[int]) -> str:
    """1, 2, 3, 7 as `1 to 3, 7`; of many ranges the first ones."""
    numbers, parts = sorted(set(numbers)), list[tuple[int, int]]()
    for n in numbers:
        if parts and parts[-1][1] == n - 1:
            parts[-1] = (parts[-1][0], n)
        else:
            parts.append((n, n))
    told = [f"{a}" if a == b else f"{a} to {b}" for a, b in parts[:5]]
    return ", ".join(told) + (f" and {len(parts) - 5} more" if len(parts) > 5 else "")
