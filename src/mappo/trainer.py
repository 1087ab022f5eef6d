"""`train(env, config)`: the loop."""

import csv
import math
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from mappo import checkpoint, envs, evaluate, report
from mappo.collector import Collector
from mappo.config import Config
from mappo.console import View, make_view
from mappo.critic_input import UserInput
from mappo.envs.closing import close
from mappo.envs.pool import WorkerPool
from mappo.errors import StopTraining, UserError
from mappo.learner import MAPPO
from mappo.logger import RunLogger, Update
from mappo.presets import preset
from mappo.rundir import locked, open_run
from mappo.state import flat, part
from mappo.types import Environment, Resumable
from mappo.watch import Watch

Callback = Callable[[Update], None]


@dataclass(frozen=True)
class Run:
    """A run directory that has been trained in."""

    path: Path
    env: str
    config: Config
    step: int
    """Environment steps done."""

    @property
    def finished(self) -> bool:
        return self.step >= self.config.num_updates * self.config.steps_per_update

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """The columns of `metrics.csv`, one number for each update; NaN where nothing was measured."""
        with open(self.path / "metrics.csv", newline="", encoding="utf-8") as stream:
            names, *rows = list(csv.reader(stream))
        return {n: np.array([float(r[i] or "nan") for r in rows]) for i, n in enumerate(names)}

    def evaluate(
        self,
        episodes: int = 320,
        *,
        on: str | None = None,
        checkpoint: str = "last",
        sampled: bool = False,
        env: Any = None,
        workers: int | None = None,
    ) -> dict[str, Any]:
        """Plays the saved policy, and the baselines on the same reset seeds; see `evaluate_run`."""
        # Whoever trained has named the environment: it is theirs, not a file's.
        return evaluate.evaluate_run(
            self.path,
            episodes,
            on=on,
            checkpoint=checkpoint,
            sampled=sampled,
            env=env,
            workers=workers,
            allow_code=True,
        )


def train(
    env: str | Callable[[], Any] | Any,
    config: Config | None = None,
    *,
    callback: Callback | None = None,
    stop: evaluate.Stop | None = None,
    resume: bool = False,
    critic_input: UserInput | None = None,
) -> Run:
    """Trains a team, and keeps everything in a run directory.

    Args:
        env: a name, such as `spread`, `lbf/Foraging-8x8-2p-2f-coop-v3` or `module:function`; a callable that makes one
            environment, called once for each (in worker processes: see `env.workers`), or that takes `num_envs` and
            makes a batched `Environment`; or such a one. A single environment trains too, alone, with a warning.
        config: by default the environment's preset (`mappo.preset`).
        callback: called after each update; may raise `StopTraining`, upon which the run is saved and returned.
        stop: called at each step of an evaluation, which may be long; may raise `StopTraining` too.
        resume: go on with the run that `config.run` names, from its last checkpoint.
        critic_input: what the critic reads, `f(obs, state, active)` of tensors `(*B, A, *obs_shape)`, `(*B, *S)` or
            None, and `(*B, A)`: rows `(*B, F)` for the team, or `(*B, A, F)`.

    Raises:
        UserError: what the user can mend, in one sentence.
    """
    if config is not None and not isinstance(config, Config):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"config must be a mappo.Config, got {type(config).__name__}; see Config.from_dict")
    name = env if isinstance(env, str) else envs.name_of(env)
    config = preset(name) if config is None else config
    if critic_input is not None and config.network.critic_input == "auto":  # the run's own config.json tells
        config = replace(config, network=replace(config.network, critic_input="user"))
    device = choose_device(config.run.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.run.threads)
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        training, testing = envs.for_training(env, config, device)
        for made in (training, testing):
            if made is not None and (isinstance(env, str) or callable(env)):  # what was given is not closed
                stack.callback(close, made)
        if config.run.device == "cuda" and training.device.type == "cpu":
            raise UserError(f"run.device cuda: {name} is stepped on the CPU, and trains there: use cpu or auto")
        if training.num_envs != config.env.num_envs:
            config = replace(config, env=replace(config.env, num_envs=training.num_envs))
        agent = MAPPO(training.spec, config, training.device, derive_seed(config.run.seed, 0), critic_input)
        path = open_run(name, config, training.spec, resume)
        stack.enter_context(locked(path))
        session = Session(path, name, config, agent, training, testing, stop)
        done = session.resume() if resume else session.start()
        stack.callback(session.logger.close)  # whatever happens
        try:
            session.loop(done, callback)
        except StopTraining:
            session.save()
        session.finish()
        return Run(path, name, config, session.step)


class Session:
    """One process's work on one run: the loop, and the state that a checkpoint carries."""

    def __init__(
        self,
        path: Path,
        name: str,
        config: Config,
        agent: MAPPO,
        env: Environment,
        testing: Environment | None,
        stop: evaluate.Stop | None,
    ) -> None:
        self.path, self.name, self.config, self.agent = path, name, config, agent
        self.env, self.testing, self.stop = env, testing, stop
        self.step, self.best, self.saved = 0, -math.inf, -1
        self.notes = [f"{agent.policy.describe()}; the critic reads {agent.critic_input.describe()}"]
        if isinstance(env, WorkerPool):
            self.notes.append(f"{env.num_envs} environments in {env.workers} worker processes")
        if testing is None:
            self.notes.append(f"{name} is one set of environments: there are no evaluations during training")
        self._games = range(evaluate.SELECT_SEED, evaluate.SELECT_SEED + config.run.eval_episodes)
        self.collector, self.watch = self._collector(0), Watch(config)

    def start(self) -> int:
        """A new run. Returns 0, the updates done."""
        self.logger = RunLogger(self.path, seed=self.config.run.seed)
        return 0

    def resume(self) -> int:
        """The last checkpoint's run, as it was. Returns the updates done."""
        found = checkpoint.load(self.path)
        self.notes += [f"passed over: {problem}" for problem in found.passed_over]
        tensors, updates = found.trainer, int(found.state["updates"])
        if found.state["device"] != self.agent.device.type:  # generators of one kind cannot be set on another
            self.notes.append(f"resumed from {found.state['device']}: random streams and episodes start anew")
            tensors = {k: v for k, v in tensors.items() if k != "generator" and not k.startswith("collector.")}
            self.agent.generator.manual_seed(derive_seed(self.config.run.seed, 3, updates))
        try:
            self.agent.load_state_dict({**found.model, **tensors})
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise UserError(f"{found.path} does not fit {self.path}/config.json: {first}") from None
        # New episodes, where they cannot be loaded, start from seeds that the updates done derive.
        self.collector = self._collector(updates)
        self.collector.load_state_dict(part(tensors, "collector"))
        if not isinstance(self.env, Resumable):
            self.notes.append(f"{self.name} cannot save its episodes under way: new ones start, from derived seeds")
        self.step = self.saved = int(found.state["step"])
        self.best = -math.inf if found.state["best"] is None else float(found.state["best"])
        self.logger = RunLogger(self.path, seed=self.config.run.seed, resume_step=self.step)
        return self.agent.updates

    def loop(self, done: int, callback: Callback | None) -> None:
        """Collect, learn, log; now and then evaluate and save."""
        config, size = self.config, self.config.steps_per_update
        started, offset = time.perf_counter(), self.step
        title = f"{self.name}  seed {config.run.seed}  {self.path}"
        total = config.num_updates * size
        with make_view(total, title, mode=config.run.progress) as view, warnings.catch_warnings():
            if config.run.progress != "off":
                warnings.showwarning = partial(_note, view)  # not across the live view
            for note in self.notes:
                view.note(note)
            for index in range(done + 1, config.num_updates + 1):
                start, cpu = time.perf_counter(), time.process_time()
                try:
                    rollout, episodes = self.collector.collect()
                except UserError as error:
                    raise self._failed(error) from error
                except KeyboardInterrupt:
                    view.note(self._kept().strip())
                    raise
                if index == done + 1 and (told := self.watch.first(rollout)):
                    view.note(told)
                middle = time.perf_counter()
                tensors = {**episodes, **self.agent.update(rollout)}
                numbers = cast(list[float], torch.stack([x.float() for x in tensors.values()]).tolist())  # one sync
                metrics = dict(zip(tensors, numbers, strict=True))
                end, self.step = time.perf_counter(), index * size
                if metrics["skipped_steps"]:
                    view.note(f"step {self.step:,}: {metrics['skipped_steps']:.0f} gradient steps were not finite")
                due = self.step // config.run.eval_interval > (self.step - size) // config.run.eval_interval
                due = due or index == config.num_updates
                metrics["eval_return"], failure = math.nan, None
                try:
                    metrics["eval_return"] = self.measure() if due else math.nan
                except (UserError, StopTraining, KeyboardInterrupt) as error:  # the row comes first
                    failure = error
                timing = {
                    "collect_s": middle - start,
                    "update_s": end - middle,
                    "cpu_s": time.process_time() - cpu,
                    "elapsed_s": time.perf_counter() - started,
                    "steps_per_second": (self.step - offset) / (time.perf_counter() - started),
                }
                update = Update(index, self.step, total, metrics=metrics, timing=timing)
                self.logger.write(update)
                view.update(update)
                if told := self.watch.look(rollout, metrics):
                    self.save()
                    raise UserError(f"{told}. The run is kept in {self.path}")
                if isinstance(failure, evaluate.CutOffError):  # with restarts: training goes on
                    view.note(f"step {self.step:,} is not evaluated: {failure}")
                elif isinstance(failure, UserError):
                    raise self._failed(failure) from failure
                if due:
                    self.save(metrics["eval_return"])
                if callback is not None:
                    callback(update)
                if isinstance(failure, StopTraining | KeyboardInterrupt):
                    raise failure

    def _failed(self, error: UserError) -> UserError:
        """The environment failed, and the run with it."""
        kept = self._kept()
        return UserError(f"{error}{kept}") if kept else error

    def _kept(self) -> str:
        """Where new episodes could go on from here, what was learned is saved, and this says so."""
        if isinstance(self.env, Resumable) or not self.step:
            return ""
        self.save()
        trust = " --allow-code" if envs.is_code(self.name) else ""
        return f"\nThe run is saved at step {self.step:,}; mappo resume {self.path}{trust} goes on with it"

    def measure(self) -> float:
        """Mean greedy return of the team over games that training never sees; NaN without a test env."""
        if self.testing is None:
            return math.nan
        return float(evaluate.play(self.testing, self.agent.actor(), self._games, self.stop).sums.mean())

    def save(self, result: float = math.nan) -> None:
        """A checkpoint of now, unless there is one."""
        if self.saved == self.step:
            return
        best = result > self.best
        self.best = max(self.best, result) if best else self.best
        everything = self.agent.state_dict() | flat("collector", self.collector.state_dict())
        model = {k: v for k, v in everything.items() if k.startswith(("network.", "value_norm."))}
        trainer = {k: v for k, v in everything.items() if k not in model}
        measured = {"best": self.best, "eval_return": result}
        state: dict[str, Any] = {k: v if math.isfinite(v) else None for k, v in measured.items()}
        state |= {"updates": self.agent.updates, "device": self.agent.device.type}
        checkpoint.save(self.path, self.step, state, model, trainer, best)
        self.saved = self.step

    def finish(self) -> None:
        """Closes the logs and draws the learning curve; the baselines are measured for a run that is complete."""
        self.logger.close()
        lines: dict[str, float] = {}
        if self.testing is not None and self.step >= self.config.num_updates * self.config.steps_per_update:
            # On the games of the evaluations, so that curve and lines compare.
            try:
                played = evaluate.play_baselines(self.testing, self.name, self._games, self.stop)
                lines = {rival: float(sums.mean()) for rival, sums in played.items()}
            except StopTraining:  # the curve is drawn without them
                pass
            except UserError as error:  # all else is done and saved
                warnings.warn(f"the curve shows no baselines: {error}", stacklevel=3)
        if self.step:
            report.plot_curve(self.path, lines, title=f"{self.name}, seed {self.config.run.seed}")

    def _collector(self, updates: int) -> Collector:
        """Over new episodes; everything random derives from the run's seed and the updates done."""
        seed = self.config.run.seed
        generator = torch.Generator(self.agent.device)
        generator.manual_seed(derive_seed(seed, 1, updates))
        step = self.env.reset(derive_seed(seed, 2, updates))
        return Collector(self.env, self.agent, self.config.ppo.rollout_length, step, generator)


def _note(view: View, message: Warning | str, *_: Any, **__: Any) -> None:
    view.note(str(message))


def choose_device(name: str) -> torch.device:
    """`auto` is cuda where there is one, never MPS."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("run.device cuda: torch finds no CUDA device here; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def derive_seed(*path: int) -> int:
    """An independent seed for each purpose of each run: (run seed, purpose, ...)."""
    return int(np.random.SeedSequence(path).generate_state(1)[0])
