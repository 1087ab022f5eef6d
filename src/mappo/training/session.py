"""The loop: collect, learn, log; now and then evaluate and save."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mappo import envs
from mappo.algorithms.multi_seed import MultiSeed
from mappo.config import Config
from mappo.core.protocols import Composite, Environment, Resumable
from mappo.core.seeding import derive_seed
from mappo.core.state_dict import subdict
from mappo.core.timestep import Rollout
from mappo.envs.vector.pool import WorkerPool
from mappo.errors import StopTraining, UserError
from mappo.evaluation.curve import plot_curve
from mappo.evaluation.episodes import CutOffError, StopCallback, play_episodes
from mappo.evaluation.statistics import SELECT_SEED, play_baselines
from mappo.rollouts.collector import Collector
from mappo.runs.logger import Update
from mappo.system import shutdown
from mappo.training.diagnostics import SeedDiagnostics
from mappo.training.preflight import preflight_notes
from mappo.training.seed_run import SeedRun, load_common_checkpoints
from mappo.training.views import View, make_view

Callback = Callable[[Update], None]


class Session:
    """One process's work on one run: its seeds, side by side, and the environments that they learn in.

    Args:
        path, name: of the run. config: of each seed. tracks: the seeds, one or more.
        env: num_envs games for each seed, in order. testing: to evaluate in, if there is another.
        stop: called after each update and at each step of an evaluation; may raise `StopTraining`.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        config: Config,
        tracks: Sequence[SeedRun],
        env: Environment,
        testing: Environment | None,
        stop: StopCallback | None,
    ) -> None:
        self.path, self.name, self.config, self.seed_runs = path, name, config, list(tracks)
        self.env, self.eval_env, self.stop = env, testing, stop
        self.step, first = 0, tracks[0].agent
        self.diagnostics = SeedDiagnostics(config, [track.seed for track in tracks])
        self.resumable = all(
            isinstance(e, Resumable) for e in (env.joined_envs if isinstance(env, Composite) else [env])
        )
        self.notes = [f"{first.policy.describe()}; the critic reads {first.critic_input.describe()}"]
        if isinstance(env, WorkerPool):
            self.notes.append(f"{env.num_envs} environments in {env.num_workers} worker processes")
        if testing is None:
            self.notes.append(f"{name} is one set of environments: there are no evaluations during training")
        self.notes += preflight_notes(name, config, env)
        self._eval_seeds = range(SELECT_SEED, SELECT_SEED + config.run.eval_episodes)

    def start(self) -> int:
        """A new run. Returns 0, the updates done."""
        for track in self.seed_runs:
            track.start()
        self._start_episodes(0)
        return 0

    def resume(self) -> int:
        """The last checkpoint's run, as it was. Returns the updates done."""
        (found, notes), saved = load_common_checkpoints(self.seed_runs), list[dict[str, torch.Tensor]]()
        self.notes += notes
        for track, checkpoint in zip(self.seed_runs, found, strict=True):
            tensors, notes = track.resume(checkpoint)
            self.notes += [note for note in notes if note not in self.notes]
            saved.append(subdict(tensors, "collector"))
        # New episodes, where they cannot be loaded, start from seeds that the updates done derive.
        updates = self.seed_runs[0].agent.updates
        self._start_episodes(updates)
        try:
            self.collector.load_state_dict(*saved)
        except (RuntimeError, LookupError, ValueError) as error:  # numbers that no generator, or no game, has
            raise UserError(f"{found[0].path} does not fit {self.path}/config.json: {error}") from error
        if not self.resumable:
            self.notes.append(f"{self.name} cannot save its episodes under way: new ones start, from derived seeds")
        self.step = self.seed_runs[0].saved
        return updates

    def _start_episodes(self, updates: int) -> None:
        """Learner and collector, over new episodes; all that is random derives from seeds and the updates done."""
        agents = [track.agent for track in self.seed_runs]
        self.learner = agents[0] if len(agents) == 1 else MultiSeed(agents)
        generators, starts = list[torch.Generator](), list[int]()
        for track in self.seed_runs:
            generators.append(torch.Generator(track.agent.device))
            generators[-1].manual_seed(derive_seed(track.seed, 1, updates))
            first = derive_seed(track.seed, 2, updates)
            starts += range(first, first + self.config.env.num_envs)
        length, step = self.config.ppo.rollout_length, self.env.reset(starts)
        self.collector = Collector(self.env, self.learner, length, step, generators)

    def loop(self, done: int, callback: Callback | None) -> None:
        """Collect, learn, log; now and then evaluate and save."""
        config, size, every = self.config, self.config.steps_per_update, self.config.run.eval_interval
        started, offset = time.perf_counter(), self.step
        total = config.num_updates * size
        with make_view(total, self._title(), mode=config.run.progress) as view, warnings.catch_warnings():
            if config.run.progress != "off":
                warnings.showwarning = partial(_note, view)  # not across the live view
            for note in self.notes:
                view.note(note)
            for index in range(done + 1, config.num_updates + 1):
                start, cpu = time.perf_counter(), time.process_time()
                rollout, episodes = self._collect(view)
                if index == done + 1 and (told := self.diagnostics.check_first(rollout)):
                    view.note(told)
                middle, spoilt = time.perf_counter(), self.collector.nonfinite
                metrics = self._read_metrics({**episodes, **self.learner.update(rollout, [bool(x) for x in spoilt])})
                end, self.step = time.perf_counter(), index * size
                due = index == config.num_updates or self.step // every > (self.step - size) // every
                failure = self._evaluate(metrics) if due else None
                elapsed = time.perf_counter() - started
                wasteful = self.diagnostics.check_evaluation_time(started + elapsed - end, elapsed) if due else ""
                timing = {
                    "collect_s": middle - start,
                    "update_s": end - middle,
                    "cpu_s": time.process_time() - cpu,
                    "elapsed_s": elapsed,
                    "steps_per_second": (self.step - offset) / elapsed if elapsed > 0 else math.nan,
                }
                for track, own in zip(self.seed_runs, metrics, strict=True):
                    track.logger.write(Update(index, self.step, total, metrics=own, timing=timing))
                update = Update(index, self.step, total, metrics=_mean(metrics), timing=timing)
                view.update(update)
                self._check_update(rollout, metrics, spoilt, view)
                if wasteful and index < config.num_updates:
                    view.note(wasteful)
                if due:
                    self.save(metrics)
                if isinstance(failure, CutOffError):  # with restarts: training goes on
                    view.note(f"step {self.step:,} is not evaluated: {failure}")
                elif isinstance(failure, UserError):
                    raise self._failed(failure) from failure
                if callback is not None:
                    callback(update)
                if isinstance(failure, StopTraining | KeyboardInterrupt):
                    raise failure
                if self.stop is not None:
                    self.stop()

    def _collect(self, view: View) -> tuple[Rollout, dict[str, torch.Tensor]]:
        """A rollout; what was learned before is saved where the environment fails and loses its episodes anyway."""
        try:
            with nullcontext() if self.resumable else shutdown.waiting():
                return self.collector.collect()
        except UserError as error:
            raise self._failed(error) from error
        except KeyboardInterrupt:
            view.note(self._save_and_say().strip())
            raise

    def _check_update(
        self, rollout: Rollout, metrics: Sequence[dict[str, float]], spoilt: Sequence[str], view: View
    ) -> None:
        """Tells what is wrong with an update; ends a run that cannot learn any more, or is not to go on."""
        parts = [rollout.slice_envs(share) for share in self.collector.seed_slices]
        notes, end = self.diagnostics.check([t.agent for t in self.seed_runs], parts, metrics, spoilt)
        for note in notes:
            view.note(f"step {self.step:,}: {note}")
        if end:
            self.save(metrics)
            raise UserError(f"{end}. The run is kept in {self.path}")

    def _title(self) -> str:
        first, last = self.seed_runs[0].seed, self.seed_runs[-1].seed
        seeds = f"seed {first}" if first == last else f"seeds {first} to {last}, mean"
        return f"{self.name}  {seeds}  {self.path}"

    def _read_metrics(self, tensors: dict[str, torch.Tensor]) -> list[dict[str, float]]:
        """Metrics of each seed: one question to the device for all."""
        stacked: Any = torch.stack([x.float().reshape(-1) for x in tensors.values()], 1)
        rows: list[list[float]] = stacked.tolist()
        return [dict(zip(tensors, row, strict=True)) | {"eval_return": math.nan} for row in rows]

    def _evaluate(self, metrics: Sequence[dict[str, float]]) -> UserError | StopTraining | KeyboardInterrupt | None:
        """Enters `eval_return`: each team's mean greedy return over games that training never sees; NaN without any.

        What ends it is given back: the row comes first.
        """
        if self.eval_env is None:
            return None
        for track, own in zip(self.seed_runs, metrics, strict=True):
            try:
                with shutdown.waiting():
                    played = play_episodes(self.eval_env, track.agent.actor(), self._eval_seeds, self.stop)
            except (UserError, StopTraining, KeyboardInterrupt) as error:
                return error
            own["eval_return"] = float(played.team_returns.mean())
        return None

    def _failed(self, error: UserError) -> UserError:
        """The environment failed, and the run with it."""
        kept = self._save_and_say()
        return UserError(f"{error}{kept}") if kept else error

    def _save_and_say(self) -> str:
        """Where new episodes could go on from here, what was learned is saved, and this says so."""
        if self.resumable or not self.step:
            return ""
        self.save()
        trust = " --allow-code" if envs.is_code(self.name) else ""
        return f"\nThe run is saved at step {self.step:,}; mappo resume {self.path}{trust} goes on with it"

    def save(self, metrics: Sequence[dict[str, float]] | None = None) -> None:
        """A checkpoint of each seed, with what it was measured at, unless there is one of now."""
        for k, track in enumerate(self.seed_runs):
            result = math.nan if metrics is None else metrics[k]["eval_return"]
            result = result if math.isfinite(result) else math.nan  # infinity is not the best
            track.save(self.step, result, partial(self.collector.state_dict, k))

    def close(self) -> None:
        """Closes the logs."""
        with ExitStack() as stack:
            for track in self.seed_runs:
                if hasattr(track, "logger"):
                    stack.callback(track.logger.close)

    def finish(self) -> None:
        """Closes the logs and draws the learning curve; the baselines are measured for a run that is complete."""
        self.close()
        lines: dict[str, float] = {}
        if self.eval_env is not None and self.step >= self.config.num_updates * self.config.steps_per_update:
            # On the games of the evaluations, so that curve and lines compare.
            try:
                played = play_baselines(self.eval_env, self.name, self._eval_seeds, self.stop)
                lines = {rival: float(sums.mean()) for rival, sums in played.items()}
            except StopTraining:  # the curve is drawn without them
                pass
            except UserError as error:  # all else is done and saved
                warnings.warn(f"the curve shows no baselines: {error}", stacklevel=3)
        if self.step:
            tables = [track.path / "metrics.csv" for track in self.seed_runs]
            seeds = f"seed {self.seed_runs[0].seed}" if len(tables) == 1 else f"{len(tables)} seeds"
            try:
                plot_curve(self.path, lines, title=f"{self.name}, {seeds}", tables=tables)
            except (OSError, ValueError) as error:  # such as a full disk: all else is done and saved
                warnings.warn(f"the learning curve is not drawn: {error}", stacklevel=3)


def _mean(metrics: Sequence[dict[str, float]]) -> dict[str, float]:
    """Over seeds, of those that were measured."""
    if len(metrics) == 1:
        return metrics[0]
    rows = {name: np.array([own[name] for own in metrics]) for name in metrics[0]}
    return {name: float(x[~np.isnan(x)].mean()) if (~np.isnan(x)).any() else math.nan for name, x in rows.items()}


def _note(view: View, message: Warning | str, *_: Any, **__: Any) -> None:
    view.note(str(message))
