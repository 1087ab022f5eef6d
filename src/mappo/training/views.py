"""Views of a run: a live panel on a terminal, plain lines elsewhere. The session calls `make_view`."""

from __future__ import annotations

import math
import time
from typing import Any, Literal, Self

from rich.console import Console

from mappo.evaluation.number_format import format_return
from mappo.evaluation.progress import format_clock
from mappo.runs.logger import Update
from mappo.training.live_view import LiveView
from mappo.training.progress import View, format_fixed


def make_view(
    total_steps: int,
    title: str,
    console: Console | None = None,
    mode: Literal["auto", "live", "plain", "off"] = "auto",
) -> View:
    """Return the view for `mode`: `auto` is live on a capable terminal, plain elsewhere; `off` shows nothing."""
    console = console or Console(quiet=mode == "off")
    is_capable = console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only
    is_live = mode == "live" or (mode == "auto" and is_capable)
    return (LiveView if is_live else PlainView)(total_steps, title, console)


class PlainView(View):
    """Prints a line about every ten seconds, and always for the first and the last update."""

    _INTERVAL_S = 10.0

    def __init__(self, total_steps: int, title: str, console: Console) -> None:
        super().__init__(total_steps, title, console)
        self._printed_at = -math.inf
        self._printed_step = -1

    def __enter__(self) -> Self:
        self.note(self.title)
        return self

    def __exit__(self, *_: Any) -> None:
        if self.step != self._printed_step and self._printed_step >= 0:
            self._print()

    def update(self, update: Update) -> None:
        """Add the newest update; print a line if the last line is old enough."""
        super().update(update)
        if update.step >= update.total_steps or time.monotonic() - self._printed_at >= self._INTERVAL_S:
            self._print()

    def _print(self) -> None:
        self._printed_at = time.monotonic()
        self._printed_step = self.step
        facts = [
            f"step {self.step:,}/{self.total:,}",
            f"{math.floor(100 * self.fraction)} %",
            f"return {format_return(self.metrics['return_sum'])}",
            f"eval {format_return(self.metrics['eval_return'])}",
            f"kl {format_fixed(self.metrics['approx_kl'], 4)}",
            f"entropy {format_fixed(self.metrics['entropy'], 2)}",
            f"clip {format_fixed(self.metrics['clip_fraction'], 2)}",
            f"ev {format_fixed(self.metrics['explained_variance'], 2)}",
            f"{format_fixed(self.speed, 0)} steps/s",
            f"{format_clock(self.time_left)} left",
        ]
        self.note("  ".join(facts))
