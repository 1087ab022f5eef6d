"""`mappo.report`: a page about a run, about several runs, or about a sweep, written as a single HTML file."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mappo.errors import UserError
from mappo.experiments.compare.comparison import compare
from mappo.experiments.compare.finding import find_runs
from mappo.experiments.compare.record import read_record
from mappo.experiments.report.comparison_page import comparison_page
from mappo.experiments.report.content import Page
from mappo.experiments.report.run_page import run_page
from mappo.experiments.report.sweep_page import is_sweep, sweep_page
from mappo.experiments.report.template import fill_template
from mappo.system.files import write_errors, write_text
from mappo.system.stdio import say

NAME = "report.html"
MAX_PAGE = 6_000_000  # bytes


def report(runs: Sequence[str | Path] | str | Path, out: str | Path | None = None) -> Path:
    """Write a page about runs, an HTML file for use offline: charts, scores, replays and settings.

    Args:
        runs: a run directory, or the folder of a sweep. Several run directories, folders of runs or patterns are
            compared, see `compare`. `LABEL=PATH` names a group.
        out: the file; by default `report.html`, in the directory of a single run or sweep, else in the current folder.

    Returns:
        The file.

    Raises:
        UserError: there is no such run, a file of the run is damaged, or the page cannot be written.
    """
    words = [runs] if isinstance(runs, str | Path) else list(runs)
    return _write(*_make_page(words), out)


def _write(page: Page, home: Path, out: str | Path | None) -> Path:
    """Write a page into a file, by default `report.html` in the folder `home`."""
    file = home / NAME if out is None else Path(out)
    if file.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"the report {file} must end in .html")
    text = fill_template(page)
    size = len(text.encode())
    if size > MAX_PAGE:
        raise UserError(f"the report would be {size:,} bytes long, more than {MAX_PAGE:,}: name fewer runs")
    with write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
    return file


def report_at_end(run: Path, no_replay: str = "") -> Path | None:
    """Write the page of a run that is complete; an error costs a warning alone, and the result is None.

    Args:
        run: run directory.
        no_replay: the reason why no replay could be drawn.
    """
    try:
        return _write(*_make_page([run], no_replay), None)
    except (OSError, ValueError) as error:  # UserError is a ValueError
        say(f"no report: {error}", sys.stderr)
        return None


def _make_page(words: Sequence[str | Path], no_replay: str = "") -> tuple[Page, Path]:
    """Return the page, and the folder of the file by default."""
    if not words:
        raise UserError("name the runs to report, as in: mappo report runs/spread-1 (mappo runs lists them)")
    if len(words) == 1 and is_sweep(Path(words[0])):
        return sweep_page(Path(words[0])), Path(words[0])
    found = find_runs(words)
    if len(found.runs) == 1 and not found.problems:
        run = found.runs[0]
        return run_page(run, [read_record(run, seed, path) for seed, path in run.seeds], no_replay), run.path
    return comparison_page(compare(words)), Path()
