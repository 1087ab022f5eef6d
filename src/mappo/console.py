"""What a person sees while a run goes on: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from types import TracebackType
from typing import Literal, Protocol, Self

from rich.box import ROUNDED
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from mappo.logger import Update


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


class _Progress:
    """What both views show: last measured values, best evaluation, recent speed."""

    def __init__(self, total_steps: int) -> None:
        self.step = 0
        self.total = max(1, total_steps)
        self.elapsed = 0.0
        self.speed = math.nan
        self.best_eval = math.nan
        self._values: dict[str, float] = {}
        self._recent: deque[tuple[float, int]] = deque()

    def take(self, update: Update) -> None:
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
    def left(self) -> float:
        return max(0, self.total - self.step) / self.speed if self.speed > 0 else math.nan


class PlainView:
    """One line about every ten seconds; the first and the last update always get theirs."""

    def __init__(self, total_steps: int, title: str, console: Console, *, every_s: float = 10.0) -> None:
        self._progress = _Progress(total_steps)
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
        self._progress.take(update)
        if update.step >= update.total_steps or time.monotonic() - self._printed_at >= self._every_s:
            self._print()

    def note(self, text: str) -> None:
        """Print a line."""
        _print(self._console, text)

    def _print(self) -> None:
        self._printed_at = time.monotonic()
        self._printed_step = self._progress.step
        now = self._progress
        parts = [
            f"step {now.step:,}/{now.total:,}",
            f"{math.floor(100 * now.fraction)} %",
            f"return {_short(now['return_sum'])}",
            f"eval {_short(now['eval_return'])}",
            f"kl {_fixed(now['approx_kl'], 4)}",
            f"entropy {_fixed(now['entropy'], 2)}",
            f"clip {_fixed(now['clip_fraction'], 2)}",
            f"ev {_fixed(now['explained_variance'], 2)}",
            f"{_fixed(now.speed, 0)} steps/s",
            f"{_clock(now.left)} left",
        ]
        _print(self._console, "  ".join(parts))


class LiveView:
    """A panel that stays in place: progress, learning curve and the state of the updates."""

    _REFRESH_S = 0.25
    _BINS = 600
    _ROWS = 3

    def __init__(self, total_steps: int, title: str, console: Console) -> None:
        self._progress = _Progress(total_steps)
        self._title = title
        self._console = console
        self._refreshed_at = -math.inf
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
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, update: Update) -> None:
        """Take in the newest update; the panel is redrawn at most four times a second."""
        self._progress.take(update)
        value = update.metrics.get("return_sum", math.nan)
        if math.isfinite(value):
            bin_ = min(self._BINS - 1, int(self._BINS * self._progress.fraction))
            self._sums[bin_] += value
            self._counts[bin_] += 1
        if time.monotonic() - self._refreshed_at >= self._REFRESH_S:
            self._refreshed_at = time.monotonic()
            self._live.refresh()

    def note(self, text: str) -> None:
        """Print a line above the panel."""
        _print(self._console, text)

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

        facts = [f"{now.step:,} / {now.total:,} steps", f"{_fixed(now.speed, 0)} steps/s"]
        facts += [f"{_clock(now.elapsed)} elapsed", f"{_clock(now.left)} left"]
        space = max(2, (inner - sum(map(len, facts))) // (len(facts) - 1))
        text.append("\n" + (" " * space).join(facts) + "\n\n")

        cells = [
            ("Return (sum over agents)", _short(now["return_sum"]), "bold"),
            ("Approximate KL", _fixed(now["approx_kl"], 4), ""),
            ("Greedy evaluation", _short(now["eval_return"]), "bold"),
            ("Clip fraction", _fixed(now["clip_fraction"], 3), ""),
            ("Best evaluation", _short(now.best_eval), "bold green"),
            ("Entropy", _fixed(now["entropy"], 3), ""),
            ("Value loss", _fixed(now["value_loss"], 4), ""),
            ("Explained variance", _fixed(now["explained_variance"], 3), ""),
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
            title=Text(self._title, "bold default"),
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
        labels = [_short(high), *[""] * (self._ROWS - 2), _short(low)]
        return list(zip(rows, labels, strict=True))


def _print(console: Console, text: str) -> None:
    # Plain text as given: no markup (paths may hold brackets), no colours, no wrapping in a pipe.
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _fixed(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else "n/a"


def _short(value: float) -> str:
    """A return: fewer decimals the larger it is."""
    return _fixed(value, 0 if abs(value) >= 10_000 else 1 if abs(value) >= 10 else 2)


def _clock(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
