"""Records of a training run: CSV and TensorBoard."""

from __future__ import annotations

import importlib
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mappo.errors import UserError
from mappo.untrusted import read_text


@dataclass(frozen=True)
class Update:
    """Numbers of one policy update, as callbacks, records and views receive them.

    `step` counts environment steps summed over parallel environments. `metrics` is free of clock times,
    NaN where nothing was measured; `timing` holds seconds (`*_s`) and `steps_per_second`.
    """

    index: int
    step: int
    total_steps: int
    metrics: Mapping[str, float]
    timing: Mapping[str, float]


class RunLogger:
    """Appends every update to `metrics.csv`, `timing.csv` and TensorBoard events in a run's folder.

    With `resume_step`, rows and events of later steps are dropped first. Without it, `FileExistsError` is
    raised where the folder already holds records. `ValueError` if a file's columns do not fit.
    """

    def __init__(self, path: Path, *, seed: int, resume_step: int | None = None) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._seed = seed
        self._metrics = _Table(path / "metrics.csv", ["seed", "update", "step"], resume_step)
        self._timing = _Table(path / "timing.csv", ["update", "step"], resume_step)
        self._events = _EventFile(path / "tensorboard", 0 if resume_step is None else resume_step + 1)

    def write(self, update: Update) -> None:
        """Record one update; it survives a killed process. `ValueError` if its names changed."""
        # Both rows are checked before either is written, so that the two files never differ in length.
        metrics = self._metrics.row([self._seed, update.index, update.step], update.metrics)
        timing = self._timing.row([update.index, update.step], update.timing)
        self._metrics.append(metrics)
        self._timing.append(timing)
        scalars = {_tag(name): value for name, value in update.metrics.items()}
        scalars.update({f"time/{name}": value for name, value in update.timing.items()})
        self._events.write(update.step, scalars)

    def close(self) -> None:
        """Close the event file; closing twice is allowed."""
        self._events.close()


class _Table:
    """A CSV file: fixed integer columns, then the names of the first row in their order."""

    def __init__(self, path: Path, fixed: list[str], resume_step: int | None) -> None:
        self._path = path
        self._fixed = fixed
        self._names: list[str] | None = None
        if resume_step is None:
            if path.exists():
                raise FileExistsError(f"{path} exists: resume that run or choose another folder")
        elif path.exists():
            self._keep_until(resume_step)

    def _keep_until(self, resume_step: int) -> None:
        # A line without its newline was cut short by a crash: the last element is "" or that half line.
        try:
            lines = read_text(self._path).split("\n")[:-1]
        except ValueError as error:  # no UTF-8, no plain file, or too large
            raise UserError(f"{self._path} is damaged: {error}") from None
        kept: list[str] = []
        if lines:
            header = lines[0].split(",")
            if header[: len(self._fixed)] != self._fixed:
                raise UserError(f"{self._path} has columns {lines[0]!r}, expected {','.join(self._fixed)},…")
            self._names = header[len(self._fixed) :]
            kept.append(lines[0])
            for number, line in enumerate(lines[1:], start=2):
                cells = line.split(",")
                if len(cells) != len(header):
                    raise UserError(f"{self._path}, line {number}: {len(cells)} cells for {len(header)} columns")
                step = cells[header.index("step")]
                if not (step.isascii() and step.isdigit() and len(step) < 20):
                    raise UserError(f"{self._path}, line {number}: the step is {step!r}")
                if int(step) <= resume_step:
                    kept.append(line)
        part = self._path.with_name(f".{self._path.name}.part")
        part.write_bytes("".join(f"{line}\n" for line in kept).encode())
        os.replace(part, self._path)

    def row(self, fixed: list[int], values: Mapping[str, float]) -> str:
        text = ""
        if self._names is None:
            self._names = list(values)
            text = ",".join([*self._fixed, *self._names]) + "\n"
        if unknown := [name for name in values if name not in self._names]:
            raise UserError(f"{self._path} has no column for {', '.join(unknown)}")
        if missing := [name for name in self._names if name not in values]:
            raise UserError(f"no value for column {', '.join(missing)} of {self._path}")
        numbers = [float(values[name]) for name in self._names]
        cells = ["" if math.isnan(number) else repr(number) for number in numbers]
        return text + ",".join([*map(str, fixed), *cells]) + "\n"

    def append(self, row: str) -> None:
        # Opened for each row: a killed run loses none, and nothing has to be closed.
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(row)


class _EventFile:
    """A TensorBoard event file, written without the import time of `torch.utils.tensorboard`."""

    def __init__(self, folder: Path, purge_step: int) -> None:
        self._pb: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summary: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2").Summary
        records: Any = importlib.import_module("tensorboard.summary.writer.record_writer")
        folder.mkdir(exist_ok=True)
        # TensorBoard reads a folder's files in the order of their names: the clock puts resumed ones last.
        self._writer = records.RecordWriter((folder / f"events.out.tfevents.{time.time_ns()}").open("xb"))
        self._add(file_version="brain.Event:2")
        # A session start makes TensorBoard forget what earlier files hold from this step on.
        self._add(step=purge_step, session_log=self._pb.SessionLog(status=self._pb.SessionLog.START))

    def _add(self, **fields: Any) -> None:
        self._writer.write(self._pb.Event(wall_time=time.time(), **fields).SerializeToString())
        self._writer.flush()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        values = [
            self._summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items() if not math.isnan(value)
        ]
        self._add(step=step, summary=self._summary(value=values))

    def close(self) -> None:
        self._writer.close()


def _tag(name: str) -> str:
    """TensorBoard tag of a metric: its group, a slash, its name."""
    if name.startswith("eval_"):
        return "eval/" + name.removeprefix("eval_")
    if name.endswith("_loss"):
        return "loss/" + name
    if name in {"entropy", "approx_kl", "clip_fraction", "explained_variance"}:
        return "policy/" + name
    if name.startswith("grad_norm") or name.endswith(("_lr", "_weight")):
        return "optimizer/" + name
    return "train/" + name
