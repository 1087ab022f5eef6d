"""What the views show: the last measured values, and how numbers are written."""

from __future__ import annotations

import math
from collections import deque

from rich.console import Console

from mappo.runs.logger import Update
from mappo.system.safe_read import printable


class Progress:
    """What both views show: last measured values, best evaluation, recent speed."""

    def __init__(self, total_steps: int) -> None:
        self.step = 0
        self.total = max(1, total_steps)
        self.elapsed = 0.0
        self.speed = math.nan
        self.best_eval = math.nan
        self._values: dict[str, float] = {}
        self._recent: deque[tuple[float, int]] = deque()

    def add(self, update: Update) -> None:
        self.step, self.total = update.step, max(1, update.total_steps)
        self.elapsed = update.timing.get("elapsed_s", math.nan)
        # Some values are measured in some updates only: the last measured one stays in view.
        self._values.update({name: value for name, value in update.metrics.items() if not math.isnan(value)})
        evaluation = self["eval_return"]
        if math.isnan(self.best_eval) or evaluation > self.best_eval:
            self.best_eval = evaluation
        # Single updates vary and leave out evaluations: speed is that of the last half minute.
        self._recent.append((self.elapsed, self.step))
        while self.elapsed - self._recent[0][0] > 30.0 and len(self._recent) > 2:
            self._recent.popleft()
        seconds = self.elapsed - self._recent[0][0]
        mean = (self.step - self._recent[0][1]) / seconds if seconds > 0 else math.nan
        self.speed = update.timing.get("steps_per_second", math.nan) if math.isnan(mean) else mean

    def __getitem__(self, name: str) -> float:
        return self._values.get(name, math.nan)

    @property
    def fraction(self) -> float:
        return min(1.0, self.step / self.total)

    @property
    def time_left(self) -> float:
        return max(0, self.total - self.step) / self.speed if self.speed > 0 else math.nan


def print_line(console: Console, text: str) -> None:
    """Prints text as given: no markup (paths may hold brackets), no colours, no wrapping in a pipe."""
    try:
        console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
    except (OSError, SystemExit):  # the reader left: rich would end the process, and the run with it
        console.quiet = True


def format_fixed(value: float, digits: int) -> str:
    """With so many decimals, `n/a` if there is no number."""
    return f"{value:,.{digits}f}" if math.isfinite(value) else "n/a"


def format_short(value: float) -> str:
    """A return: fewer decimals the larger it is."""
    return format_fixed(value, 0 if abs(value) >= 10_000 else 1 if abs(value) >= 10 else 2)


def format_clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
