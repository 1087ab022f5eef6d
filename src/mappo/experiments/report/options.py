"""Options of `mappo report`. Loads no torch."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReportOptions:
    """Options of a report; the docstrings of the fields are the --help texts of `mappo report`."""

    out: Path | None = None
    """HTML file; by default report.html in the directory of a single run or sweep, else in the current folder."""
