"""Build the tables and figures of docs/results.md from the rows in results/. Run by `make results`.

The script writes between the marks `<!-- rows: NAME -->` and `<!-- end -->` of the page; all other text is written by
hand. `python docs/build_results.py --check` only compares.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mappo.config.tasks import TASKS, Peer, Task
from mappo.evaluation.number_format import return_format
from mappo.evaluation.statistics import mean_interval, performance_profile
from mappo.experiments.compare.comparison import Comparison, compare_records
from mappo.experiments.compare.figure import draw_comparison
from mappo.experiments.compare.marl_eval import to_marl_eval
from mappo.experiments.compare.tables import to_markdown
from mappo.experiments.reproduce.row import Row, read_row

HERE = Path(__file__).resolve().parent
ROWS = HERE.parent / "results"
PAGE = HERE / "results.md"
MARL_EVAL = ROWS / "marl_eval.json"
# Tasks that differ in the environment, for each group of the comparison, of the figure and of the profiles.
GROUPS = {"MAPPO": ("spread", "speaker_listener"), "IPPO": ("spread-ippo", "speaker_listener-ippo")}
THRESHOLDS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)


def read_rows() -> dict[str, Row]:
    """Return the rows of all tasks, in the order of the table of tasks."""
    rows = [read_row(file) for file in sorted(ROWS.glob("*.json")) if file.name != MARL_EVAL.name]
    found = {row.task: row for row in rows}
    return {name: found[name] for name in TASKS if name in found}


def blocks(rows: dict[str, Row]) -> dict[str, str]:
    """Return the generated blocks of the page, by name."""
    return {
        "seeds": "\n".join(seed_table(TASKS[name], row) for name, row in rows.items()),
        "groups": to_markdown(compare_rows(rows)) + profile_table(rows),
        "others": peers_table(rows),
        "older": older_table(rows),
    }


def seed_table(task: Task, row: Row) -> str:
    """Return a table of the seeds of a row, with paired differences to the best baseline."""
    score = row.records[0].score
    assert score is not None
    best = max(score.baselines, key=lambda name: float(np.mean(score.baselines[name])))
    seeds = f"{len(row.returns)} seeds" if len(row.returns) > 1 else "a single seed"
    lines = [
        f"**{task.name}**: {task.steps:,} steps of `{task.env}`, {seeds}, {task.policy} actions, "
        f"{score.num_episodes:,} games of `{score.env}` ({score.package_version}); trained by "
        f"{trainers(row)}.",
        "",
        f"| {task.name} | return | ahead of the {best}, game by game | CPU-minutes |",
        "|---|---|---|---|",
    ]
    for name, values in score.baselines.items():
        lines.append(f"| {name} | {with_interval(np.array(values))} | | |")
    baseline = np.array(score.baselines[best])
    for record, cost in zip(row.records, row.costs, strict=True):
        returns = np.array([*(record.final_returns or {}).values()])
        ahead = with_interval(returns - baseline, "+")
        minutes = "" if cost["cpu_minutes"] is None else f"{cost['cpu_minutes']:.1f}"
        lines.append(f"| seed {record.seed} | {with_interval(returns)} | {ahead} | {minutes} |")
    if len(row.returns) > 1:
        lines.append(f"| mean, over seeds | {with_interval(np.array(row.returns))} | | |")
    return "\n".join([*lines, ""])


def trainers(row: Row) -> str:
    """Return commit, versions and machine of the trainings of a row."""
    names = [
        f"commit `{t['commit']}` with torch {t['torch']} on {t['cpu']}"
        for cost in row.costs
        for t in cost["trained_by"] or ()
    ]
    return " and ".join(dict.fromkeys(names)) or "an unknown commit"


def with_interval(values: np.ndarray, sign: str = "") -> str:
    """Return mean and 95 % interval of values; a single value has no interval."""
    number = f"{sign}{return_format(values.mean()).removeprefix('z')}"
    if len(values) < 2:
        return f"{values.mean():{number}}"
    mean, low, high = (f"{value:{number}}" for value in (values.mean(), *mean_interval(values)))
    return f"{mean} ({low} to {high})"


def compare_rows(rows: dict[str, Row]) -> Comparison:
    """Return the comparison of the tasks in `GROUPS` that have rows."""
    labels = {name: label for label, names in GROUPS.items() for name in names}
    named = [(labels[name], row) for name, row in rows.items() if name in labels]
    return compare_records([replace(record, label=label) for label, row in named for record in row.records])


def profile_table(rows: dict[str, Row]) -> str:
    """Return the performance profile of each group with rows of all its tasks, see `scale`."""
    lines = ["", "| fraction of runs above | " + " | ".join(f"{x:g}" for x in THRESHOLDS) + " |", "|---" * 8 + "|"]
    for label, names in GROUPS.items():
        if any(name not in rows for name in names):
            continue
        scaled = [scale(rows[name]) for name in names]
        fractions, (low, high) = performance_profile(scaled, np.array(THRESHOLDS))
        cells = [f"{x:.2f} ({a:.2f} to {b:.2f})" for x, a, b in zip(fractions, low, high, strict=True)]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""]) if len(lines) > 3 else ""


def scale(row: Row) -> np.ndarray:
    """Return the returns of a row on the scale from the random policy to the best baseline."""
    score = row.records[0].score
    assert score is not None
    means = {name: float(np.mean(values)) for name, values in score.baselines.items()}
    return (np.array(row.returns) - means["random"]) / (max(means.values()) - means["random"])


def peers_table(rows: dict[str, Row]) -> str:
    """Return the numbers of others beside the rows, and a line for each source."""
    lines = ["| task | return | steps | by |", "|---|---:|---:|---|"]
    sources: dict[str, None] = {}
    by_peers: dict[tuple[Peer, ...], list[Task]] = {}
    for task in TASKS.values():
        by_peers.setdefault(task.peers, []).append(task)
    for peers, tasks in by_peers.items():
        for task in tasks:
            if peers and task.name in rows:
                ours = with_interval(np.array(rows[task.name].returns))
                lines.append(f"| {task.name} | {ours} | {task.steps / 1e6:g}M | mappo |")
        names = ", ".join(task.name for task in tasks)
        for peer in peers:
            mark = "" if peer.mark == "V" else ", unverified"
            lines.append(f"| {names} | {peer.value:.2f} | {peer.steps / 1e6:g}M | {peer.name}{mark} |")
            sources[f"- {peer.name.partition(' ')[0]}: {peer.describe_source()}"] = None
    return "\n".join([*lines, "", *sources, ""])


def older_table(rows: dict[str, Row]) -> str:
    """Return the measured tasks without a row: their games were not kept."""
    lines = ["| task | environment | steps | returns of the seeds | baselines |", "|---|---|---:|---|---|"]
    for task in TASKS.values():
        if task.returns and task.name not in rows:
            returns = ", ".join(f"{value:,g}" for value in task.returns)
            baselines = ", ".join(f"{name} {value:,g}" for name, value in task.baselines.items())
            lines.append(f"| {task.name} | `{task.env}` | {task.steps / 1e6:g}M | {returns} | {baselines} |")
    return "\n".join([*lines, ""])


def fill(page: str, contents: dict[str, str]) -> str:
    """Return the page with its blocks written anew."""
    for name, content in contents.items():
        pattern = re.compile(rf"(<!-- rows: {name} -->\n).*?(<!-- end -->)", re.S)
        page, count = pattern.subn(lambda match, text=content: f"{match[1]}\n{text}\n{match[2]}", page)
        if count != 1:
            raise ValueError(f"{PAGE} has {count} blocks {name!r}")
    return page


def main(words: Sequence[str]) -> int:
    """Write the page and its files, or compare them; return the exit code."""
    rows = read_rows()
    comparison = compare_rows(rows)
    marl_eval = json.dumps(to_marl_eval(comparison)) + "\n"
    texts = {PAGE: fill(PAGE.read_text(encoding="utf-8"), blocks(rows)), MARL_EVAL: marl_eval}
    if "--check" in words:
        stale = [file for file, text in texts.items() if not file.exists() or file.read_text("utf-8") != text]
        print(*(f"{file} is stale: make results" for file in stale), sep="\n")
        return bool(stale)
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
    draw_comparison(comparison, HERE / "images" / "results.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
