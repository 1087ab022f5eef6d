"""Page of a sweep: quality over cost with the Pareto front, the objective over each setting, and the best trials."""

import csv
import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mappo.config import Config
from mappo.errors import UserError
from mappo.evaluation.number_format import format_return
from mappo.experiments.report.content import Block, Chart, Command, Fact, Page, Row, Table, rounded
from mappo.experiments.report.run_page import minus
from mappo.runs.config_json import read_json
from mappo.runs.scores import MAX_RETURN
from mappo.system.files import error_text, shell_path
from mappo.system.safe_read import read_lines

TABLE = "trials.csv"
_FIGURES = ("eval_return", "score", "score_low", "score_high", "cpu_s")
_COLUMNS = ("trial", "state", *_FIGURES, "pareto")
MAX_TRIALS = 2000  # in charts
MAX_SETTINGS = 30
_COMPLETE = 0
_BEST = 1
_OTHER = 7
_ROWS = 20

Trial = dict[str, Any]


def is_sweep(folder: Path) -> bool:
    """Return whether a folder holds the results of a sweep."""
    return (folder / TABLE).exists()


def sweep_page(folder: Path) -> Page:
    """Return the page of a sweep.

    Raises:
        UserError: the table of trials is damaged.
    """
    settings, trials = _read_trials(folder / TABLE)
    complete = [trial for trial in trials if trial["state"] == "complete" and trial["eval_return"] is not None]
    ranking = sorted(complete, key=lambda trial: -trial["eval_return"])
    counts = ", ".join(f"{count} {state}" for state, count in sorted(Counter(t["state"] for t in trials).items()))
    best = _read_best(folder)
    blocks: list[Block] = []
    facts = [Fact("Trials", f"{len(trials):,}", counts)]
    if ranking:
        facts += _best_facts(ranking[0])
        blocks.append(_cost_chart(ranking))
        blocks.append(Chart("Objective over each setting", "", _setting_views(settings, trials, ranking[0])))
        blocks.append(_ranking_table(settings, ranking))
    if best.get("env"):
        file = shell_path(folder / "best.json")
        command = f"mappo train {shlex.quote(best['env'])} --config {file} --run.seed {_next_seed(best)} --run.seeds 5"
        note = "The best of many trials was also lucky: these are other seeds."
        blocks.append(Command("Train the best settings again", command, [note]))
    notes = [] if ranking else ["No trial is complete."]
    subtitle = f"sweep of {best['env']}" if best.get("env") else "sweep"
    return Page(folder.resolve().name, subtitle, facts, blocks, notes)


def _read_trials(table: Path) -> tuple[list[str], list[Trial]]:
    """Return the names of the settings, and the trials with their numbers; a number that is not finite is None."""
    try:
        rows = csv.DictReader(read_lines(table), restval="")
        names = list(rows.fieldnames or [])
        if missing := [name for name in _COLUMNS if name not in names]:
            raise ValueError(f"it lacks the columns {', '.join(missing)}")
        trials = [_read_trial(row) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{table} is damaged: {error_text(error)}") from None
    settings = [name for name in names if name not in (*_COLUMNS, "error")]
    return settings[:MAX_SETTINGS], trials


def _read_trial(row: Mapping[str, str]) -> Trial:
    return {**row, **{name: _number(row[name]) for name in _FIGURES}, "pareto": row["pareto"] == "1"}


def _number(cell: str) -> float | None:
    value = float(cell) if cell else math.nan
    return value if abs(value) <= MAX_RETURN else None


def _read_best(folder: Path) -> dict[str, Any]:
    """Return what `best.json` holds, {} if there is none."""
    try:
        best = read_json(folder / "best.json", "")
    except UserError:
        return {}
    return best if isinstance(best.get("env"), str) else {}


def _next_seed(best: Mapping[str, Any]) -> int:
    """Return the first seed that no trial has used."""
    try:
        return Config.from_dict(best["config"]).run.all_seeds.stop
    except (KeyError, ValueError):  # UserError is a ValueError
        return 1001


def _best_facts(best: Trial) -> list[Fact]:
    value = best["eval_return"] if best["score"] is None else best["score"]
    interval = _interval(best)
    name = "Best objective" if best["score"] is None else "Score of the best objective"
    return [Fact(name, minus(format_return(value)), minus(f"trial {best['trial']}" + f", {interval}" * bool(interval)))]


def _interval(trial: Trial) -> str:
    low, high = trial["score_low"], trial["score_high"]
    return "" if low is None or high is None else f"{format_return(low)} to {format_return(high)}"


def _quality(trial: Trial) -> float:
    return trial["eval_return"] if trial["score"] is None else trial["score"]


def _cost_chart(ranking: Sequence[Trial]) -> Chart:
    """Return quality over cost of the complete trials, with intervals and the Pareto front."""
    shown = [trial for trial in ranking if trial["cpu_s"] is not None][:MAX_TRIALS]
    best = ranking[0]
    points = [_point(trial, trial["cpu_s"], _quality(trial), "star" if trial is best else "dot") for trial in shown]
    for point, trial in zip(points, shown, strict=True):
        if trial["score_low"] is not None and trial["score_high"] is not None:
            point["low"], point["high"] = rounded([trial["score_low"], trial["score_high"]])
    front = sorted([trial["cpu_s"], _quality(trial)] for trial in shown if trial["pareto"])
    y = "Evaluation, team return" if best["score"] is None else "Score, team return"
    view = {"name": "cost", "y": y, "points": points, "front": front}
    notes = [
        "The stair is the Pareto front: no other trial is both better and cheaper. The star is the best objective."
    ]
    return Chart("Quality over cost", "CPU-seconds of the run", [view], notes)


def _point(trial: Trial, x: float, y: float, mark: str) -> dict[str, Any]:
    """Return a trial as a point of a chart; its tip shows score, cost and settings."""
    figures = [("eval return", trial["eval_return"]), ("score", trial["score"]), ("CPU-seconds", trial["cpu_s"])]
    text = [[name, minus(format_return(value))] for name, value in figures if value is not None]
    text += [[name, _setting_text(trial[name])] for name in trial if name not in (*_COLUMNS, "error", None)]
    color = _BEST if mark == "star" else _COMPLETE if trial["state"] == "complete" else _OTHER
    (x_number, y_number) = rounded([x, y])
    title = f"trial {trial['trial']}, {trial['state']}"
    return {"x": x_number, "y": y_number, "color": color, "mark": mark, "text": [title, *text]}


def _setting_views(settings: Sequence[str], trials: Sequence[Trial], best: Trial) -> list[Mapping[str, Any]]:
    """Return a view for each setting: the objective of complete and pruned trials over the value of the setting."""
    views: list[Mapping[str, Any]] = []
    shown = [trial for trial in trials if trial["eval_return"] is not None][:MAX_TRIALS]
    for name in settings:
        values = [_setting_value(trial[name]) for trial in shown]
        amounts = [value for value in values if isinstance(value, float)]
        view: dict[str, Any] = {"name": name, "x": name, "y": "Evaluation, team return"}
        if len(amounts) == len(values):
            places = amounts
            view["log"] = min(amounts) > 0 and max(amounts) >= 20 * min(amounts)
        else:
            choices = sorted({trial[name] for trial in shown})
            places = [choices.index(trial[name]) for trial in shown]
            view["choices"] = choices
        marks = ["star" if trial is best else "dot" if trial["state"] == "complete" else "cross" for trial in shown]
        view["points"] = [
            _point(trial, place, trial["eval_return"], mark)
            for trial, place, mark in zip(shown, places, marks, strict=True)
        ]
        views.append(view)
    return views


def _setting_value(cell: str) -> float | str:
    """Return the value of a setting as a number, if it is one."""
    try:
        value: object = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_RETURN:
        return float(value)
    return cell


def _setting_text(cell: str) -> str:
    """Return the value of a setting as a short text."""
    value = _setting_value(cell)
    return value.strip('"') if isinstance(value, str) else f"{value:.4g}"


def _ranking_table(settings: Sequence[str], ranking: Sequence[Trial]) -> Table:
    """Return the best trials with their settings."""
    header = ["trial", "eval return", "score", "CPU-s", "Pareto front", *settings]
    rows: list[Row] = []
    for trial in ranking[:_ROWS]:
        figures = [trial["eval_return"], trial["score"], trial["cpu_s"]]
        cells = [("" if value is None else minus(format_return(value)), "") for value in figures]
        cells[1] = (cells[1][0], minus(_interval(trial)))
        front = ("yes" if trial["pareto"] else "", "")
        rows.append([(trial["trial"], ""), *cells, front, *((_setting_text(trial[name]), "") for name in settings)])
    notes = [f"The {_ROWS} best of {len(ranking):,} complete trials."] if len(ranking) > _ROWS else []
    return Table("Trials, the best objective first", header, rows, notes)
