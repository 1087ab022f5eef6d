"""Records of a training run (CSV and TensorBoard) and its console views."""

from __future__ import annotations

import importlib
import math
import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.box import ROUNDED
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text


@dataclass(frozen=True)
class Update:
    """Numbers of one policy update, as callbacks, records and views receive them.

    `step` counts environment steps summed over parallel environments. `metrics` is free of clock times,
    NaN where nothing was measured; `timing` holds seconds (`*_s`) and `steps_per_second`.
    """

    index: int
    step: int
    total_steps: int
    metrics: Mapping[str, float]
    timing: Mapping[str, float]


class RunLogger:
    """Appends every update to `metrics.csv`, `timing.csv` and TensorBoard events in a run's folder.

    With `resume_step`, rows and events of later steps are dropped first. Without it, `FileExistsError` is
    raised where the folder already holds records. `ValueError` if a file's columns do not fit.
    """

    def __init__(self, path: Path, *, seed: int, resume_step: int | None = None) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._seed = seed
        self._metrics = _Table(path / "metrics.csv", ["seed", "update", "step"], resume_step)
        self._timing = _Table(path / "timing.csv", ["update", "step"], resume_step)
        self._events = _EventFile(path / "tensorboard", 0 if resume_step is None else resume_step + 1)

    def write(self, update: Update) -> None:
        """Record one update; it survives a killed process. `ValueError` if its names changed."""
        # Both rows are checked before either is written, so that the two files never differ in length.
        metrics = self._metrics.row([self._seed, update.index, update.step], update.metrics)
        timing = self._timing.row([update.index, update.step], update.timing)
        self._metrics.append(metrics)
        self._timing.append(timing)
        scalars = {_tag(name): value for name, value in update.metrics.items()}
        scalars.update({f"time/{name}": value for name, value in update.timing.items()})
        self._events.write(update.step, scalars)

    def close(self) -> None:
        """Close the event file; closing twice is allowed."""
        self._events.close()


class _Table:
    """A CSV file: fixed integer columns, then the names of the first row in their order."""

    def __init__(self, path: Path, fixed: list[str], resume_step: int | None) -> None:
        self._path = path
        self._fixed = fixed
        self._names: list[str] | None = None
        if resume_step is None:
            if path.exists():
                raise FileExistsError(f"{path} exists: resume that run or choose another folder")
        elif path.exists():
            self._keep_until(resume_step)

    def _keep_until(self, resume_step: int) -> None:
        # A line without its newline was cut short by a crash: the last element is "" or that half line.
        lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]
        kept: list[str] = []
        if lines:
            header = lines[0].split(",")
            if header[: len(self._fixed)] != self._fixed:
                raise ValueError(f"{self._path} has columns {lines[0]!r}, expected {','.join(self._fixed)},…")
            self._names = header[len(self._fixed) :]
            kept.append(lines[0])
            for number, line in enumerate(lines[1:], start=2):
                cells = line.split(",")
                if len(cells) != len(header):
                    raise ValueError(f"{self._path}, line {number}: {len(cells)} cells for {len(header)} columns")
                if int(cells[header.index("step")]) <= resume_step:
                    kept.append(line)
        part = self._path.with_name(f".{self._path.name}.part")
        part.write_bytes("".join(f"{line}\n" for line in kept).encode())
        os.replace(part, self._path)

    def row(self, fixed: list[int], values: Mapping[str, float]) -> str:
        text = ""
        if self._names is None:
            self._names = list(values)
            text = ",".join([*self._fixed, *self._names]) + "\n"
        if unknown := [name for name in values if name not in self._names]:
            raise ValueError(f"{self._path} has no column for {', '.join(unknown)}")
        if missing := [name for name in self._names if name not in values]:
            raise ValueError(f"no value for column {', '.join(missing)} of {self._path}")
        numbers = [float(values[name]) for name in self._names]
        cells = ["" if math.isnan(number) else repr(number) for number in numbers]
        return text + ",".join([*map(str, fixed), *cells]) + "\n"

    def append(self, row: str) -> None:
        # Opened for each row: a killed run loses none, and nothing has to be closed.
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(row)


class _EventFile:
    """A TensorBoard event file, written without the import time of `torch.utils.tensorboard`."""

    def __init__(self, folder: Path, purge_step: int) -> None:
        self._pb: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summary: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2").Summary
        records: Any = importlib.import_module("tensorboard.summary.writer.record_writer")
        folder.mkdir(exist_ok=True)
        # TensorBoard reads a folder's files in the order of their names: the clock puts resumed ones last.
        self._writer = records.RecordWriter((folder / f"events.out.tfevents.{time.time_ns()}").open("xb"))
        self._add(file_version="brain.Event:2")
        # A session start makes TensorBoard forget what earlier files hold from this step on.
        self._add(step=purge_step, session_log=self._pb.SessionLog(status=self._pb.SessionLog.START))

    def _add(self, **fields: Any) -> None:
        self._writer.write(self._pb.Event(wall_time=time.time(), **fields).SerializeToString())
        self._writer.flush()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        values = [
            self._summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items() if not math.isnan(value)
        ]
        self._add(step=step, summary=self._summary(value=values))

    def close(self) -> None:
        self._writer.close()


def _tag(name: str) -> str:
    """TensorBoard tag of a metric: its group, a slash, its name."""
    if name.startswith("eval_"):
        return "eval/" + name.removeprefix("eval_")
    if name.endswith("_loss"):
        return "loss/" + name
    if name in {"entropy", "approx_kl", "clip_fraction", "explained_variance"}:
        return "policy/" + name
    if name.startswith("grad_norm") or name.endswith(("_lr", "_weight")):
        return "optimizer/" + name
    return "train/" + name


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


def make_view(total_steps: int, title: str, console: Console | None = None) -> View:
    """View that fits the console: live on a terminal, otherwise plain lines."""
    console = console or Console()
    live = console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only
    return LiveView(total_steps, title, console) if live else PlainView(total_steps, title, console)


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
