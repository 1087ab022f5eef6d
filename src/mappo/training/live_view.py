"""The live view of a run on a terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.box import ROUNDED
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from mappo.runs.logger import Update
from mappo.system.safe_read import printable
from mappo.training.progress import Progress, format_clock, format_fixed, format_short, print_line


class LiveView:
    """A panel that stays in place: progress, learning curve and the state of the updates."""

    _REFRESH_S = 0.25
    _BINS = 600
    _ROWS = 3

    def __init__(self, total_steps: int, title: str, console: Console) -> None:
        self._progress = Progress(total_steps)
        self._title = title
        self._console = console
        self._refreshed_at, self._started = -math.inf, False
        # Returns are summed into fixed bins of the run's length: bounded memory, and the curve grows under
        # the progress bar without ever being redrawn at another scale of time.
        self._sums = [0.0] * self._BINS
        self._counts = [0] * self._BINS
        # No refresh thread: it would render (and hold the interpreter) even while nothing has changed.
        # Only streams that end on the terminal are redirected, so that piped output stays as it is.
        self._live = Live(
            console=console,
            auto_refresh=False,
            get_renderable=self._render,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        with self._seen():
            self._live.start(refresh=True)
            self._started = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._seen():
            if self._started:
                self._live.stop()

    def update(self, update: Update) -> None:
        """Take in the newest update; the panel is redrawn at most four times a second."""
        self._progress.add(update)
        value = update.metrics.get("return_sum", math.nan)
        if math.isfinite(value):
            bin_ = min(self._BINS - 1, int(self._BINS * self._progress.fraction))
            self._sums[bin_] += value
            self._counts[bin_] += 1
        if time.monotonic() - self._refreshed_at >= self._REFRESH_S:
            self._refreshed_at = time.monotonic()
            with self._seen():
                self._live.refresh()

    @contextmanager
    def _seen(self) -> Generator[None]:
        """Nothing is shown any more once the terminal is gone: the run outlasts it."""
        try:
            yield
        except (OSError, SystemExit):  # rich ends the process where the reader of a pipe left
            self._console.quiet = True

    def note(self, text: str) -> None:
        """Print a line above the panel."""
        print_line(self._console, text)

    def _render(self) -> Panel:
        now = self._progress
        width = min(self._console.width, 96)
        inner = width - 4
        graph = max(10, inner - 9)
        text = Text(no_wrap=True, overflow="crop", end="")

        halves = int(2 * graph * now.fraction)
        bar = "━" * (halves // 2) + "╸" * (halves % 2)
        text.append(bar, "green" if now.fraction == 1.0 else "cyan")
        text.append("━" * (graph - len(bar)), "bright_black")
        text.append(f"{math.floor(100 * now.fraction):>7} %\n", "bold")

        for row, label in self._curve(graph):
            text.append(row.ljust(graph), "cyan")
            text.append(f"{label:>9}\n", "bright_black")

        facts = [f"{now.step:,} / {now.total:,} steps", f"{format_fixed(now.speed, 0)} steps/s"]
        facts += [f"{format_clock(now.elapsed)} elapsed", f"{format_clock(now.time_left)} left"]
        for spare in (2, 0):  # the time elapsed, then the steps: what is left to wait comes last
            if sum(map(len, facts)) + 2 * (len(facts) - 1) > inner:
                del facts[spare]
        space = max(2, (inner - sum(map(len, facts))) // (len(facts) - 1))
        text.append("\n" + (" " * space).join(facts) + "\n\n")

        cells = [
            ("Team return", format_short(now["return_sum"]), "bold"),
            ("Approximate KL", format_fixed(now["approx_kl"], 4), ""),
            ("Greedy evaluation", format_short(now["eval_return"]), "bold"),
            ("Clip fraction", format_fixed(now["clip_fraction"], 3), ""),
            ("Best evaluation", format_short(now.best_eval), "bold green"),
            ("Entropy", format_fixed(now["entropy"], 3), ""),
            ("Value loss", format_fixed(now["value_loss"], 4), ""),
            ("Explained variance", format_fixed(now["explained_variance"], 3), ""),
        ]
        # Two columns need some 70 characters; a narrower terminal gets the first only.
        count = 2 if inner >= 68 else 1
        column = (inner - 6) // 2 if count == 2 else inner
        for place, (label, value, style) in enumerate(cells[:: 3 - count]):
            text.append(label, "bright_black")
            text.append(value.rjust(max(1, column - len(label))), style)
            text.append("\n" if (place + 1) % count == 0 else " " * (inner - 2 * column))
        text.right_crop(1)
        return Panel(
            text,
            title=Text(printable(self._title, keep=""), "bold default"),
            title_align="left",
            box=ROUNDED,
            border_style="bright_black",
            width=width,
        )

    def _curve(self, width: int) -> list[tuple[str, str]]:
        """Learning curve as rows of block characters, top first, with the labels of its scale."""
        columns: list[float] = []
        for column in range(min(width, math.ceil(width * self._progress.fraction))):
            low, high = column * self._BINS // width, (column + 1) * self._BINS // width
            count = sum(self._counts[low:high])
            # An update longer than a column leaves gaps: they keep the value before them.
            columns.append(sum(self._sums[low:high]) / count if count else columns[-1] if columns else math.nan)
        known = [value for value in columns if not math.isnan(value)]
        if not known:
            return [("", "")] * self._ROWS
        low, high = min(known), max(known)
        top = 8 * self._ROWS
        scale = (top - 1) / (high - low) if high > low else 0.0
        levels = [0 if math.isnan(value) else 1 + round((value - low) * scale) for value in columns]
        rows = ["".join(" ▁▂▃▄▅▆▇█"[max(0, min(8, n - base))] for n in levels) for base in range(top - 8, -1, -8)]
        labels = [format_short(high), *[""] * (self._ROWS - 2), format_short(low)]
        return list(zip(rows, labels, strict=True))
