"""CSV files of a run, with a row for each update. Used for `metrics.csv` and `timing.csv`."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mappo.errors import UserError
from mappo.runs.hints import recovery_hint
from mappo.system.files import error_text, flush_to_disk, write_text
from mappo.system.safe_read import read_text

_COUNT = re.compile(r"[0-9]{1,19}")


class CsvLog:
    """A CSV file with integer columns first, then a column for each name in the first row.

    Cells are never quoted: a damaged line cannot swallow the next line.

    Args:
        path: the file.
        fixed: the integer columns; the last two are `update` and `step`.
        resume: updates and steps of the run to resume. Later rows are dropped. `notes` lists the updates with missing,
            repeated or damaged rows. None: a new run; the file must not exist.
    """

    def __init__(self, path: Path, fixed: list[str], resume: tuple[int, int] | None) -> None:
        self._path = path
        self._fixed = fixed
        self._names: list[str] | None = None
        self.notes: list[str] = []
        if resume is None:
            if path.exists():
                raise FileExistsError(f"{path} exists: resume that run or choose another folder")
            return
        try:
            text = read_text(path) if path.exists() else ""
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, not a plain file, or too large
            raise UserError(f"cannot read {path}: {error_text(error)}") from None
        # A crash may cut a line short. The last element is this half line, or "" after a newline.
        lines = self._lines_up_to(text.split("\n")[:-1], *resume)
        if path.exists():
            with self._writing():
                write_text(path, "".join(f"{line}\n" for line in lines))

    def _lines_up_to(self, lines: list[str], updates: int, step: int) -> list[str]:
        """Return the header, and a single line for each update up to a step. Add notes about other lines."""
        num_fixed = len(self._fixed)
        header = lines[0].split(",") if lines else []
        if lines:
            if header[:num_fixed] != self._fixed:
                raise UserError(f"{self._path} has columns {lines[0]!r}, expected {','.join(self._fixed)},…")
            self._names = header[num_fixed:]
        rows: dict[int, str] = {}
        repeated: list[int] = []
        damaged: list[int] = []
        for number, line in enumerate(lines[1:], start=2):
            cells = line.split(",")
            counts = cells[num_fixed - 2 : num_fixed]
            if len(cells) != len(header) or not all(map(_COUNT.fullmatch, counts)):
                damaged.append(number)
                continue
            update, row_step = map(int, counts)
            if row_step <= step:
                if update in rows:
                    repeated.append(update)
                rows[update] = line  # the last row of an update is valid
        missing = [n for n in range(1, updates + 1) if n not in rows]
        for lines_or_updates, before, after in (
            (damaged, "is damaged at lines", ": they are left out"),
            (missing, "lacks the rows of updates", ": they are lost"),
            (repeated, "had the rows of updates", " twice: the last ones are kept"),
        ):
            if lines_or_updates:
                self.notes.append(f"{self._path} {before} {_ranges(lines_or_updates)}{after}")
        return [*lines[:1], *(rows[n] for n in sorted(rows))]

    def row(self, fixed: list[int], values: Mapping[str, float]) -> str:
        """Return the line of a row, with the header ahead of the first row. NaN is an empty cell.

        Raises:
            UserError: the names differ from the names of the first row.
        """
        text = ""
        if self._names is None:
            self._names = list(values)
            text = ",".join([*self._fixed, *self._names]) + "\n"
        if unknown := [name for name in values if name not in self._names]:
            raise UserError(f"{self._path} has no column for {', '.join(unknown)}")
        if missing := [name for name in self._names if name not in values]:
            raise UserError(f"no value for column {', '.join(missing)} of {self._path}")
        floats = [float(values[name]) for name in self._names]
        cells = ["" if math.isnan(x) else repr(x) for x in floats]
        return text + ",".join([*map(str, fixed), *cells]) + "\n"

    def append(self, row: str) -> None:
        """Append a line. The file is opened for each line: a killed process loses no row and leaves no open file."""
        with self._writing(), self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(row)

    def flush(self) -> None:
        """Flush the file to disk."""
        with self._writing():
            flush_to_disk(self._path)

    @contextmanager
    def _writing(self) -> Generator[None]:
        """Turn errors of the file system into a UserError."""
        try:
            yield
        except OSError as error:
            hint = recovery_hint(self._path.parent, error)
            raise UserError(f"could not write {self._path}: {error_text(error)}; {hint}") from None


def _ranges(integers: list[int]) -> str:
    """Format integers as ranges: 1, 2, 3, 7 as `1 to 3, 7`. Of many ranges the first five are shown."""
    ranges: list[tuple[int, int]] = []
    for n in sorted(set(integers)):
        if ranges and ranges[-1][1] == n - 1:
            ranges[-1] = (ranges[-1][0], n)
        else:
            ranges.append((n, n))
    texts = [f"{low}" if low == high else f"{low} to {high}" for low, high in ranges[:5]]
    return ", ".join(texts) + (f" and {len(ranges) - 5} more" if len(ranges) > 5 else "")
