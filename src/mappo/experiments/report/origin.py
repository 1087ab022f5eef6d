"""Where a run comes from: machine, versions and time, as far as its files tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from mappo.errors import UserError
from mappo.experiments.compare.record import Record
from mappo.experiments.report.content import Fact, Row
from mappo.runs.config_json import read_config_json
from mappo.runs.csv_table import read_table

MAX_SECONDS = 1e9


@dataclass(frozen=True)
class Times:
    """Time of the training.

    Args:
        facts: for the top of the page; empty without a `timing.csv`.
        notes: remarks.
    """

    facts: Sequence[Fact]
    notes: Sequence[str]


def read_times(paths: Sequence[Path]) -> Times:
    """Return the time of the training, from the `timing.csv` of each seed; seeds side by side take the same time."""
    try:
        found = [_seconds(path / "timing.csv") for path in paths]
    except ValueError:  # UserError is a ValueError; such as a run of an earlier version
        return Times([], ["The time of the training is not known: timing.csv is missing, or cannot be read."])
    wall, cpu, steps = np.max(found, axis=0)
    if wall <= 0:
        return Times([], [])
    rate = f"{len(paths) * steps / wall:,.0f} steps a second, {_duration(cpu)} of processor time"
    return Times([Fact("Training time", _duration(wall), rate)], [])


def _seconds(table: Path) -> tuple[float, float, float]:
    """Return wall time, processor time and steps; the wall time begins anew after each resume."""
    columns = read_table(table, ["step", "cpu_s", "elapsed_s"])
    elapsed = columns["elapsed_s"]
    if not len(elapsed):
        raise ValueError("there is no time")
    laps = np.diff(elapsed, prepend=0.0)
    wall = float(np.where(laps >= 0, laps, elapsed).sum())
    cpu = float(columns["cpu_s"].sum())
    if not (0 <= wall <= MAX_SECONDS and 0 <= cpu <= MAX_SECONDS):
        raise ValueError("impossible times")
    return wall, cpu, float(columns["step"][-1])


def _duration(seconds: float) -> str:
    """Return a time in its largest units, such as 1 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min" if minutes >= 10 else f"{minutes} min".replace(str(minutes), f"{seconds / 60:.1f}")
    return f"{minutes // 60} h {minutes % 60} min"


def describe_origin(path: Path, records: Sequence[Record]) -> list[Row]:
    """Return machine and versions of a run as rows of a table; facts that the run has not kept are left out."""
    try:
        data = read_config_json(path)
    except UserError:
        data = {}
    machine = _object(data, "machine")
    cores = machine.get("cores")
    memory = machine.get("memory_gib")
    packages = [score.package_version for record in records if (score := record.score) is not None]
    rows = [
        ("processor", machine.get("cpu")),
        ("cores", cores),
        ("memory", None if memory is None else f"{memory} GiB"),
        ("GPU", machine.get("gpu")),
        ("system", machine.get("system")),
        ("device of the run", _device(records, machine.get("gpu") is not None)),
        ("Python", machine.get("python")),
        ("mappo", data.get("mappo")),
        ("torch", data.get("torch")),
        ("environment of the score", packages[0] if packages else None),
        ("weights from", _source(data)),
    ]
    return [[(name, ""), (str(value), "")] for name, value in rows if value is not None]


def _device(records: Sequence[Record], has_gpu: bool) -> str:
    """Return device, threads and processes; a run has recorded a GPU if it used one."""
    run = records[0].config.run
    device = ("cuda" if has_gpu else "cpu") if run.device == "auto" else run.device
    processes = f", {run.processes} processes" if run.processes > 1 else ""
    return f"{device}, {run.threads} thread{'s' * (run.threads > 1)}{processes}"


def _source(data: dict[str, Any]) -> str | None:
    """Return the run whose weights this run began with; None for random weights."""
    source = _object(data, "source")
    return f"{source.get('run')}, step {source.get('step')}" if source else None


def _object(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object in another, {} if there is none."""
    found = data.get(name)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
