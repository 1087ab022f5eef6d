"""Program of a tracker's process: sends new rows and pictures of a run to a service, until the training ends.

The files of the run are the source. Rows that a killed process has not sent are sent after the next start.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mappo.config import Config
from mappo.runs.csv_table import GrowingTable
from mappo.runs.tags import metric_tag, run_facts, timing_tag
from mappo.runs.trackers.services import SERVICES, RunFacts, Tracker, finite
from mappo.system.file_lock import lock_file
from mappo.system.files import write_text
from mappo.system.packages import pip_install

INTERVAL = 1.0  # seconds between two looks at the files
_LOCK_LIMIT = 120.0  # seconds
_TRIES = 3
_PICTURES = {"curve": "curve.png", "replay": "replay.gif"}


class Follower:
    """A run directory, followed into a service.

    Args:
        service: name of the service.
        path: directory of the run, or of one of its seeds.
        root: directory of the whole run.
        pictures: whether this record gets the pictures of the whole run.
    """

    def __init__(self, service: str, path: Path, root: Path, pictures: bool) -> None:
        self._state_file = path / "trackers" / f"{service}.json"
        self._root = root
        self._pictures = _PICTURES if pictures else {}
        self._metrics = GrowingTable(path / "metrics.csv")
        self._timing = GrowingTable(path / "timing.csv")
        self._waiting: dict[float, dict[str, float]] = {}  # rows of metrics without their timing so far
        state: dict[str, Any] = json.loads(self._state_file.read_text()) if self._state_file.exists() else {}
        self._step = int(state.get("step", 0))
        self._sent: dict[str, int] = state.get("pictures", {})  # time of change, in ns, by file
        run = json.loads((path / "config.json").read_text())
        config = Config.from_dict(run["config"])
        self._last_step = config.end_step
        name = root.name if path == root else f"{root.name}/{path.name}"
        facts = RunFacts(name, root.name, run_facts(run), state.get("record", {}), self._step)
        self.tracker = _open(service, facts)
        self._save()

    def send_rows(self) -> None:
        """Send the rows with a later step than those sent before."""
        self._waiting |= {row["step"]: row for row in self._metrics.new_rows()}
        rows: list[tuple[int, dict[str, float]]] = []
        for timing in self._timing.new_rows():
            step = int(timing["step"])
            metrics = self._waiting.pop(step, {})
            if step <= self._step:
                continue
            values = {metric_tag(name): x for name, x in metrics.items() if name not in ("seed", "step")}
            values |= {timing_tag(name): x for name, x in timing.items() if name not in ("update", "step")}
            rows.append((step, finite(values)))
        if rows:
            self.tracker.log(rows)
            self._step = rows[-1][0]
            self._save()

    def finish(self) -> None:
        """Send the last rows and the pictures, and end the record."""
        self.send_rows()
        for name, file in self._pictures.items():
            picture = self._root / file
            if picture.exists() and picture.stat().st_mtime_ns != self._sent.get(file):
                self.tracker.log_picture(name, picture, self._step)
                self._sent[file] = picture.stat().st_mtime_ns
        self.tracker.finish(self._step >= self._last_step)
        self._save()

    def _save(self) -> None:
        state = {"record": dict(self.tracker.saved), "step": self._step, "pictures": self._sent}
        write_text(self._state_file, json.dumps(state, indent=2) + "\n")


def _open(service: str, facts: RunFacts) -> Tracker:
    """Open the record of a run, with some patience: two runs may make a database or an experiment at once."""
    for _ in range(_TRIES - 1):
        try:
            return SERVICES[service](facts)
        except ImportError:
            break
        except Exception:
            traceback.print_exc()
            time.sleep(1.0)
    return SERVICES[service](facts)


def _lock(file: Path, stack: ExitStack) -> None:
    """Lock a record. Wait for the process of an earlier training, which may still send its last rows."""
    end = time.monotonic() + _LOCK_LIMIT
    while True:
        try:
            stack.enter_context(lock_file(file))
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _wait_for_input(is_over: threading.Event) -> None:
    """Wait for the end of standard input, which the training closes at its end."""
    sys.stdin.buffer.read()
    is_over.set()


def _wait_for_parent(is_over: threading.Event, parent: int, limit: float) -> None:
    """Wait for the end of the training, killed too; then end this process, even if its service hangs."""
    while not is_over.wait(INTERVAL):
        if os.getppid() != parent:
            is_over.set()
    time.sleep(limit)
    print(f"it gave no answer within {limit:g} s", file=sys.stderr, flush=True)
    os._exit(1)


def main(service: str, parent: int, limit: float, root: Path, paths: Sequence[Path]) -> None:
    """Follow the seeds of a run until standard input ends, or the process that trains.

    Args:
        service: name of the service.
        parent: number of the process that trains.
        limit: seconds to end the records after the end of the training.
        root: directory of the run.
        paths: directories of its seeds; the run's own for a single seed.
    """
    is_over = threading.Event()
    threading.Thread(target=_wait_for_input, args=(is_over,), daemon=True).start()
    threading.Thread(target=_wait_for_parent, args=(is_over, parent, limit), daemon=True).start()
    code = 1
    try:
        with ExitStack() as stack:
            for path in paths:
                _lock(path / "trackers" / f".{service}.lock", stack)
            followers = [Follower(service, path, root, path == paths[0]) for path in paths]
            while not is_over.wait(INTERVAL):
                for follower in followers:
                    follower.send_rows()
            for follower in followers:
                follower.finish()
        code = 0
    except BaseException as error:
        traceback.print_exc()
        reason = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, ImportError) and error.name is not None and error.name.partition(".")[0] == service:
            reason = f"it is not installed: {pip_install(service)}"
        print(reason, file=sys.stderr, flush=True)
    # Without the packages' own work at exit, which may wait for a network.
    os._exit(code)
