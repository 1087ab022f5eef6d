"""TensorBoard event files, written without the import time of `torch.utils.tensorboard`."""

from __future__ import annotations

import importlib
import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


class EventFile:
    """A new event file in a folder, which makes TensorBoard forget what earlier ones hold from a step on.

    One that cannot be written is told once, as a warning, and is then no more: the numbers are in `metrics.csv`.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        self._pb: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summary: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2").Summary
        self._folder, self._file, self._writer = folder, None, None
        self._try(lambda: self._open(purge_step))

    def _open(self, purge_step: int) -> None:
        records: Any = importlib.import_module("tensorboard.summary.writer.record_writer")
        self._folder.mkdir(exist_ok=True)
        # TensorBoard reads a folder's files in the order of their names: the clock puts resumed ones last, unless it
        # was set back.
        numbers = [path.name.rpartition(".")[2] for path in self._folder.glob("events.out.tfevents.*")]
        number = max([time.time_ns(), *(int(x) + 1 for x in numbers if x.isascii() and x.isdigit())])
        self._file = (self._folder / f"events.out.tfevents.{number}").open("xb")
        self._writer = records.RecordWriter(self._file)
        self._add(file_version="brain.Event:2")
        self._add(step=purge_step, session_log=self._pb.SessionLog(status=self._pb.SessionLog.START))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """The numbers of one update, NaN left out."""
        values = [
            self._summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items() if not math.isnan(value)
        ]
        self._try(lambda: self._add(step=step, summary=self._summary(value=values)))

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        writer = self._writer
        if writer is not None:
            self._try(writer.close)

    def _add(self, **fields: Any) -> None:
        if self._writer is not None:
            self._writer.write(self._pb.Event(wall_time=time.time(), **fields).SerializeToString())
            self._writer.flush()

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            self._writer = None
            if self._file is not None:
                with suppress(OSError):
                    self._file.close()
            warnings.warn(f"TensorBoard has no more from here on: {error}; metrics.csv goes on", stacklevel=3)
