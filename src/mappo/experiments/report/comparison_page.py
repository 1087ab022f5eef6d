"""Page of several runs beside each other, with the groups and the statistics of `mappo compare`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mappo.evaluation.number_format import format_return
from mappo.experiments.compare.comparison import Comparison, Group, Panel
from mappo.experiments.compare.figure import curve_of
from mappo.experiments.compare.tables import list_tables
from mappo.experiments.report.command_line import repeat_command
from mappo.experiments.report.content import Block, Chart, Fact, Page, Replay, Row, Table, line, rounded, short_list
from mappo.experiments.report.curves import level
from mappo.experiments.report.frames import MAX_BYTES, read_replay
from mappo.experiments.report.run_page import STEPS, minus

MAX_GROUPS = 21  # in a chart: seven colours with three dashes
MAX_PANELS = 20
MAX_REPLAYS = 4
_NOTE = (
    "Means and their 95 % intervals are over seeds (Student's t below 20), of baselines over episodes. IQM: the "
    "interquartile mean, with a bootstrap interval. The difference to the best is between means over the same episodes."
)


def comparison_page(comparison: Comparison) -> Page:
    """Return the page of a comparison."""
    panels = [panel for panel in comparison.panels if panel.groups][:MAX_PANELS]
    scores = [score for panel in panels for group in panel.groups for score in group.scores]
    blocks: list[Block] = []
    tables = list_tables(comparison)
    names = sorted({group.name for panel in panels for group in panel.groups})
    styles = {name: k for k, name in enumerate(names)}
    for panel, (title, header, rows) in zip(panels, tables, strict=False):
        blocks.append(_panel_chart(panel, styles))
        blocks.append(Table(title, header, [_with_minus(row) for row in rows], short_list(list(panel.notes))))
    if comparison.overall:
        title, header, rows = tables[-1]
        blocks.append(Table(title, header, [_with_minus(row) for row in rows]))
    blocks += _replays(panels)
    blocks.append(_runs_table(panels))
    blocks.append(_commands_table(panels))
    facts = [
        Fact("Runs", f"{len({score.record.run for score in scores}):,}", f"{len(scores):,} seeds in all"),
        Fact("Groups", f"{len(names):,}", "runs of equal settings"),
        Fact("Environments", f"{len(panels):,}"),
        *[Fact(f"Best on {panel.env}", _best_text(panel), panel.groups[0].name) for panel in panels[:3]],
    ]
    notes = short_list([f"left out: {problem}" for problem in comparison.problems])
    return Page("Comparison of runs", _NOTE, facts, blocks, notes)


def _best_text(panel: Panel) -> str:
    return minus(format_return(panel.groups[0].summary["mean"]))


def _with_minus(row: Row) -> Row:
    """Return a row with true minus signs in its numbers; the first cell is a name."""
    return [row[0], *((minus(text), minus(interval)) for text, interval in row[1:])]


def _panel_chart(panel: Panel, styles: Mapping[str, int]) -> Chart:
    """Return the evaluations of each group of an environment: mean over seeds, with its 95 % interval.

    Args:
        panel: groups of an environment.
        styles: a number for each group, the same in all charts; it chooses colour and dashes.
    """
    lines = [_group_line(group, styles[group.name]) for group in panel.groups[:MAX_GROUPS]]
    shown = [mean for values in lines for mean in values["y"] if mean is not None]
    for name, found in panel.baselines.items():
        baseline: dict[str, Any] = {**level(name, 7, found), "hidden": not _is_near(found["mean"], shown)}
        lines.append(baseline)
    notes = ["A name above the chart shows or hides its line."]
    if len(panel.groups) > MAX_GROUPS:
        notes.append(f"The best {MAX_GROUPS} of {len(panel.groups):,} groups are drawn.")
    return Chart(panel.env, STEPS, [{"name": panel.env, "y": "Evaluation, team return", "lines": lines}], notes)


def _group_line(group: Group, style: int) -> dict[str, Any]:
    steps, means, band = curve_of(group)
    edges = {} if band is None else dict(zip(("low", "high"), map(rounded, band), strict=True))
    return line(group.name, "dots", style % 7, steps, means, dash=style // 7 % 3, **edges)


def _is_near(mean: float, shown: Sequence[float]) -> bool:
    """Return whether a baseline is near the lines; far baselines would flatten them."""
    if not shown:
        return True
    margin = max(shown) - min(shown)
    return min(shown) - margin <= mean <= max(shown) + margin


def _replays(panels: Sequence[Panel]) -> list[Replay]:
    """Return a replay of the first groups with one."""
    found: dict[str, Path] = {}
    for panel in panels:
        for group in panel.groups:
            files = [score.record.run / "replay.gif" for score in group.scores]
            if file := next((file for file in files if file.exists()), None):
                found[f"{panel.env}: {group.name}"] = file
    chosen = [*found.items()][:MAX_REPLAYS]
    replays: list[Replay] = []
    for name, file in chosen:
        data, note = read_replay(file, MAX_BYTES // len(chosen))
        replays.append(Replay(f"Replay, {name}", data, [str(file.parent), *([note] if note else [])]))
    return replays


def _runs_table(panels: Sequence[Panel]) -> Table:
    """Return a row for each seed."""
    rows: list[Row] = []
    for panel in panels:
        for group in panel.groups:
            for score in group.scores:
                record = score.record
                texts = [str(record.path), panel.env, group.name, str(record.seed), record.state, f"{score.step:,}"]
                rows.append([*((text, "") for text in texts), (minus(format_return(score.mean)), "")])
    header = ("run", "environment", "group", "seed", "state", "step", "mean return")
    return Table("Runs", header, rows, is_text=True, is_folded=True)


def _commands_table(panels: Sequence[Panel]) -> Table:
    """Return the command of the first run of each group."""
    commands: Mapping[str, str] = {
        f"{panel.env}: {group.name}": repeat_command(record.env, record.config)
        for panel in panels
        for group in panel.groups[:MAX_GROUPS]
        for record in [group.scores[0].record]
    }
    rows = [[(name, ""), (command, "")] for name, command in commands.items()]
    return Table("Repeat the first run of each group", ("group", "command"), rows, is_text=True, is_folded=True)
