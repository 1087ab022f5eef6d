"""Run trainings in processes of their own, and let them take turns: the protocol between `run.py` and the peers.

A peer calls `Turns.end_of_update` after each update. After its burn-in the peer writes a line of JSON, `Ready`, and
waits. Each request is a line with a number of updates. The reply is a line of JSON, `Reply`. The end of the input ends
the peer. This module needs the standard library alone: peers import it in their own environments.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn


@dataclass(frozen=True)
class Ready:
    """The first line of a peer: CPU seconds from its start to the end of its burn-in, and versions of its packages."""

    cpu: float
    versions: str


@dataclass(frozen=True)
class Reply:
    """CPU and wall seconds of the requested updates, and their mean return; NaN if no episode ended."""

    cpu: float
    wall: float
    episode_return: float


def use_single_core() -> None:
    """Restrict this process to a single core, so that no library starts a second thread for its work. Linux only."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def children() -> list[int]:
    """Return the process ids of the live children. Linux only: elsewhere the list is empty."""
    files = Path("/proc/self/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its live children; children count in ticks of 10 ms."""
    total = time.process_time()
    tick = os.sysconf("SC_CLK_TCK")
    for child in children():
        with suppress(OSError):
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / tick
    return total


@dataclass
class Turns:
    """The peer's side of the protocol.

    Takes over the standard output: later prints of the peer go to its standard error.

    Args:
        burn_in: updates before the peer is ready.
        packages: names of the packages to report versions of.
    """

    burn_in: int
    packages: Sequence[str]
    returns: list[float] = field(default_factory=list[float])
    updates: int = 0
    requested: int = 0
    mark: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        use_single_core()
        self.replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def end_of_update(self, episode_return: float = math.nan) -> None:
        """Count an update; answer the request if it was the last, and wait for the next request."""
        self.updates += 1
        self.returns.append(float(episode_return))
        if self.updates < self.burn_in + self.requested:
            return
        if self.requested:
            spent = (now - then for now, then in zip(self._clocks(), self.mark, strict=True))
            finished = [value for value in self.returns if not math.isnan(value)]
            self._send(Reply(*spent, sum(finished) / len(finished) if finished else math.nan))
        else:
            self._send(Ready(cpu_seconds(), " ".join(versions(self.packages))))
        self._receive()

    def serve(self, update: Callable[[], float]) -> NoReturn:
        """Run updates as requested; an update returns the mean return of its episodes."""
        while True:
            self.end_of_update(update())

    def _receive(self) -> None:
        line = sys.stdin.readline()
        if not line:
            for child in children():  # workers would outlive this process
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)
            # Callbacks of other libraries cannot be left by an exception: some would report it and go on.
            os._exit(0)
        self.burn_in = self.updates
        self.requested = int(line)
        self.returns.clear()
        self.mark = self._clocks()

    def _clocks(self) -> tuple[float, float]:
        return cpu_seconds(), time.perf_counter()

    def _send(self, message: Ready | Reply) -> None:
        self.replies.write(json.dumps(asdict(message)) + "\n")
        self.replies.flush()


def versions(packages: Sequence[str]) -> list[str]:
    """Return name and version of each installed package."""
    found: list[str] = []
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{package} {metadata.version(package)}")
    return found


class PeerError(Exception):
    """A peer ended early; the text holds the end of its output."""


class Peer:
    """The driver's side of the protocol: a peer in a process of its own.

    Args:
        name: for messages.
        command: program and arguments.
        log: file for the peer's output.
        environment: variables of the process.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.log = log
        self.started = time.perf_counter()
        with log.open("w", encoding="utf-8") as errors:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=errors, env=environment, text=True, encoding="utf-8"
            )

    def wait_until_ready(self) -> tuple[Ready, float]:
        """Return the peer's first message, and the wall seconds since its start.

        Raises:
            PeerError: the peer has ended.
        """
        return Ready(**self._read()), time.perf_counter() - self.started

    def run(self, updates: int) -> Reply:
        """Let the peer run some updates.

        Raises:
            PeerError: the peer has ended.
        """
        assert self.process.stdin
        with suppress(BrokenPipeError):  # then the reply is missing as well
            self.process.stdin.write(f"{updates}\n")
            self.process.stdin.flush()
        return Reply(**self._read())

    def close(self) -> None:
        """End the peer; kill it if it does not end within ten seconds."""
        assert self.process.stdin
        assert self.process.stdout
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            last = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise PeerError(f"{self.name} ended with exit code {code}: {' / '.join(last) or 'no output'}")
        return json.loads(line)
