"""New rows of a growing CSV file of a run. Imports no torch."""

import math
from pathlib import Path


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
        lines = [line.decode("utf-8", "replace").split(",") for line in complete[0].splitlines()]
        if self._end == 0 and lines:
            self._names = lines.pop(0)
        self._end += sum(map(len, complete[:2]))
        return [row for line in lines if (row := self._read(line))]

    def _read(self, cells: list[str]) -> dict[str, float]:
        """Return a row as numbers, empty if damaged."""
        try:
            return {name: float(cell or math.nan) for name, cell in zip(self._names, cells, strict=True)}
        except ValueError:
            return {}
