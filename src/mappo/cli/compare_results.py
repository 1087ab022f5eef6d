"""`mappo compare` and `mappo runs`: tables on the terminal and in files. Loads no torch."""

import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mappo.cli.commands import Compare, Runs
from mappo.errors import UserError
from mappo.evaluation.number_format import return_format
from mappo.evaluation.statistics import FEWEST_SEEDS
from mappo.experiments.compare.comparison import Comparison, compare
from mappo.experiments.compare.listing import RunInfo, list_runs
from mappo.experiments.compare.marl_eval import to_marl_eval, uneven_notes
from mappo.experiments.compare.tables import Row, list_tables, to_csv, to_dict, to_latex, to_markdown
from mappo.system.files import write_errors, write_text
from mappo.system.safe_read import printable

# From this width on the list of runs has intervals, else half their width.
_WIDE = 130
_TITLE_WIDTH = 12  # characters of a line of a title in a narrow terminal
_NAME_WIDTH = 12  # characters of a name before it goes to a second line


def show_comparison(command: Compare) -> bool:
    """Compare runs, print the tables and write the files; return False if damaged runs were left out."""
    if not command.runs:
        raise UserError("name the runs to compare, as in: mappo compare runs/spread-* (mappo runs lists them)")
    comparison = compare(command.runs, command.by, command.out)
    files: list[tuple[Path | None, Callable[[], str]]] = [
        (command.csv, lambda: to_csv(comparison)),
        (command.latex, lambda: to_latex(comparison)),
        (command.markdown, lambda: to_markdown(comparison)),
        (command.marl_eval, lambda: json.dumps(to_marl_eval(comparison)) + "\n"),
    ]
    for path, make_text in files:
        if path is not None:
            _write(path, make_text())
    written = [command.out, *(path for path, _ in files if path is not None)]
    if command.json:
        print(json.dumps(to_dict(comparison) | {"files": [str(path) for path in written]}))
    else:
        _print_comparison(comparison)
        print("\n" + "\n".join(f"  {path}" for path in written))
    notes = uneven_notes(comparison) if command.marl_eval is not None else []
    return _report(notes, comparison.problems)


def _report(notes: list[str], problems: Any) -> bool:
    """Print notes and problems to standard error; return whether there is no problem."""
    for note in notes:
        print(f"mappo: {printable(note)}", file=sys.stderr)
    for problem in problems:
        print(f"mappo: left out: {printable(problem)}", file=sys.stderr)
    return not problems


def _write(path: Path, text: str) -> None:
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)


def _print_comparison(comparison: Comparison) -> None:
    console = Console()
    shown = [panel for panel in comparison.panels if panel.groups]
    notes = [*(panel.notes for panel in shown), ()]  # the last table is that of all environments
    for (title, header, rows), table_notes in zip(list_tables(comparison), notes, strict=False):
        console.print()
        console.print(Text(printable(title, keep=""), style="bold"))
        console.print(_table(header, rows, console.width))
        for note in table_notes:
            console.print(Text(f"note: {printable(note, keep='')}"))
    console.print(
        f"\nMeans and their 95 % intervals are over seeds (Student's t below 20), of baselines over episodes. IQM: the "
        f"interquartile mean, with a bootstrap interval, too narrow below {FEWEST_SEEDS} seeds. The difference to the "
        f"best is between means over the same episodes, where known.",
        highlight=False,
    )


def _table(header: list[str], rows: list[Row], width: int) -> Table:
    """Return a table, with the widest of three layouts that fits: names give way, and no number is split.

    An interval stands beside its number, or below, or in two lines below.
    """
    short = [textwrap.fill(title, _TITLE_WIDTH) for title in header]
    layouts = [
        (gap, [titles, *([lay_out(*cell) for cell in row] for row in rows)])
        for gap, titles, lay_out in ((2, header, _beside), (1, short, _below), (1, short, _in_two_lines_below))
    ]
    gap, lines = next((layout for layout in layouts if _width(*layout) <= width), layouts[-1])
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")
    first, *others = lines[0]
    table.add_column(first, overflow="fold")
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
    for row in lines[1:]:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _beside(text: str, interval: str) -> str:
    return f"{text} ({interval})" if interval else text


def _below(text: str, interval: str) -> str:
    return f"{text}\n{interval}" if interval else text


def _in_two_lines_below(text: str, interval: str) -> str:
    return _below(text, interval.replace(" to ", "\nto "))


def _width(gap: int, lines: Sequence[Sequence[str]]) -> int:
    """Return the characters of a table with gaps between the columns; of a long name the beginning counts."""
    names, *columns = ([len(part) for cell in cells for part in cell.split("\n")] for cells in zip(*lines, strict=True))
    return min(max(names), _NAME_WIDTH) + sum(max(sizes) + gap for sizes in columns)


def show_runs(command: Runs) -> bool:
    """Print a table of the runs in a folder; return False if damaged runs were left out."""
    infos, problems = list_runs(command.folder)
    if command.json:
        rows = [asdict(info) | {"path": str(info.path)} for info in infos]
        print(json.dumps({"runs": rows, "left_out": problems}))
        return _report([], problems)
    _print_runs(Console(), infos, command.folder)
    if any(info.source == "evaluation" for info in infos):
        print("~ the last evaluation during training, for there is no score")
    return _report([], problems)


def _print_runs(console: Console, infos: Sequence[RunInfo], folder: Path) -> None:
    """Print a line for each run, with its settings at the end or, where they are long, on lines of their own."""
    header = ["run", "environment", "seeds", "steps", "state", "score"]
    rows = [[printable(cell, keep="") for cell in _run_cells(info, folder, console.width >= _WIDE)] for info in infos]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    changes = [printable(info.changes, keep="") for info in infos]
    if sum(widths) + 2 * (len(widths) - 1) > console.width:  # environments go to lines of their own
        changes = [f"{row.pop(1)}: {text}".removesuffix(": ") for row, text in zip(rows, changes, strict=True)]
        del header[1], widths[1]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))

    room = console.width - len(line(header)) - 2
    last = "differs from the preset in"
    console.print(Text(line(header) + f"  {last}" * (room >= len(last)), style="dim"))
    for row, text in zip(rows, changes, strict=True):
        if len(text) <= room:
            console.print(Text(f"{line(row)}  {text}".rstrip()))
        else:
            console.print(Text(line(row).rstrip()))
            indented = textwrap.indent(textwrap.fill(text, console.width - 4), "    ")
            console.print(Text(indented, style="dim"))


def _run_cells(info: RunInfo, folder: Path, is_wide: bool) -> list[str]:
    path = info.path.relative_to(folder) if info.path != folder else info.path
    first, *others = info.seeds
    seeds = f"{first}-{others[-1]}" if others else str(first)
    steps = f"{info.step:,}" + (f"/{info.total_steps:,}" if info.step < info.total_steps else "")
    return [str(path), info.env, seeds, steps, info.state, _score_text(info, is_wide)]


def _score_text(info: RunInfo, is_wide: bool) -> str:
    """Return the score with its interval; in a narrow terminal with half the width of the interval."""
    if info.score is None:
        return ""
    number = return_format(info.score["mean"])
    text = f"{'~' if info.source == 'evaluation' else ''}{info.score['mean']:{number}}"
    if info.score["ci95"] is None:
        return text
    low, high = info.score["ci95"]
    if not is_wide:
        return f"{text} ±{(high - low) / 2:{number}}"
    return f"{text} ({low:{number}} to {high:{number}})"
