"""CSV files of a run, with a row for each update or for some. Used for `metrics.csv`, `timing.csv`, `returns.csv`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mappo.errors import UserError
from mappo.runs.csv_repair import Repair
from mappo.runs.hints import recovery_hint
from mappo.system.files import error_text, flush_to_disk, write_text
from mappo.system.safe_read import MAX_TABLE, read_lines


class CsvLog:
    """A CSV file with integer columns first, then a column for each name in the first row.

    Cells are never quoted: a damaged line cannot swallow the next line.

    Args:
        path: the file.
        fixed: the integer columns; the last two are `update` and `step`.
        resume: updates and steps of the run to resume. Later rows are dropped. `notes` lists the updates with missing,
            repeated or damaged rows. None: a new run; the file must not exist.
        is_sparse: some updates alone have a row.
    """

    def __init__(self, path: Path, fixed: list[str], resume: tuple[int, int] | None, is_sparse: bool = False) -> None:
        self._path = path
        self._fixed = fixed
        self._names: list[str] | None = None
        self.notes: list[str] = []
        self._is_resumed = resume is not None
        if resume is None:
            if path.exists():
                raise FileExistsError(f"{path} exists: resume that run or choose another folder")
            return
        repair = Repair(path, fixed, *resume, is_sparse)
        if repair.header:
            self._names = repair.header[len(fixed) :]
        if path.exists():
            with self._writing():
                write_text(path, repair.lines())
        self.notes = repair.notes()

    def row(self, fixed: list[int], values: Mapping[str, float]) -> str:
        """Return the line of a row. NaN is an empty cell.

        The first row of a resumed run may bring new columns: an earlier version of mappo began the file.

        Raises:
            UserError: the names differ from the names of the first row.
        """
        names = list(values) if self._names is None else self._names
        if missing := [name for name in names if name not in values]:
            raise UserError(f"no value for column {', '.join(missing)} of {self._path}")
        if unknown := [name for name in values if name not in names]:
            if not self._is_resumed:
                raise UserError(f"{self._path} has no column for {', '.join(unknown)}")
            self._add_columns(unknown)
            names = [*names, *unknown]
        self._names = names
        self._is_resumed = False
        floats = [float(values[name]) for name in names]
        cells = ["" if math.isnan(x) else repr(x) for x in floats]
        return ",".join([*map(str, fixed), *cells]) + "\n"

    def _add_columns(self, names: list[str]) -> None:
        """Add columns to the file, empty in all rows so far."""
        if self._path.exists():
            ends = ["," * len(names), "," + ",".join(names)]  # of a row, of the header
            lines = enumerate(read_lines(self._path))
            with self._writing():
                write_text(self._path, (line + ends[number == 0] + "\n" for number, line in lines))

    def append(self, row: str) -> None:
        """Append a line. The file is opened for each line: a killed process loses no row and leaves no open file.

        A new file, or a file deleted meanwhile, begins with the header.
        """
        with self._writing(), self._path.open("a", encoding="utf-8", newline="") as file:
            size = file.tell()
            if size + len(row) > MAX_TABLE:  # a resume could not read the file any more
                warnings.warn(f"{self._path} is full: beyond {MAX_TABLE:,} bytes no row is written", stacklevel=3)
                return
            if size == 0:
                file.write(",".join([*self._fixed, *(self._names or [])]) + "\n")
            file.write(row)

    def flush(self) -> None:
        """Flush the file to disk; there is no file before the first row."""
        if self._names is None:
            return
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
