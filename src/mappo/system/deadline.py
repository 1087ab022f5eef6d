"""Time limits on a busy machine, and across pauses. Loads no torch.

A limit reads no clock: it counts its own short waits. A pause of this process (Ctrl-Z, `docker pause`, a suspended job)
passes as a single wait, however long. Each wait counts less, the more processes compete for a core.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path

TICK = 0.25  # longest wait, in seconds


def processes_per_core() -> float:
    """Return the number of processes at work or ready to run, or waiting for a disk, per core; at least 1."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        count = sum(int(line.split()[1]) for line in lines if line.startswith(("procs_running", "procs_blocked")))
    except (OSError, ValueError):  # not Linux
        count = os.getloadavg()[0] if hasattr(os, "getloadavg") else 1
    return max(count / (os.cpu_count() or 1), 1.0)


class Deadline:
    """A time limit, stretched by the load of the machine.

    Args:
        seconds: the limit on an idle machine.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self.tick = seconds / max(math.ceil(seconds / TICK), 1)  # seconds of a wait

    def count(self) -> bool:
        """Count a wait of `tick` seconds; return whether the time is over."""
        self._left -= self.tick / processes_per_core()
        return self._left < 1e-9

    def wait(self, is_done: Callable[[float], object]) -> bool:
        """Wait until a condition holds, or until the time is over; return whether the condition holds.

        Args:
            is_done: waits for the condition, for so many seconds at most; returns a true value once it holds.
        """
        while not is_done(self.tick):
            if self.count():
                return False
        return True
