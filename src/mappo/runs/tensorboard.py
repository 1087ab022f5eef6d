"""TensorBoard event files.

`torch.utils.tensorboard` takes seconds to import. `tensorboard`'s own EventFileWriter orders files by the clock alone,
writes from a thread, prints the errors of this thread, and imports TensorFlow if installed. Neither is used.
"""

from __future__ import annotations

import importlib
import math
import time
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


class EventFile:
    """A new event file in a folder. TensorBoard forgets the events of earlier files from `purge_step` on.

    After an error the file is closed, with a single warning: `metrics.csv` has the same numbers.

    Args:
        folder: the folder of event files; made if missing.
        purge_step: first step of the new file.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        # Imported here, because the modules take some tenths of a second; by name, because they have no types.
        self._proto: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
        records: Any = importlib.import_module("tensorboard.summary.writer.record_writer")
        self._file: Any = None
        self._writer: Any = None
        with self._warn_once():
            folder.mkdir(exist_ok=True)
            # TensorBoard reads files in the order of their names. The clock puts a resumed file last; after a clock
            # was set back, a number above all others does.
            names = [path.name.rpartition(".")[2] for path in folder.glob("events.out.tfevents.*")]
            number = max([time.time_ns(), *(int(x) + 1 for x in names if x.isascii() and x.isdigit())])
            self._file = (folder / f"events.out.tfevents.{number}").open("xb")
            self._writer = records.RecordWriter(self._file)
            self._add(file_version="brain.Event:2")
            self._add(step=purge_step, session_log={"status": self._proto.SessionLog.START})

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write the numbers of one update, without NaN."""
        values = [{"tag": tag, "simple_value": x} for tag, x in scalars.items() if not math.isnan(x)]
        with self._warn_once():
            self._add(step=step, summary={"value": values})

    def write_config(self, step: int, facts: Mapping[str, Any]) -> None:
        """Write the settings of a run as a table, and as hyperparameters for the tab HPARAMS."""
        rows = [f"| {name} | {value} |" for name, value in facts.items()]
        table = "\n".join(["| setting | value |", "|---|---|", *rows])
        tensor = {"dtype": "DT_STRING", "string_val": [table.encode()], "tensor_shape": {"dim": [{"size": 1}]}}
        text = {"tag": "config", "metadata": {"plugin_data": {"plugin_name": "text"}}, "tensor": tensor}
        with self._warn_once():
            self._add(step=step, summary={"value": [text, *self._hyperparameters(facts)]})

    def _hyperparameters(self, facts: Mapping[str, Any]) -> list[Any]:
        """Return the summaries that the plugin for hyperparameters reads."""
        plugin: Any = importlib.import_module("tensorboard.plugins.hparams.summary_v2")
        metrics = [plugin.Metric(tag) for tag in ("eval/return", "return/sum")]
        values = {name: x if isinstance(x, int | float) else str(x) for name, x in facts.items()}
        session = plugin.hparams_pb(values, start_time_secs=time.time())
        return [*plugin.hparams_config_pb([plugin.HParam(name) for name in facts], metrics).value, *session.value]

    def write_picture(self, step: int, tag: str, png: bytes) -> None:
        """Write a PNG."""
        size = {"width": int.from_bytes(png[16:20]), "height": int.from_bytes(png[20:24])}  # of the chunk IHDR
        image = {**size, "colorspace": 4, "encoded_image_string": png}
        with self._warn_once():
            self._add(step=step, summary={"value": [{"tag": tag, "image": image}]})

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""
        with self._warn_once():
            if self._writer is not None:
                self._writer.close()

    def _add(self, **fields: Any) -> None:
        if self._writer is not None:
            self._writer.write(self._proto.Event(wall_time=time.time(), **fields).SerializeToString())
            self._writer.flush()

    @contextmanager
    def _warn_once(self) -> Generator[None]:
        """Turn an error of the file system into a warning, and write no more."""
        try:
            yield
        except OSError as error:
            self._writer = None
            if self._file is not None:
                with suppress(OSError):
                    self._file.close()
            warnings.warn(f"TensorBoard's file ends here: {error}; metrics.csv continues", stacklevel=4)
