"""The loop of a process of a sweep: take a trial, run it, write the results; wait for the trials of other processes."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mappo import envs
from mappo.config import Config
from mappo.errors import StopTraining, UserError
from mappo.evaluation.number_format import format_return
from mappo.experiments.sweep.figure import plot_trials
from mappo.experiments.sweep.lease import Lease, LeaseLostError
from mappo.experiments.sweep.options import SweepOptions
from mappo.experiments.sweep.plan import SweepPlan
from mappo.experiments.sweep.results import SweepResults, TrialResult, collect_results
from mappo.experiments.sweep.space import read_space
from mappo.experiments.sweep.storage import storage_errors
from mappo.experiments.sweep.study import Study
from mappo.experiments.sweep.trial import TrialLostError, TrialRun
from mappo.runs.names import plain_name
from mappo.system.launched import is_launched
from mappo.system.shutdown import Interrupts, closing

# Failures in training, one after the other in this process, until the sweep ends.
MAX_FAILURES = 3
POLL = 1.0  # seconds between two looks at the trials of other processes
# Errors of the disk, one after the other, that a sweep bears, and the seconds after each: a minute of trouble.
MAX_DISK_ERRORS = 6
DISK_PAUSE = 10.0
Note = Callable[[str], None]


def make_plan(env: str, space: Path, config: Config, options: SweepOptions) -> SweepPlan:
    """Return the plan of a sweep, with the space read and all of it checked.

    Args:
        env: name of the environment.
        space: the file of the space.
        config: settings of all trials; `run.dir` is the study's folder, by default runs/STUDY.
        options: options of the sweep.

    Raises:
        UserError: the environment, the space or an option is invalid.
    """
    run = config.run
    if run.name is not None:
        raise UserError("run.name is for a single run: name a sweep by --study")
    if run.processes > 1:
        raise UserError("run.processes is for a single run: start the command of a sweep once for each process")
    if is_launched():
        raise UserError("the processes of a sweep are independent: start them without torchrun, and unset WORLD_SIZE")
    if options.grid and options.trials is not None:
        raise UserError("--grid and --trials exclude each other: a grid has as many trials as combinations")
    settings = read_space(space)
    study = options.study or f"{plain_name(env)}-{space.stem}"
    if "/" in study or study.startswith("."):
        raise UserError(f"--study must be a plain name, got {study!r}; --run.dir names its folder")
    folder = Path(run.dir or Path("runs") / study).absolute()
    progress = "off" if run.progress == "auto" else run.progress
    base = replace(config, run=replace(run, dir=None, progress=progress))
    plan = SweepPlan(env, base, settings, replace(options, study=study), folder)
    _ = plan.grid  # raises if a range has no step
    return plan


def run_sweep(plan: SweepPlan, interrupts: Interrupts, note: Note) -> SweepResults:
    """Run trials until the study has all, or the sweep is interrupted. Any number of processes may do so at a time.

    Args:
        plan: see `make_plan`.
        interrupts: interruptions of the sweep.
        note: shows a line of progress.

    Raises:
        UserError: the study cannot be used, or trials fail one after the other.
    """
    with closing(envs.make_envs(plan.env, 1, replace(plan.base.env.env_options, workers=0)), interrupts.close_limit):
        pass  # an environment that cannot be made is an error of the sweep, not of its trials
    interrupts.set_time_limit(plan.base.run.time_limit)
    with storage_errors():
        study = Study(plan, interrupts)
        note(_title(plan))
        with suppress(StopTraining):
            _TrialLoop(study, interrupts, note).run()
        results = collect_results(plan, study.trials())
        with suppress(StopTraining), study.locked():
            results.write()
            plot_trials(results)
    return results


class _TrialLoop:
    """Runs trials until none is left.

    Args:
        study: the study.
        interrupts: interruptions of the sweep.
        note: shows a line of progress.
    """

    def __init__(self, study: Study, interrupts: Interrupts, note: Note) -> None:
        self._study = study
        self._interrupts = interrupts
        self._note = note
        self._failures = 0
        self._disk_errors = 0  # one after the other
        self._waited_for = 0

    def run(self) -> None:
        """Run trials; an error of the disk is tried again for a while.

        Raises:
            StopTraining: the sweep is interrupted.
            UserError: trials fail one after the other.
            OSError: the study's folder stays out of reach.
        """
        while True:
            self._interrupts.check_between_updates()
            try:
                if not self._run_next():
                    return
                self._disk_errors = 0
            except OSError as error:
                self._disk_errors += 1
                if self._disk_errors > MAX_DISK_ERRORS:
                    raise
                self._note(f"{error}: tried again in {DISK_PAUSE:g} s")
                self._pause(DISK_PAUSE)

    def _run_next(self) -> bool:
        """Run a trial, or wait a little for the trials of other processes; return False at the end."""
        results = collect_results(self._study.plan, self._study.trials())
        if results.is_finished:
            return False
        with self._study.next_trial() as found:
            if found is not None:
                return self._run_trial(*found)
        running = results.counts["running"]
        if running != self._waited_for:
            self._waited_for = running
            self._note(f"waiting for {running} trials of other processes")
        self._pause(POLL)
        return True

    def _run_trial(self, trial: Any, lease: Lease) -> bool:
        """Run a trial; return False if the sweep is interrupted."""
        try:
            if not TrialRun(self._study, trial, lease, self._interrupts, self._note).run():
                return False
            self._failures = 0
        except LeaseLostError as error:
            self._note(f"trial {trial.number} {error}")
            return True
        except TrialLostError as error:
            self._note(f"trial {trial.number} broke off, and is begun again at its last checkpoint: {error}")
            return True
        except UserError as error:
            self._failures += 1
            if self._failures == MAX_FAILURES:
                _show_progress(self._study, trial.number, self._note)
                raise UserError(f"{MAX_FAILURES} trials failed one after the other, the last: {error}") from error
        _show_progress(self._study, trial.number, self._note)
        return True

    def _pause(self, seconds: float) -> None:
        """Wait, unless the sweep is interrupted."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._interrupts.check_between_updates()
            time.sleep(min(seconds, POLL))


def _show_progress(study: Study, number: int, note: Note) -> None:
    """Write the results at the end of a trial, and show a line."""
    with study.locked():
        results = collect_results(study.plan, study.trials())
        results.write()
    note(_progress(results, results.trials[number]))


def _title(plan: SweepPlan) -> str:
    """Return the first line: the sweep and its objective."""
    method = "grid" if plan.options.grid else plan.options.sampler
    run = plan.base.run
    seeds = f"mean of {run.seeds} seeds" if run.seeds > 1 else f"seed {run.seed}"
    return (
        f"sweep {plan.options.study} of {plan.env}: {plan.num_trials} trials ({method}, pruner {plan.pruner}) of "
        f"{run.total_steps:,} steps; objective: the last eval_return, {seeds}, higher is better; {plan.folder}"
    )


def _progress(results: SweepResults, trial: TrialResult) -> str:
    """Return a line about a trial at its end, and about the sweep."""
    facts = [f"trial {trial.number}: {trial.state}"]
    if trial.error:
        facts.append(trial.error)
    elif trial.eval_return is not None:
        facts.append(f"eval {format_return(trial.eval_return)}")
        if trial.score is not None:
            facts.append(f"score {trial.score_text}")
        facts.append(f"{trial.cpu_s:,.0f} CPU-s")
    facts.append(f"{results.num_done} of {results.plan.num_trials} done")
    if results.ranking:
        best = results.ranking[0]
        facts.append(f"best is trial {best.number}, eval {format_return(best.eval_return or 0.0)}")
    return "; ".join(facts)
