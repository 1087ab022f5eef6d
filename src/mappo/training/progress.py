"""Base class of the views of a run, and number formats.

`views.make_view` chooses a view; the session feeds the view with each `Update`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.progress import Progress

from mappo.runs.logger import Update
from mappo.system.safe_read import printable
from mappo.system.stdio import fold


class View:
    """Base class of views: shows a run on a console while entered as a context.

    Args:
        total_steps: environment steps of the whole run.
        title: first line, with the name of the run.
        console: where the view is shown.
    """

    def __init__(self, total_steps: int, title: str, console: Console) -> None:
        self.total = max(1, total_steps)
        self.title = title
        self.console = console
        self.step = 0
        self.elapsed = 0.0
        # Latest measured value of each metric, and `best_eval`.
        self.metrics: defaultdict[str, float] = defaultdict(lambda: math.nan)
        self._mean_speed = math.nan
        # Single updates vary and leave out evaluations: rich estimates the speed over the last 30 s.
        # The clock is the run's own: equal timings give equal speeds.
        self._estimate = Progress(auto_refresh=False, get_time=lambda: self.elapsed)
        self._task = self._estimate.add_task("", total=self.total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def update(self, update: Update) -> None:
        """Show the newest update."""
        self.step = update.step
        self.elapsed = update.timing.get("elapsed_s", math.nan)
        self._mean_speed = update.timing.get("steps_per_second", math.nan)
        self._estimate.update(self._task, completed=self.step)
        # Some metrics are measured in some updates only: the last measured value stays in view.
        metrics = {**update.metrics, "return_sum": team_return(update.metrics)}
        self.metrics.update({name: x for name, x in metrics.items() if not math.isnan(x)})
        # fmax ignores NaN: there may be no evaluation yet.
        self.metrics["best_eval"] = np.fmax(self.metrics["best_eval"], self.metrics["eval_return"])

    def note(self, text: str) -> None:
        """Print a line, above the panel if there is a panel."""
        print_line(self.console, text)

    @property
    def fraction(self) -> float:
        """Return the fraction of the run already done, from 0 to 1."""
        return min(1.0, self.step / self.total)

    @property
    def speed(self) -> float:
        """Return the recent steps per second; the run's mean where too few updates are recent."""
        return self._estimate.tasks[0].speed or self._mean_speed

    @property
    def time_left(self) -> float:
        """Return the seconds to the end of the run, NaN while the speed is unknown."""
        return max(0, self.total - self.step) / self.speed if self.speed > 0 else math.nan


def team_return(metrics: Mapping[str, float]) -> float:
    """Return the mean return of the update's episodes; where none ended, of the last episode of each environment."""
    mean = metrics.get("return_sum", math.nan)
    return metrics.get("return_latest", math.nan) if math.isnan(mean) else mean


def print_line(console: Console, text: str) -> None:
    """Print text without markup (paths may hold brackets) and colours; a terminal does not break its words."""
    text = printable(text)
    try:
        lines = fold(text, console.width) if console.is_terminal else text
        console.print(lines, markup=False, highlight=False, soft_wrap=True)
    except (OSError, SystemExit, ValueError):  # closed; rich exits the process after a broken pipe: the run must go on
        console.quiet = True


def format_fixed(value: float, digits: int) -> str:
    """Format with `digits` decimals; NaN and infinity become `n/a`."""
    return f"{value:,.{digits}f}" if math.isfinite(value) else "n/a"
