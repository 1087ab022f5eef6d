"""The training loop: collect, update, evaluate, log, check and save. `train` makes a `Session` for each run."""

import math
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from mappo.config import Config
from mappo.core.protocols import Composite, Environment, Resumable
from mappo.core.timestep import Rollout
from mappo.core.user_code import allow_flag
from mappo.errors import StopTraining, UserError
from mappo.evaluation.episodes import CutOffError
from mappo.runs.logger import Update
from mappo.system.files import shell_path
from mappo.system.shutdown import Interrupts
from mappo.training.diagnostics import Diagnostics
from mappo.training.evaluator import Evaluator, Interruption, Summary, mean_return
from mappo.training.preflight import session_notes
from mappo.training.seed_run import SeedRun, resume_seed_runs
from mappo.training.setup import make_collector
from mappo.training.shares import Callback, end_update
from mappo.training.snapshot import Snapshot
from mappo.training.summary import UpdateClock, draw_curve, mean_over_seeds, metrics_by_seed, run_title
from mappo.training.views import View, make_view

Metrics = dict[str, float]


@dataclass
class Session:
    """Work of a process on a run: its seeds, side by side, and the environments of all seeds.

    Args:
        path: run directory.
        name: name of the environment.
        config: settings of each seed.
        seed_runs: the seeds, at least one.
        env: `num_envs` copies for each seed, in the order of the seeds.
        evaluator: plays the evaluations; None for no evaluations.
        interrupts: called after each update and at each step of an evaluation; may raise `StopTraining`. Within an
            update the learners call its `check`.
        seed_paths: directories of all seeds of the run; other processes may train some of them.
    """

    path: Path
    name: str
    config: Config
    seed_runs: Sequence[SeedRun]
    env: Environment
    evaluator: Evaluator | None
    interrupts: Interrupts
    seed_paths: Sequence[Path]

    def __post_init__(self) -> None:
        parts = self.env.joined_envs if isinstance(self.env, Composite) else [self.env]
        self.resumable = all(isinstance(part, Resumable) for part in parts)
        self.agents = [seed_run.agent for seed_run in self.seed_runs]
        self.ranks = self.agents[0].ranks
        self._can_restore = self.ranks.size == 1 and not self.agents[0].static_shapes
        self.diagnostics = Diagnostics(self.config, self.agents[0].spec)
        self.notes = session_notes(self.path, self.name, self.config, self.env, self.evaluator, self.agents[0])
        self._total_steps = self.config.end_step

    @property
    def updates_done(self) -> int:
        """Return the number of updates done, as the learners count them."""
        return self.agents[0].updates

    @property
    def step(self) -> int:
        """Return the number of environment steps learned from, by each seed."""
        return self.updates_done * self.config.steps_per_update

    @property
    def is_finished(self) -> bool:
        """Return whether all updates of the config are done."""
        return self.updates_done >= self.config.num_updates

    @property
    def _is_due(self) -> bool:
        """Return whether the last update ends with an evaluation and a checkpoint."""
        interval = self.config.run.eval_interval
        before = self.step - self.config.steps_per_update
        return self.is_finished or self.step // interval > before // interval

    def start(self) -> None:
        """Begin a new run."""
        for seed_run in self.seed_runs:
            seed_run.start()
        self._reset_envs()

    def _reset_envs(self) -> None:
        """Start new episodes, from seeds derived from the updates done; make learner and collector."""
        with self.interrupts.waiting():
            self.learner, self.collector = make_collector(self.agents, self.env, self.updates_done)

    def resume(self) -> None:
        """Restore the run from the last checkpoint of all seeds.

        Raises:
            UserError: a checkpoint is missing, damaged or of another run.
        """
        checkpoint, collector_states, notes = resume_seed_runs(self.seed_runs)
        self.notes += notes
        self._reset_envs()
        try:
            self.collector.load_state_dict(*collector_states)
        except (RuntimeError, LookupError, ValueError) as error:  # impossible state of a generator or environment
            raise UserError(f"{checkpoint} does not fit {self.path}/config.json: {error}") from error
        if not self.resumable:
            self.notes.append(f"{self.name} cannot save unfinished episodes: new episodes start, from derived seeds")

    def loop(self, callback: Callback | None) -> None:
        """Train until all updates are done.

        Args:
            callback: called after each update; may raise `StopTraining`.

        Raises:
            StopTraining: raised by the callback, or by `interrupts`.
            UserError: the environment failed, or the run cannot go on.
        """
        title = run_title(self.path, self.name, self.config)
        mode = self.config.run.progress
        with make_view(self._total_steps, title, mode=mode) as view, warnings.catch_warnings():
            if mode != "off":
                # A plain warning would tear the live view.
                warnings.showwarning = lambda text, *_, **__: view.note(str(text))  # pyright: ignore
            self._view = view
            for note in self.notes:
                view.note(note)
            clock = UpdateClock(self.step)
            while not self.is_finished:
                self._run_update(view, clock, callback)

    def _run_update(self, view: View, clock: UpdateClock, callback: Callback | None) -> None:
        """Collect a rollout, learn from the rollout, and record the update."""
        clock.start()
        rollout, metrics = self._collect_and_learn(view, clock)
        clock.lap("update_s")
        interruption = self._evaluate(metrics) if self._is_due else None
        clock.lap("evaluate_s")
        update = self._log(metrics, clock.timing(self.step))
        view.update(update)
        self._check(rollout, metrics, clock, view)
        if self._is_due:
            self.save(metrics)
        if isinstance(interruption, CutOffError):  # later evaluations may succeed
            view.note(f"step {self.step:,} is not evaluated: {interruption}")
        elif isinstance(interruption, UserError):
            raise UserError(f"{interruption}{self._save_and_describe()}") from interruption
        end_update(self.ranks, self.interrupts, callback, update, interruption)

    def _collect_and_learn(self, view: View, clock: UpdateClock) -> tuple[Rollout, list[Metrics]]:
        """Collect a rollout and learn from it. If interrupted, return to the state after the last update."""
        snapshot = Snapshot(self.agents, self.collector) if self._can_restore else None
        try:
            with nullcontext() if self.resumable else self.interrupts.waiting():
                rollout, episode_metrics = self.collector.collect()
            for note in self.diagnostics.check_first(rollout):
                view.note(note)
            clock.lap("collect_s")
            return rollout, self._update(rollout, episode_metrics)
        except (StopTraining, KeyboardInterrupt, UserError) as error:
            if snapshot is not None and (isinstance(error, StopTraining) or not self.resumable):
                snapshot.restore()
            if isinstance(error, UserError):  # saved, unless a resume would restore the same episodes
                raise UserError(f"{error}{self._save_and_describe()}") from error
            if isinstance(error, KeyboardInterrupt):
                view.note(self._save_and_describe().strip())
            raise

    def _update(self, rollout: Rollout, episode_metrics: dict[str, torch.Tensor]) -> list[Metrics]:
        """Learn from the rollout; return the metrics of each seed."""
        skip = [bool(problem) for problem in self.collector.nonfinite]
        tensors = {**episode_metrics, **self.learner.update(rollout, skip)}
        return [metrics | {"eval_return": math.nan} for metrics in metrics_by_seed(tensors)]

    def _evaluate(self, metrics: Sequence[Metrics]) -> Interruption | None:
        """Evaluate each seed, and record the returns; return the exception at the end of the evaluation, if any."""
        if self.evaluator is None:
            return None
        found, interruption = self.evaluator.evaluate(self.agents, self.step, self._view.note)
        for run, row, returns, means in zip(self.seed_runs, metrics, found, self.evaluator.agent_means, strict=False):
            row["eval_return"] = mean_return(returns)
            run.log_returns(self.step, self.evaluator.kept_returns(returns), means)
        return interruption

    def _log(self, metrics: Sequence[Metrics], timing: dict[str, float]) -> Update:
        """Write the update into the logs of each seed; return the update with the mean over seeds."""
        update = partial(Update, self.updates_done, self.step, self._total_steps, timing=timing)
        for seed_run, seed_metrics in zip(self.seed_runs, metrics, strict=True):
            seed_run.log(update(metrics=seed_metrics))
        return update(metrics=mean_over_seeds(metrics))

    def _check(self, rollout: Rollout, metrics: Sequence[Metrics], clock: UpdateClock, view: View) -> None:
        """Show problems of the update; end a run without further learning, or with an error to stop at."""
        rollouts = [rollout.slice_envs(part) for part in self.collector.seed_slices]
        notes, reason = self.diagnostics.check(self.agents, rollouts, metrics, self.collector.nonfinite)
        for note in notes:
            view.note(f"step {self.step:,}: {note}")
        if reason:
            self.save(metrics)
            raise UserError(f"{reason}. The run is kept in {self.path}")
        if not self._is_due or self.is_finished or self.evaluator is None:
            return
        episodes = self.evaluator.num_episodes
        if note := self.diagnostics.check_evaluation_time(clock.laps["evaluate_s"], clock.elapsed, episodes):
            view.note(note)

    def save(self, metrics: Sequence[Metrics] | None = None) -> None:
        """Write a checkpoint of each seed, with the return of its evaluation, unless this step is already saved."""
        for k, seed_run in enumerate(self.seed_runs):
            result = math.nan if metrics is None else metrics[k]["eval_return"]
            result = result if math.isfinite(result) else math.nan  # infinity is never the best
            seed_run.save(self.step, result, partial(self.collector.state_dict, k))

    def _save_and_describe(self) -> str:
        """Save the run if it would resume with new episodes anyway; return a line about the resume, or ""."""
        if self.resumable or not self.step or self.ranks.size > 1:  # other processes have no error to stop at
            return ""
        self.save()
        path = shell_path(self.path) + allow_flag(self.name, *self.config.named_code)
        return f"\nThe run is saved at step {self.step:,}; mappo resume {path} goes on with it"

    def close(self) -> None:
        """Close the logs."""
        with ExitStack() as stack:
            for seed_run in self.seed_runs:
                stack.callback(seed_run.close)

    def finish(self) -> None:
        """Draw the learning curve of all seeds; a finished run gets the baselines too."""
        # Another process may train some of the seeds: the last to finish draws the curve.
        saved = [path / "checkpoints" / f"{self.step:012d}" for path in self.seed_paths]
        if not self.step or not (self.ranks.size > 1 or all(path.exists() for path in saved)):
            return
        results: dict[str, Summary] = {}
        if self.evaluator is not None and self.is_finished:
            results = self.evaluator.measure_at_end(self.name, self.agents, self._view.note)
        self.ranks.leave()  # nobody waits for the first process, which draws the curve
        if not self.ranks.rank:
            draw_curve(self.path, self.name, self.config, self.seed_paths, results, self.agents[0].device)
            self.seed_runs[0].logger.write_picture(self.step, "curve", self.path / "curve.png")
