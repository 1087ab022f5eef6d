"""Records of a training run: CSV and TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mappo.runs.csv_log import CsvLog
from mappo.runs.tensorboard import EventFile


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

    With `resume`, the updates and the steps done, rows and events of later ones are dropped first, and `notes` tells
    what is wrong with the others. Without it, `FileExistsError` is raised where the folder already holds records.
    `ValueError` if a file's columns do not fit or it cannot be written.
    """

    def __init__(self, path: Path, *, seed: int, resume: tuple[int, int] | None = None) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._seed = seed
        self._metrics = CsvLog(path / "metrics.csv", ["seed", "update", "step"], resume)
        self._timing = CsvLog(path / "timing.csv", ["update", "step"], resume)
        self._tensorboard = EventFile(path / "tensorboard", 0 if resume is None else resume[1] + 1)
        self.notes = self._metrics.notes + self._timing.notes

    def write(self, update: Update) -> None:
        """Record one update; it survives a killed process. `ValueError` if its names changed, or it is not written."""
        # Both rows are checked before either is written, so that the two files never differ in length.
        metrics = self._metrics.row([self._seed, update.index, update.step], update.metrics)
        timing = self._timing.row([update.index, update.step], update.timing)
        self._metrics.append(metrics)
        self._timing.append(timing)
        scalars = {_tag(name): value for name, value in update.metrics.items()}
        scalars.update({f"time/{name}": value for name, value in update.timing.items()})
        self._tensorboard.write(update.step, scalars)

    def flush(self) -> None:
        """To the disk itself, so that rows survive a machine that stops."""
        self._metrics.flush()
        self._timing.flush()

    def close(self) -> None:
        """Close the event file; closing twice is allowed."""
        self._tensorboard.close()


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
