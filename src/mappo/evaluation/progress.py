"""Notes on the progress of long work: evaluations, scores and replays."""

import math
import time
from collections.abc import Callable

from mappo.evaluation.episodes import StepCallback

# Seconds between two notes.
INTERVAL = 10.0


def progress_notes(work: str, note: Callable[[str], None], stop: Callable[[], None] | None = None) -> StepCallback:
    """Return a callback for each step that notes the progress and the time left, about every ten seconds.

    Args:
        work: name of the work, such as "evaluation".
        note: shows a line.
        stop: called at each step; may raise.
    """
    began = time.monotonic()
    last = began

    def on_step(fraction: float) -> None:
        nonlocal last
        if stop is not None:
            stop()
        now = time.monotonic()
        if now - last < INTERVAL:
            return
        last = now
        remaining = (now - began) * (1 - fraction) / fraction if fraction else math.nan
        note(f"{work}: {fraction:.0%}, {format_clock(remaining)} left")

    return on_step


def format_clock(seconds: float) -> str:
    """Format seconds as m:ss or h:mm:ss."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
