"""Repair of a CSV file when its run is resumed. The file is read as a stream: memory stays bounded, whatever it holds.

`CsvLog` makes a `Repair`, writes its `lines` and shows its `notes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mappo.errors import UserError
from mappo.system.files import error_text
from mappo.system.safe_read import quote, read_lines

# Size of all damaged, repeated and unordered lines together, with 100 characters more for each. These lines are rare.
MAX_REPAIR = 1 << 23

_COUNT = re.compile(r"[0-9]{1,19}")


class Repair:
    """A header, and a single row for each update up to a step, in ascending order.

    Args:
        path: the file, possibly missing.
        fixed: the integer columns; the last two are `update` and `step`.
        updates: updates of the run.
        step: steps of the run; later rows are dropped.
        is_sparse: some updates alone have a row, so that no row counts as missing.

    Raises:
        UserError: the file cannot be read, has other columns, or is mostly damaged.
    """

    def __init__(self, path: Path, fixed: list[str], updates: int, step: int, is_sparse: bool = False) -> None:
        self._path = path
        self._fixed = fixed
        self._updates = updates
        self._step = step
        self._is_sparse = is_sparse
        self.header: list[str] = []
        self._unordered: dict[int, str] = {}  # rows below an earlier row; the last row of an update is valid
        self._repeated: set[int] = set()
        self._damaged = _Ranges()
        self._missing = _Ranges()
        try:
            if path.exists():
                self._inspect()
            else:
                self._missing.add(1, updates)
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, not a plain file, or too large
            raise UserError(
                f"cannot read {path}: {error_text(error)}; move the file away, and the run goes on without it"
            ) from None

    def _inspect(self) -> None:
        """Read the header, and collect the rows that are not in their place."""
        cost = 0
        last = 0
        for number, line in enumerate(read_lines(self._path), start=1):
            if number == 1:
                self._read_header(line)
                continue
            update = self._update_of(line)
            if update is None:
                self._damaged.add(number)
            elif update > last or not update:
                last = max(last, update)
                continue
            else:
                if update in self._unordered:
                    self._repeated.add(update)
                self._unordered[update] = line
            cost += len(line) + 100
            if cost > MAX_REPAIR:
                raise ValueError("too many of its lines are damaged or out of order")

    def _read_header(self, line: str) -> None:
        self.header = line.split(",")
        if self.header[: len(self._fixed)] != self._fixed:
            raise ValueError(f"it has columns {quote(line)}, expected {','.join(self._fixed)},…")

    def _update_of(self, line: str) -> int | None:
        """Return the update of a row, 0 for a row after the last step, None for a damaged line."""
        counts = line.split(",", len(self._fixed))[len(self._fixed) - 2 : len(self._fixed)]
        if line.count(",") + 1 != len(self.header) or not all(map(_COUNT.fullmatch, counts)):
            return None
        update, step = map(int, counts)
        return update if step <= self._step and update <= self._updates else 0

    def lines(self) -> Iterator[str]:
        """Yield the lines of the repaired file."""
        if self.header:
            yield ",".join(self.header) + "\n"
        last = 0
        for update, line in self._rows():
            self._missing.add(last + 1, update - 1)
            last = update
            yield line + "\n"
        self._missing.add(last + 1, self._updates)

    def _rows(self) -> Iterator[tuple[int, str]]:
        """Yield update and line of each row, in ascending order."""
        waiting = sorted(self._unordered, reverse=True)
        last = 0
        for line in read_lines(self._path) if self.header else ():
            update = self._update_of(line) or 0
            if update <= last:
                continue
            last = update
            while waiting and waiting[-1] < update:
                yield waiting[-1], self._unordered[waiting.pop()]
            if waiting and waiting[-1] == update:
                self._repeated.add(update)
                line = self._unordered[waiting.pop()]
            yield update, line
        for update in reversed(waiting):
            yield update, self._unordered[update]

    def notes(self) -> list[str]:
        """Return a sentence for each kind of damage. Call this after `lines`, for an existing file."""
        repeated = _Ranges()
        for update in sorted(self._repeated):
            repeated.add(update)
        facts = (
            (self._damaged, "is damaged at lines", ": they are left out"),
            (self._missing, "lacks the rows of updates", ": they are lost"),
            (repeated, "had the rows of updates", " twice: the last ones are kept"),
        )
        if self._is_sparse:
            facts = (facts[0], facts[2])
        return [f"{self._path} {before} {ranges}{after}" for ranges, before, after in facts if ranges.count]


class _Ranges:
    """Ascending integers as ranges: 1, 2, 3, 7 as `1 to 3, 7`. Of many ranges the first five are shown."""

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[tuple[int, int]] = []
        self._last = -1

    def add(self, low: int, high: int | None = None) -> None:
        """Add an integer, or all from `low` to `high`, if there are any."""
        high = low if high is None else high
        if high < low:
            return
        if self.count and self._last == low - 1:
            if self.count <= 5:
                self._shown[-1] = (self._shown[-1][0], high)
        else:
            self.count += 1
            if self.count <= 5:
                self._shown.append((low, high))
        self._last = high

    def __str__(self) -> str:
        texts = [f"{low}" if low == high else f"{low} to {high}" for low, high in self._shown]
        return ", ".join(texts) + (f" and {self.count - 5} more" if self.count > 5 else "")
