"""A trial of a sweep: an ordinary run with the settings of the trial, reported to Optuna.

`TrialRun.run` begins the run, or goes on with the run of a lost process, and tells the study the result. The objective
is `eval_return` of the last evaluation, the mean over the seeds, and higher is better. Pruning compares evaluations of
the same round.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from mappo.config import Config
from mappo.errors import StopTraining, UserError
from mappo.evaluation.episodes import NO_BUDGET, SCORE_BUDGET
from mappo.evaluation.number_format import format_return
from mappo.evaluation.options import EvaluateOptions
from mappo.evaluation.progress import INTERVAL
from mappo.evaluation.score_run import evaluate_run
from mappo.experiments.sweep.lease import Lease, LeaseLostError
from mappo.experiments.sweep.storage import is_storage_error
from mappo.experiments.sweep.study import Study
from mappo.experiments.sweep.trial_files import cpu_seconds, evaluations, remove_unsaved
from mappo.runs.length import steps_done
from mappo.runs.logger import Update
from mappo.system.hardware import is_out_of_memory
from mappo.system.shutdown import Interrupts
from mappo.system.tracebacks import format_error
from mappo.training.run import Run
from mappo.training.train import train

# Processes lost one after the other, without a checkpoint in between, until a trial counts as their cause.
MAX_LOST = 3


class TrialLostError(Exception):
    """Raised if an error other than the user's ends a trial in this process. A process may take the trial up again."""


class TrialRun:
    """The run of a trial in this process.

    Args:
        study: the study.
        trial: Optuna's trial, with a value for each setting.
        lease: the lease of the trial.
        interrupts: interruptions of the sweep.
        note: shows a line.
    """

    def __init__(
        self, study: Study, trial: Any, lease: Lease, interrupts: Interrupts, note: Callable[[str], None]
    ) -> None:
        self._study = study
        self._plan = study.plan
        self._trial = trial
        self._lease = lease
        self._interrupts = interrupts
        self._note = note
        self._path = self._plan.trial_path(trial.number)
        self._rounds = study.reported(trial.number)
        self._is_pruned = False
        self._noted_at = time.monotonic()

    def run(self) -> bool:
        """Run the trial, and tell the study the result.

        Returns:
            False if the sweep must stop; the trial is then saved, and can be continued.

        Raises:
            UserError: the trial failed in training. The study knows it.
            LeaseLostError: the trial belongs to another process by now.
            TrialLostError: another error ended the trial in this process.
            OSError: an error of the disk did; the trial can be continued.
        """
        try:
            config = self._plan.trial_config(self._trial.number, self._trial.params)
        except UserError as error:  # an impossible combination costs nothing: the sweep goes on
            self._tell("FAIL", error=str(error))
            return True
        step = min(steps_done(self._path, config))
        lost = self._lease.begin(step)
        if lost >= MAX_LOST:
            reason = self._lease.former_error or "each process ended without a message"
            error = f"the trial was lost {lost} times at step {step:,}: {reason}"
            self._tell("FAIL", error=error)
            raise UserError(error)
        with self._lease.beating():
            try:
                return self._train(config, step)
            except UserError as error:
                self._tell("FAIL", error=str(error))
                raise
            except OSError:  # no fault of the trial
                self._lease.give_back()
                raise
            except Exception as error:
                if not is_out_of_memory(error):
                    self._lose(error)
                self._tell("FAIL", error="out of memory")
                return True

    def _lose(self, error: Exception) -> NoReturn:
        """Raise an error of training as a `TrialLostError`, but the study's own errors as they are."""
        if isinstance(error, LeaseLostError) or is_storage_error(error):
            raise error
        self._lease.record_error(f"{type(error).__name__}: {error}")
        raise TrialLostError(format_error(error)) from error

    def _train(self, config: Config, step: int) -> bool:
        """Train, score and tell the result; return False if the sweep must stop."""
        number = self._trial.number
        values = self._plan.describe_values(self._trial.params)
        self._note(f"trial {number}{f' goes on at step {step:,}' if step else ''}: {values}")
        workers = _children_seconds()
        run = self._finish_run(config, step)
        workers = _children_seconds() - workers + self._trial.user_attrs.get("worker_cpu_s", 0.0)
        self._trial.set_user_attr("worker_cpu_s", workers)
        if not run.finished and not self._is_pruned:
            self._note(f"trial {number}: saved at step {run.step:,}")
            return False
        cost = cpu_seconds(run) + workers
        if not run.finished:
            self._tell("PRUNED", cpu_s=cost)
            return True
        value = list(evaluations(run).values())[-1:]
        if not value or not math.isfinite(value[0]):
            raise UserError("its last evaluation has no finite return")
        try:
            score = self._score(config)
        except StopTraining:
            return False
        self._tell("COMPLETE", value[0], cpu_s=cost, **score)
        return True

    def _finish_run(self, config: Config, step: int) -> Run:
        """Train to the end of the run, unless the trial is pruned or interrupted."""
        if step:
            run = Run(self._path, self._plan.env, config, step)
            for reached, value in evaluations(run).items():  # a lost process may not have reported all
                if reached <= step:
                    self._report(reached, value)
            self._is_pruned = self._trial.should_prune()  # nor have told the answer
            if self._is_pruned and not run.finished:
                return run
        else:
            remove_unsaved(self._path)
        return train(self._plan.env, config, callback=self._on_update, stop=self._interrupts, resume=step > 0)

    def _on_update(self, update: Update) -> None:
        """Report an evaluation; stop the run if the trial is pruned."""
        self._lease.check()
        value = update.metrics["eval_return"]
        if math.isnan(value):
            return
        self._report(update.step, value)
        self._is_pruned = self._trial.should_prune()
        if self._is_pruned and update.step < update.total_steps:
            raise StopTraining
        if time.monotonic() - self._noted_at >= INTERVAL:
            self._noted_at = time.monotonic()
            steps = f"step {update.step:,} of {update.total_steps:,}"
            self._note(f"trial {self._trial.number}: {steps}, eval {format_return(value)}")

    def _report(self, step: int, value: float) -> None:
        """Report an evaluation to Optuna unless Optuna knows it."""
        number = self._plan.evaluation_round(step)
        if math.isfinite(value) and number not in self._rounds:
            self._rounds.add(number)
            self._trial.report(value, number)

    def _score(self, config: Config) -> dict[str, Any]:
        """Return the score of the run on other episodes, as attributes of the trial; none with run.score-episodes 0."""
        settings = config.run
        if settings.score_episodes == 0:
            return {}
        options = EvaluateOptions(sampled=settings.eval_policy == "sampled", allow_code=True)
        result = evaluate_run(
            self._path,
            replace(options, episodes=settings.score_episodes or options.episodes),
            close_limit=self._interrupts.close_limit,
            on_step=lambda _: self._interrupts(),
            budget=SCORE_BUDGET if settings.score_episodes is None else NO_BUDGET,
        )
        score = result["return_sum"]
        return {"score": score["mean"], "ci95": score["ci95"], "episodes": result["episodes"]}

    def _tell(self, state: str, value: float | None = None, **attributes: Any) -> None:
        """Record the result: attributes first, because a finished trial takes none."""
        for name, attribute in attributes.items():
            self._trial.set_user_attr(name, attribute)
        self._study.tell(self._trial.number, value, state)


def _children_seconds() -> float:
    """Return the processor time of this process's ended worker processes."""
    times = os.times()
    return times.children_user + times.children_system
