"""Leases of trials: an unfinished trial belongs to a single process. After a loss of this process another takes it.

A lease is a locked file in the study's folder, with host and process of its holder. Its modification time is the
holder's heartbeat. A process of the same machine is lost if the lock is free. Locks may not reach other machines: for
a process of another machine the heartbeat must have stopped too. The watching process measures the heartbeat's age by
its own clock: the clocks of machines may differ.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from mappo.system.file_lock import lock_file

_BEATS = 6  # heartbeats within the time after which a process counts as lost


class LeaseLostError(Exception):
    """Raised in a process whose trial belongs to another process by now, or may do so.

    Args:
        reason: why the lease was lost.
    """

    def __init__(self, reason: str = "was taken up by another process, while this process stood still") -> None:
        super().__init__(reason)


class Lease:
    """A trial that belongs to this process.

    Args:
        file: the open, locked file of the lease.
        path: its path.
        former: record of the holder before, if that process was lost.
        interval: seconds between two heartbeats.
    """

    def __init__(self, file: Any, path: Path, former: dict[str, Any], interval: float) -> None:
        self._file = file
        self._path = path
        self._former = former
        self._interval = interval
        self._record: dict[str, Any] = {}
        self._text = ""
        self._is_lost = False
        self._beat_at = time.monotonic()

    def begin(self, step: int) -> int:
        """Record this process as the holder.

        Args:
            step: environment steps of the trial in its last checkpoint.

        Returns:
            The number of processes lost one after the other at this step of the trial.
        """
        lost = self._former.get("lost", 0) + 1 if self._former.get("step") == step else 0
        self._record = {"host": socket.gethostname(), "pid": os.getpid(), "step": step, "lost": lost}
        self._write(json.dumps(self._record))
        return lost

    @property
    def former_error(self) -> str:
        """Return the error that ended the trial in the process before; "" for a process that was killed."""
        return str(self._former.get("error", ""))

    def record_error(self, text: str) -> None:
        """Record the error that ends the trial in this process, for the next process; not on a disk out of reach."""
        with suppress(OSError):
            if self._is_mine():
                self._write(json.dumps(self._record | {"error": text}))

    def give_back(self) -> None:
        """Return the lease: the trial has not lost this process."""
        with suppress(OSError):
            if self._is_mine():
                self._write("")

    def check(self) -> None:
        """Let other processes know that this process is alive, if the heartbeats are late.

        Raises:
            LeaseLostError: another process has taken the trial while this process stood still, or may take it now,
                because no heartbeat could be written for as long as makes a process lost.
        """
        late = time.monotonic() - self._beat_at
        if late > self._interval * _BEATS / 2:
            try:
                self._beat()
            except OSError as error:  # such as a network disk out of reach: later it may be back
                if late > self._interval * _BEATS:
                    reason = f"is given up, because no heartbeat could be written for {late:.0f} s: {error}"
                    raise LeaseLostError(reason) from error
        if self._is_lost:
            raise LeaseLostError

    def _beat(self) -> None:
        """Show that this process is alive, unless the trial belongs to another process by now."""
        self._is_lost = not self._is_mine()
        if not self._is_lost:
            os.utime(self._path)
        self._beat_at = time.monotonic()

    def _is_mine(self) -> bool:
        return self._path.read_text(encoding="utf-8") == self._text

    def _write(self, text: str) -> None:
        self._text = text
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()

    @contextmanager
    def beating(self) -> Generator[None]:
        """Send heartbeats within the context, then return the lease: other processes need not wait.

        After an exception the lease stays as of a lost process.
        """
        is_over = threading.Event()

        def beat() -> None:
            while not is_over.wait(self._interval):
                try:
                    self._beat()
                except OSError:  # such as a network that is down: the next heartbeat may succeed
                    continue

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
        self.give_back()


class Leases:
    """Leases of the trials of a study.

    Args:
        folder: folder of the files.
        lost_after: seconds without a heartbeat after which a process of another machine is lost.
    """

    def __init__(self, folder: Path, lost_after: float) -> None:
        self._folder = folder
        self._lost_after = lost_after
        self._watched: dict[int, tuple[int, float]] = {}  # by trial: last heartbeat, and when it was first seen

    @contextmanager
    def claim(self, number: int) -> Generator[Lease | None]:
        """Give the lease of a trial; None if the trial belongs to a living process."""
        path = self._folder / f"{number:04d}.json"
        lease: Lease | None = None
        with ExitStack() as stack:
            with suppress(BlockingIOError):
                file = stack.enter_context(lock_file(path))
                file.seek(0)
                former = _record(file.read())
                if self._may_live(number, path, former):
                    stack.close()  # or no other process could take the trial up while this process runs another
                else:
                    lease = Lease(file, path, former, self._lost_after / _BEATS)
            yield lease

    def _may_live(self, number: int, path: Path, former: dict[str, Any]) -> bool:
        """Return whether the holder, of another machine, has sent a heartbeat in the last `lost_after` seconds."""
        if former.get("host", socket.gethostname()) == socket.gethostname():
            return False
        now = time.monotonic()
        beat = path.stat().st_mtime_ns
        last_beat, first_seen_at = self._watched.get(number, (beat, now))
        self._watched[number] = (beat, first_seen_at if beat == last_beat else now)
        return now - self._watched[number][1] < self._lost_after


def _record(text: str) -> dict[str, Any]:
    """Return the record in a lease; empty for a returned lease, and for a record that a crash has cut short."""
    with suppress(ValueError):
        record = json.loads(text)
        if isinstance(record, dict):
            return cast("dict[str, Any]", record)
    return {}
