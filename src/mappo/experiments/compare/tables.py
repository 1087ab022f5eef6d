"""Tables of a comparison: JSON, CSV, LaTeX and Markdown. Loads no torch."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mappo.evaluation.number_format import return_format
from mappo.experiments.compare.comparison import Comparison, Group, Panel
from mappo.system.safe_read import csv_text, printable

OVERALL = "all environments, scaled to 0..1"
_CAPTION = (
    "Mean return over seeds, with its 95 % interval (Student's t below 20 seeds). Bold: higher than each other mean of "
    "the environment; the 95 % interval of each difference (Welch's t, over seeds) excludes zero. Numbers of seeds "
    "stand in brackets where they differ."
)


def to_dict(comparison: Comparison) -> dict[str, Any]:
    """Return all numbers of a comparison as JSON types."""
    return {
        "panels": [
            {
                **{name: getattr(panel, name) for name in ("env", "source", "step", "policy")},
                "groups": [_group_dict(group) for group in panel.groups],
                "baselines": dict(panel.baselines),
                "notes": list(panel.notes),
            }
            for panel in comparison.panels
        ],
        "overall": [_group_dict(group) for group in comparison.overall],
        "left_out": list(comparison.problems),
    }


def _group_dict(group: Group) -> dict[str, Any]:
    runs = [
        {"path": str(s.record.path), "seed": s.record.seed, "state": s.record.state, "step": s.step, "mean": s.mean}
        for s in group.scores
    ]
    versus = None if group.versus_best is None else dict(group.versus_best)
    return {"name": group.name, "policy": group.policy, "runs": runs, **group.summary, "versus_best": versus}


def to_csv(comparison: Comparison) -> str:
    """Return a row for each group in each environment; an empty cell where a number does not exist."""
    stream = io.StringIO()
    names = ("mean", "mean_low", "mean_high", "iqm", "iqm_low", "iqm_high")
    versus = ("best_is_better", "best_is_better_low", "best_is_better_high")
    differences = ("difference", "difference_low", "difference_high", "games", "games_low", "games_high")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["env", "group", "seeds", "source", "step", "policy", *names, *versus, *differences])
    sources = [(group, panel.env, panel.source, panel.step) for panel in comparison.panels for group in panel.groups]
    sources += [(group, OVERALL, "scaled", "") for group in comparison.overall]
    for group, env, source, step in sources:
        row = [env, csv_text(group.name), len(group.scores), source, step, group.policy]
        table.writerow([*row, *_cells(group)])
    return stream.getvalue()


def _cells(group: Group) -> list[Any]:
    summary = group.summary
    versus = group.versus_best or {}
    improvement: Mapping[str, Any] = versus.get("improvement", {})
    return [
        *(summary["mean"], *_ends(summary.get("ci95"))),
        *(summary["iqm"], *_ends(summary.get("iqm_ci95"))),
        *(improvement.get("probability"), *_ends(improvement.get("ci95"))),
        *(versus.get("difference"), *_ends(versus.get("ci95"))),
        *(versus.get("games"), *_ends(versus.get("ci95_games"))),
    ]


def _ends(interval: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval[0], interval[1])


def to_markdown(comparison: Comparison) -> str:
    """Return a table for each environment."""
    blocks = [_markdown_table(*table) for table in list_tables(comparison)]
    return "\n".join(blocks)


def _markdown_table(title: str, header: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    lines = [
        f"**{_markdown_text(title)}**",
        "",
        "| " + " | ".join(header) + " |",
        "|---" + "|---:" * (len(header) - 1) + "|",
    ]
    for row in rows:
        cells = [_markdown_text(text + (f" ({interval})" if interval else "")) for text, interval in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _markdown_text(text: str) -> str:
    """Return a text that stays in its cell, and in which no markup takes effect."""
    return re.sub(r"[\\|`*\[\]<>$]|\b_|_\b", r"\\\g<0>", printable(text, keep=""))


def to_latex(comparison: Comparison) -> str:
    """Return a table of booktabs with its caption: groups by environments, the mean with its 95 % interval.

    A mean is bold where it is higher than each other mean of its environment beyond chance, see `_winner`.
    """
    panels = [panel for panel in comparison.panels if panel.groups]
    names = list(dict.fromkeys(group.name for panel in panels for group in panel.groups))
    rows = [
        ["", *(_latex_text(panel.env) for panel in panels)],
        ["environment steps", *(f"{panel.step:,}" for panel in panels)],
        ["policy", *(panel.policy for panel in panels)],
        ["seeds", *(panel.num_seeds for panel in panels)],
        *([_latex_text(name), *(_latex_cell(panel, name) for panel in panels)] for name in names),
    ]
    lines = [" & ".join(row) + r" \\" for row in rows]
    head = ["% Needs booktabs.", r"\begin{table}", r"\centering", rf"\caption{{{_latex_text(_CAPTION)}}}"]
    head += [r"\begin{tabular}{l" + "r" * len(panels) + "}", r"\toprule"]
    tail = [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join([*head, *lines[:4], r"\midrule", *lines[4:], *tail])


def _latex_cell(panel: Panel, name: str) -> str:
    group = next((group for group in panel.groups if group.name == name), None)
    if group is None:
        return "--"
    number = number_format(panel.groups)
    mean = number(group.summary["mean"])
    text = rf"\mathbf{{{mean}}}" if group is _winner(panel) else mean
    if (interval := group.summary["ci95"]) is not None:
        low, high = interval
        text += f"\\ [{number(low)}, {number(high)}]"
    return f"${text}$" + f" ({len(group.scores)})" * (" to " in panel.num_seeds)


def _winner(panel: Panel) -> Group | None:
    """Return the best group if its mean is higher than each other group's beyond chance, else None.

    Beyond chance: the 95 % interval over seeds of each difference to the best (Welch) is below zero.
    """
    best, *others = panel.groups
    intervals = [group.versus_best["ci95"] for group in others if group.versus_best is not None]
    return best if others and all(interval and interval[1] < 0 for interval in intervals) else None


def _latex_text(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return re.sub(r"[\\~^&%$#_{}]", lambda found: special.get(found[0], "\\" + found[0]), printable(text, keep=""))


Row = Sequence[tuple[str, str]]


def list_tables(comparison: Comparison) -> list[tuple[str, list[str], list[Row]]]:
    """Return title, header and rows of each table; a cell is a number and its interval, both as text."""
    header = ["group", "seeds", "mean", "IQM", "P(best is better)", "minus the best"]
    tables: list[tuple[str, list[str], list[Row]]] = []
    for panel in comparison.panels:
        kind = "episodes after the training" if panel.source == "score" else "evaluations"
        rows = [_row(group, number_format(panel.groups)) for group in panel.groups]
        rows += [_baseline_row(name, found, number_format(panel.groups)) for name, found in panel.baselines.items()]
        if panel.groups:
            tables.append((f"{panel.env}, step {panel.step:,}, {kind}, {panel.policy} policy", header, rows))
    if comparison.overall:
        rows = [_row(group, "{:.2f}".format)[:-1] for group in comparison.overall]
        tables.append((OVERALL, header[:-1], rows))
    return tables


def _row(group: Group, number: Callable[[float], str]) -> Row:
    summary = group.summary
    row = [
        (group.name, ""),
        (str(len(group.scores)), ""),
        (number(summary["mean"]), _interval(summary.get("ci95"), number)),
        (number(summary["iqm"]), _interval(summary["iqm_ci95"], number)),
    ]
    versus = group.versus_best
    if versus is None:
        return [*row, ("best", ""), ("", "")]
    improvement = versus["improvement"]
    row.append((f"{improvement['probability']:.2f}", _interval(improvement["ci95"], "{:.2f}".format)))
    if "difference" not in versus:
        return [*row, ("", "")]
    # Without an interval over seeds, the interval over episodes is that of these trained policies alone.
    interval = _interval(versus["ci95"], number)
    if not interval and versus["ci95_games"] is not None:
        interval = _interval(versus["ci95_games"], number) + " episodes"
    return [*row, (number(versus["difference"]), interval)]


def _baseline_row(name: str, found: Mapping[str, Any], number: Callable[[float], str]) -> Row:
    return [
        (f"{name} (baseline)", ""),
        ("", ""),
        (number(found["mean"]), _interval(found["ci95"], number)),
        *[("", "")] * 3,
    ]


def _interval(interval: Sequence[float] | None, number: Callable[[float], str]) -> str:
    return "" if interval is None else f"{number(interval[0])} to {number(interval[1])}"


def number_format(groups: Sequence[Group]) -> Callable[[float], str]:
    """Return a function that formats returns: with as many decimals as the smallest interval has use for."""
    widths = [high - low for group in groups if group.summary["ci95"] for low, high in [group.summary["ci95"]]]
    number = return_format(*(group.summary["mean"] for group in groups))
    if widths and min(widths) > 100:
        number = "z,.0f"
    elif number == "z,.1f" and widths and min(widths) < 0.2:
        number = "z,.2f"
    return f"{{:{number}}}".format
