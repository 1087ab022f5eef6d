"""Content of a page: a title, facts, and blocks such as charts and tables, with all text as plain text."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mappo.errors import shorten

# Most rows of a table and most notes; the others are counted.
MAX_ROWS = 200
MAX_NOTES = 20
DIGITS = 6  # of the numbers in charts

# A cell is a text, and a second text such as an interval.
Cell = tuple[str, str]
Row = Sequence[Cell]


@dataclass(frozen=True)
class Chart:
    """A chart that answers the mouse, drawn by page/charts.js.

    Args:
        title: heading.
        x: label of the horizontal axis.
        views: one or several views to choose from, see `page/charts.js`.
        notes: lines below the chart.
    """

    kind: ClassVar[str] = "chart"
    is_half: ClassVar[bool] = False
    title: str
    x: str
    views: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()

    @property
    def data(self) -> dict[str, Any]:
        """Return the chart as JSON types."""
        return {"x": self.x, "views": list(self.views)}


@dataclass(frozen=True)
class Table:
    """A table; the first column is text, the others are numbers unless `is_text`.

    A table without a header is a list of names and values. `is_folded`: shown when it is opened. `is_half`: beside
    another block on a wide screen.
    """

    kind: ClassVar[str] = "table"
    title: str
    header: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    is_text: bool = False
    is_folded: bool = False
    is_half: bool = False

    @property
    def shown(self) -> Sequence[Row]:
        """Return the rows to show."""
        return self.rows[:MAX_ROWS]

    @property
    def remarks(self) -> list[str]:
        """Return the notes, and the number of rows left out."""
        more = len(self.rows) - MAX_ROWS
        return [*self.notes, *([f"{more:,} more rows are left out"] if more > 0 else [])]


@dataclass(frozen=True)
class Command:
    """Words to type into a shell, or into Python."""

    kind: ClassVar[str] = "command"
    is_half: ClassVar[bool] = False
    title: str
    text: str
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Replay:
    """Pictures of episodes, to play or to step through.

    Args:
        title: heading.
        data: see `frames.read_replay`; empty if there is no replay.
        notes: lines below the pictures.
        is_tall: two half tables stand beside the pictures.
    """

    kind: ClassVar[str] = "replay"
    is_half: ClassVar[bool] = True
    title: str
    data: Mapping[str, Any]
    notes: Sequence[str] = ()
    is_tall: bool = False


Block = Chart | Table | Command | Replay


@dataclass(frozen=True)
class Fact:
    """A number at the top of the page, with its name and a remark."""

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Page:
    """A whole page.

    Args:
        title: heading, and title of the window.
        subtitle: line below the heading.
        facts: the most important numbers.
        blocks: charts, tables and so on, from top to bottom.
        notes: warnings to the reader.
    """

    title: str
    subtitle: str
    facts: Sequence[Fact] = ()
    blocks: Sequence[Block] = ()
    notes: Sequence[str] = field(default_factory=list[str])


def rounded(values: Iterable[float]) -> list[float | None]:
    """Return numbers for a chart: rounded to some digits, None for a number that is not finite."""
    return [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in values]


def line(name: str, style: str, color: int, x: Iterable[float], y: Iterable[float], **more: Any) -> dict[str, Any]:
    """Return a line of a chart, see `page/charts.js`."""
    return {"name": name, "style": style, "color": color, "x": [float(step) for step in x], "y": rounded(y), **more}


def short_list(texts: Sequence[str]) -> list[str]:
    """Return notes, of many the first."""
    return [*texts[:MAX_NOTES], *([f"and {len(texts) - MAX_NOTES:,} more"] if len(texts) > MAX_NOTES else [])]


def join_seeds(seeds: Sequence[int]) -> str:
    """Return seeds as a text."""
    is_range = len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"{seeds[0]} to {seeds[-1]}" if is_range else shorten([str(seed) for seed in seeds], 10)
