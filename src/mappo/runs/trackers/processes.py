"""Processes that send a run to tracking services, beside the training.

A service may hang, crash or fill the disk: its process ends alone, with a single warning.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from mappo.runs.trackers.services import QUIET
from mappo.system.files import error_text, shell_path

_CODE = (
    "import sys, json, pathlib; sys.path[:] = json.loads(sys.argv[1])\n"
    "from mappo.runs.trackers.follow import main\n"
    "root, *paths = map(pathlib.Path, sys.argv[5:])\n"
    "main(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), root, paths)"
)
LIMIT = 60.0  # seconds for the last rows and pictures, after the end of the training
_GRACE = 10.0  # seconds beyond this time, in which a process ends by itself


class TrackerProcesses:
    """A process for each service. Entering the context starts them; leaving it lets them send the rest and end.

    Args:
        services: names of services.
        root: directory of the run.
        paths: directories of the seeds that this process trains, with their `metrics.csv`.
        folder: current folder of the processes, where services keep local files.
        limit: seconds for the last rows and pictures.
    """

    def __init__(
        self, services: Sequence[str], root: Path, paths: Sequence[Path], folder: Path, limit: float = LIMIT
    ) -> None:
        self._services = dict.fromkeys(services)
        self._root = root
        self._paths = paths
        self._folder = folder
        self._limit = limit
        self._processes: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for service in self._services:
            try:
                self._start(service)
            except OSError as error:
                warnings.warn(f"{service} does not follow the run: {error_text(error)}", stacklevel=2)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for process in self._processes.values():
                with suppress(OSError):
                    process.stdin.close()
            for service in list(self._processes):
                with suppress(subprocess.TimeoutExpired):
                    self._processes[service].wait(self._limit + _GRACE)
        finally:  # a second signal does not wait
            for process in self._processes.values():
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            self.check()

    def check(self) -> None:
        """Warn of each process that has failed since the last call."""
        for service, process in list(self._processes.items()):
            if process.poll() is None:
                continue
            del self._processes[service]
            if process.returncode:
                warnings.warn(
                    f"{service} has stopped: {self._reason(service)}. The training continues. "
                    f"More stands in {shell_path(self._log(service))}; a resume sends what is missing",
                    stacklevel=3,
                )

    def _start(self, service: str) -> None:
        for path in self._paths:
            (path / "trackers").mkdir(exist_ok=True)
        search_path = json.dumps([str(entry) for entry in sys.path])
        arguments = [search_path, service, os.getpid(), self._limit, self._root, *self._paths]
        with self._log(service).open("w") as log:
            self._processes[service] = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, *map(str, arguments)],
                env=QUIET | os.environ,
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the training
            )

    def _log(self, service: str) -> Path:
        return self._paths[0] / "trackers" / f"{service}.log"

    def _reason(self, service: str) -> str:
        """Return the last line of the process's output."""
        try:
            lines = self._log(service).read_text(errors="replace").split("\n")
        except OSError:
            lines = []
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it gave no reason")
