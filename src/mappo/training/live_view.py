"""Live view of a run on a terminal: a panel with progress bar, learning curve and metrics, by rich."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Self

from rich.box import ROUNDED
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from mappo.evaluation.number_format import format_return
from mappo.evaluation.progress import format_clock
from mappo.runs.logger import Update
from mappo.system.safe_read import printable
from mappo.training.progress import View, format_fixed, team_return

# Rows of the panel: label, metric and decimals, twice; returns have no fixed decimals.
_METRICS = [
    (("Team return", "return_sum", None), ("Approximate KL", "approx_kl", 4)),
    (("Evaluation", "eval_return", None), ("Clip fraction", "clip_fraction", 3)),
    (("Best evaluation", "best_eval", None), ("Entropy", "entropy", 3)),
    (("Value loss", "value_loss", 4), ("Explained variance", "explained_variance", 3)),
]
_LABEL: dict[str, Any] = {"ratio": 3, "style": "dim"}
_VALUE: dict[str, Any] = {"ratio": 2, "justify": "right"}
_COLUMNS: list[dict[str, Any]] = [_LABEL, _VALUE | {"style": "bold"}, {"width": 6}, _LABEL, _VALUE]


class LiveView(View):
    """A panel in a fixed place: progress, learning curve and the metrics of the updates."""

    _REFRESH_S = 0.25
    _BINS = 600
    _CURVE_HEIGHT = 3  # lines of text, of 8 levels each
    _TWO_COLUMNS = 68  # characters; a narrower panel has a single column of metrics
    _FOUR_COLUMNS = 140

    def __init__(self, total_steps: int, title: str, console: Console) -> None:
        super().__init__(total_steps, title, console)
        self._refreshed_at = -math.inf
        self._is_started = False
        # Returns are summed into fixed bins of the run's length: memory is bounded, and the curve grows under
        # the progress bar without ever changing its scale of time.
        self._sums = [0.0] * self._BINS
        self._counts = [0] * self._BINS
        # No refresh thread: it would render (and hold the interpreter) even while nothing has changed.
        # Redirect terminal streams only: piped output must not change.
        self._live = Live(
            console=console,
            auto_refresh=False,
            get_renderable=self._render,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        with self._ignore_lost_terminal():
            self._live.start(refresh=True)
            self._is_started = True
        return self

    def __exit__(self, *_: Any) -> None:
        with self._ignore_lost_terminal():
            if self._is_started:
                self._live.stop()

    def update(self, update: Update) -> None:
        """Add the newest update; redraw the panel at most four times a second."""
        super().update(update)
        mean = team_return(update.metrics)
        if math.isfinite(mean):
            bin_index = min(self._BINS - 1, int(self._BINS * self.fraction))
            self._sums[bin_index] += mean
            self._counts[bin_index] += 1
        if time.monotonic() - self._refreshed_at >= self._REFRESH_S:
            self._refreshed_at = time.monotonic()
            with self._ignore_lost_terminal():
                self._live.refresh()

    @contextmanager
    def _ignore_lost_terminal(self) -> Generator[None]:
        """Show nothing more once the terminal is gone: the run goes on without a terminal."""
        try:
            yield
        except (OSError, SystemExit, ValueError):  # closed; rich exits the process after a broken pipe
            self.console.quiet = True

    def _render(self) -> Panel:
        width = self.console.width
        inner = width - 4  # without the frame
        return Panel(
            Group(
                self._render_curve(max(10, inner - 9)), "", self._render_facts(inner), "", self._render_metrics(inner)
            ),
            title=Text(printable(self.title, keep=""), "bold not dim"),
            title_align="left",
            box=ROUNDED,
            border_style="dim",
            width=width,
        )

    def _render_curve(self, width: int) -> Table:
        """Return the progress bar, and the learning curve below the bar."""
        fraction = self.fraction
        bar = ProgressBar(1.0, fraction, width, style="dim", complete_style="cyan", finished_style="green")
        grid = Table.grid()
        grid.add_column(width=width, no_wrap=True, overflow="crop")
        grid.add_column(width=9, justify="right", no_wrap=True, overflow="crop")
        grid.add_row(bar, Text(f"{math.floor(100 * fraction)} %", "bold"))
        for line, label in self._curve(width):
            grid.add_row(Text(line, "cyan"), Text(label, "dim"))
        return grid

    def _render_facts(self, width: int) -> str:
        """Return steps, speed and times; without the elapsed time, then without the steps, where space is short."""
        facts = [f"{self.step:,} / {self.total:,} steps", f"{format_fixed(self.speed, 0)} steps/s"]
        facts += [f"{format_clock(self.elapsed)} elapsed", f"{format_clock(self.time_left)} left"]
        for spare in (2, 0):
            if sum(map(len, facts)) + 2 * (len(facts) - 1) > width:
                del facts[spare]
        gap = max(2, (width - sum(map(len, facts))) // (len(facts) - 1))
        return (" " * gap).join(facts)

    def _render_metrics(self, width: int) -> Table:
        """Return the metrics in two columns, in four on a wide terminal; a narrow terminal gets the first only."""
        is_wide = width >= self._FOUR_COLUMNS
        columns = [*_COLUMNS, _COLUMNS[2], *_COLUMNS] if is_wide else _COLUMNS
        num_columns = len(columns) if width >= self._TWO_COLUMNS else 2
        grid = Table.grid(*[Column(**options, no_wrap=True) for options in columns[:num_columns]], expand=True)
        half = len(_METRICS) // 2
        rows = [a + b for a, b in zip(_METRICS[:half], _METRICS[half:], strict=True)] if is_wide else _METRICS
        for row in rows:
            cells: list[str] = []
            for label, name, digits in row:
                value = self.metrics[name]
                cells += [label, format_return(value) if digits is None else format_fixed(value, digits), ""]
            grid.add_row(*cells[:num_columns])
        return grid

    def _curve(self, width: int) -> list[tuple[str, str]]:
        """Return the learning curve as lines of block characters, top first, with the labels of the scale."""
        means = self._column_means(width)
        known = [mean for mean in means if not math.isnan(mean)]
        if not known:
            return [("", "")] * self._CURVE_HEIGHT
        low = min(known)
        high = max(known)
        top = 8 * self._CURVE_HEIGHT
        scale = (top - 1) / (high - low) if high > low else 0.0
        levels = [0 if math.isnan(mean) else 1 + round((mean - low) * scale) for mean in means]
        heights = [[max(0, min(8, level - base)) for level in levels] for base in range(top - 8, -1, -8)]
        lines = ["".join(" ▁▂▃▄▅▆▇█"[height] for height in line) for line in heights]
        labels = [format_return(high), *[""] * (self._CURVE_HEIGHT - 2), format_return(low)]
        return list(zip(lines, labels, strict=True))

    def _column_means(self, width: int) -> list[float]:
        """Return the mean return of each column of the curve so far."""
        means: list[float] = []
        for column in range(min(width, math.ceil(width * self.fraction))):
            start = column * self._BINS // width
            stop = (column + 1) * self._BINS // width
            count = sum(self._counts[start:stop])
            # An update longer than a column leaves gaps, filled by the value before.
            if count:
                means.append(sum(self._sums[start:stop]) / count)
            else:
                means.append(means[-1] if means else math.nan)
        return means
