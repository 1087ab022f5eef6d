"""Readers of a run's CSV files: a whole file by columns, or the new rows of a file that grows. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mappo.errors import UserError
from mappo.system.files import error_text
from mappo.system.safe_read import quote, read_lines


def read_table(
    file: Path, names: Sequence[str] | None = None, optional: Sequence[str] = ()
) -> dict[str, NDArray[np.float64]]:
    """Return columns of a CSV file of a run, a number for each row; NaN for an empty cell.

    A last line without its end is left out: the run may be writing it. A file that is missing, or without a header yet,
    has no rows.

    Args:
        file: the file, such as `metrics.csv`.
        names: the columns; by default all columns of the file, `step` among them.
        optional: more columns, NaN where the file lacks them.

    Raises:
        UserError: the file is damaged, or lacks a column.
    """
    try:
        lines = read_lines(file) if file.exists() else iter(())
        first = next(lines, None)
        if first is None:
            return {name: np.zeros(0) for name in [*(names or ()), *optional]}
        header = first.split(",")
        if missing := [name for name in names or ["step"] if name not in header]:
            raise ValueError(f"it lacks the columns {', '.join(missing)}")
        chosen = [*(header if names is None else names), *optional]
        places = [header.index(name) if name in header else -1 for name in chosen]
        rows = [_numbers(line, len(header), places) for line in lines]
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is damaged: {error_text(error)}") from None
    values = np.array(rows, dtype=float).reshape(len(rows), len(chosen))
    return dict(zip(chosen, values.T, strict=True))


def _numbers(line: str, width: int, places: Sequence[int]) -> list[float]:
    """Return the cells of a row at some places as numbers; the place -1 is empty."""
    cells = [*line.split(","), ""]
    if len(cells) != width + 1:
        raise ValueError(f"a line has {len(cells) - 1} cells in place of {width}")
    try:
        return [float(cells[place] or math.nan) for place in places]
    except ValueError:
        raise ValueError(f"{quote(line)} holds something other than numbers") from None


class GrowingTable:
    """Reader of `metrics.csv` or `timing.csv` while a training writes it.

    Args:
        file: the file; it may be missing still.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._end = 0  # bytes read so far
        self._names: list[str] = []

    def new_rows(self) -> list[dict[str, float]]:
        """Return the complete rows since the last call, by column. An empty cell is NaN; damaged rows are left out."""
        try:
            with self._file.open("rb") as stream:
                if stream.seek(0, 2) < self._end:  # the file was deleted, and begins again
                    self._end = 0
                stream.seek(self._end)
                complete = stream.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        lines = [line.decode("utf-8", "replace") for line in complete[0].splitlines()]
        if self._end == 0 and lines:
            self._names = lines.pop(0).split(",")
        self._end += sum(map(len, complete[:2]))
        return [row for line in lines if (row := self._read(line))]

    def _read(self, line: str) -> dict[str, float]:
        """Return a row as numbers, empty if damaged."""
        try:
            return dict(zip(self._names, _numbers(line, len(self._names), range(len(self._names))), strict=True))
        except ValueError:
            return {}
