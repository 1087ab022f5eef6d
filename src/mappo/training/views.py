"""What a person sees while a run goes on: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Literal, Protocol, Self

from rich.console import Console

from mappo.runs.logger import Update
from mappo.training.live_view import LiveView
from mappo.training.progress import Progress, format_clock, format_fixed, format_short, print_line


class View(Protocol):
    """Shows a run on the console while it is entered as a context."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, update: Update) -> None:
        """Take in the newest update."""
        ...

    def note(self, text: str) -> None:
        """Print a line above what is shown."""
        ...


def make_view(
    total_steps: int,
    title: str,
    console: Console | None = None,
    mode: Literal["auto", "live", "plain", "off"] = "auto",
) -> View:
    """The view that `mode` names; `auto` is live on a terminal that can show it, otherwise plain lines."""
    if mode == "off":
        return SilentView()
    console = console or Console()
    able = console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only
    live = able if mode == "auto" else mode == "live"
    return LiveView(total_steps, title, console) if live else PlainView(total_steps, title, console)


class SilentView:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def update(self, update: Update) -> None:
        """Take nothing in."""

    def note(self, text: str) -> None:
        """Print nothing."""


class PlainView:
    """One line about every ten seconds; the first and the last update always get theirs."""

    def __init__(self, total_steps: int, title: str, console: Console, *, every_s: float = 10.0) -> None:
        self._progress = Progress(total_steps)
        self._title = title
        self._console = console
        self._every_s = every_s
        self._printed_at = -math.inf
        self._printed_step = -1

    def __enter__(self) -> Self:
        self.note(self._title)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.step != self._printed_step and self._printed_step >= 0:
            self._print()

    def update(self, update: Update) -> None:
        """Take in the newest update and print its line if it is time for one."""
        self._progress.add(update)
        if update.step >= update.total_steps or time.monotonic() - self._printed_at >= self._every_s:
            self._print()

    def note(self, text: str) -> None:
        """Print a line."""
        print_line(self._console, text)

    def _print(self) -> None:
        self._printed_at = time.monotonic()
        self._printed_step = self._progress.step
        now = self._progress
        parts = [
            f"step {now.step:,}/{now.total:,}",
            f"{math.floor(100 * now.fraction)} %",
            f"return {format_short(now['return_sum'])}",
            f"eval {format_short(now['eval_return'])}",
            f"kl {format_fixed(now['approx_kl'], 4)}",
            f"entropy {format_fixed(now['entropy'], 2)}",
            f"clip {format_fixed(now['clip_fraction'], 2)}",
            f"ev {format_fixed(now['explained_variance'], 2)}",
            f"{format_fixed(now.speed, 0)} steps/s",
            f"{format_clock(now.time_left)} left",
        ]
        print_line(self._console, "  ".join(parts))
