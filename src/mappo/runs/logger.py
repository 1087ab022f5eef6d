"""Records of a training run, in CSV files and for TensorBoard.

Training calls `RunLogger.write` after each update, `write_returns` after each evaluation, and `flush` before each
checkpoint.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mappo.runs.config_json import read_config_json
from mappo.runs.csv_log import CsvLog
from mappo.runs.tags import metric_tag, run_facts, timing_tag
from mappo.runs.tensorboard import EventFile


@dataclass(frozen=True)
class Update:
    """Numbers of a policy update, for callbacks, records and views.

    `step` counts environment steps summed over parallel environments. `metrics` holds no clock times, and NaN for
    numbers without a measurement. `timing` holds seconds (`*_s`) and `steps_per_second`.
    """

    index: int
    step: int
    total_steps: int
    metrics: Mapping[str, float]
    timing: Mapping[str, float]


class RunLogger:
    """Writer of every update to `metrics.csv`, `timing.csv` and TensorBoard events in a run's folder.

    `returns.csv` has a row for each evaluation, with the return of each episode in the column of its reset seed.

    Args:
        path: the run directory.
        seed: the number in the column `seed` of `metrics.csv`.
        resume: updates and steps of the run to resume. Rows and events of later updates are dropped. `notes` lists the
            updates with missing, repeated or damaged rows. None: a new run.

    Raises:
        FileExistsError: a new run's folder already holds records.
        UserError: the columns of a file do not fit, or the file cannot be written.
    """

    def __init__(self, path: Path, *, seed: int, resume: tuple[int, int] | None = None) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._seed = seed
        self._metrics = CsvLog(path / "metrics.csv", ["seed", "update", "step"], resume)
        self._timing = CsvLog(path / "timing.csv", ["update", "step"], resume)
        self._returns = CsvLog(path / "returns.csv", ["seed", "update", "step"], resume, is_sparse=True)
        first_step = 0 if resume is None else resume[1] + 1
        self._tensorboard = EventFile(path / "tensorboard", first_step)
        if (path / "config.json").exists():
            self._tensorboard.write_config(first_step, run_facts(read_config_json(path)))
        self.notes = self._metrics.notes + self._timing.notes + self._returns.notes

    def write(self, update: Update) -> None:
        """Record an update. The record survives a killed process.

        Raises:
            UserError: the names of the metrics changed, or a file cannot be written.
        """
        # Check both rows before writing either: the two files must not differ in length.
        metrics = self._metrics.row([self._seed, update.index, update.step], update.metrics)
        timing = self._timing.row([update.index, update.step], update.timing)
        self._metrics.append(metrics)
        self._timing.append(timing)
        scalars = {metric_tag(name): value for name, value in update.metrics.items()}
        scalars.update({timing_tag(name): value for name, value in update.timing.items()})
        self._tensorboard.write(update.step, scalars)

    def write_returns(
        self, update: int, step: int, returns: Mapping[int, float], agent_means: Sequence[float] = ()
    ) -> None:
        """Record an evaluation: the team's return of each episode by its reset seed, NaN if it was not played.

        TensorBoard gets their standard deviation, and the mean return of each agent, if known.

        Raises:
            UserError: the episodes are others than those of the first evaluation, or the file cannot be written.
        """
        values = {str(seed): value for seed, value in returns.items()}
        self._returns.append(self._returns.row([self._seed, update, step], values))
        scalars = {f"eval/return_agent_{k}": mean for k, mean in enumerate(agent_means)}
        played = [value for value in values.values() if not math.isnan(value)]
        if len(played) > 1 and all(map(math.isfinite, played)):
            scalars["eval/return_std"] = statistics.stdev(played)
        self._tensorboard.write(step, scalars)

    def write_picture(self, step: int, name: str, png: Path) -> None:
        """Show a picture in TensorBoard; nothing if there is none."""
        if png.exists():
            self._tensorboard.write_picture(step, name, png.read_bytes())

    def flush(self) -> None:
        """Flush the CSV files to disk, so that rows survive a power cut."""
        for log in (self._metrics, self._timing, self._returns):
            log.flush()

    def close(self) -> None:
        """Close the event file. Closing twice is allowed."""
        self._tensorboard.close()
