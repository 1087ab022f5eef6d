"""`train(env, config)`: the loop."""

import csv
import math
import re
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from mappo import checkpoint, envs, evaluate, report
from mappo.collector import Collector
from mappo.config import Config
from mappo.console import make_view
from mappo.errors import StopTraining, UserError
from mappo.learner import MAPPO
from mappo.logger import RunLogger, Update
from mappo.presets import preset
from mappo.types import Environment, Resumable

Callback = Callable[[Update], None]
# What a resumed run may change: the numbers depend on these by rounding at most.
FREE = {("run", name) for name in ("progress", "threads", "device", "name", "dir")}


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
        which: str = "last",
        sampled: bool = False,
        env: Environment | None = None,
    ) -> dict[str, Any]:
        """Plays the saved policy, and the baselines on the same reset seeds; see `evaluate_run`."""
        return evaluate_run(self.path, episodes, on=on, which=which, sampled=sampled, env=env)


def train(
    env: str | Callable[[], Any] | Any,
    config: Config | None = None,
    *,
    callback: Callback | None = None,
    resume: bool = False,
) -> Run:
    """Trains a team, and keeps everything in a run directory.

    Args:
        env: a name (see `mappo envs`); a callable that makes one environment, called once for each; or a batched
            `Environment`. A single environment trains too, alone, with a warning.
        config: by default the preset of a named environment, else `Config()`.
        callback: called after each update; may raise `StopTraining`, upon which the run is saved and returned.
        resume: go on with the run that `config.run` names, from its last checkpoint.

    Raises:
        UserError: what the user can mend, in one sentence.
    """
    name = env if isinstance(env, str) else _name_of(env)
    config = preset(name) if config is None else config
    device = choose_device(config.run.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.run.threads)
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        training, testing = _environments(env, name, config, device)
        for made in (training, testing):
            if made is not None and (isinstance(env, str) or callable(env)):  # what was given is not closed
                stack.callback(made.close)
        if config.run.device == "cuda" and training.device.type == "cpu":
            raise UserError(f"run.device cuda: {name} is stepped on the CPU, and trains there: use cpu or auto")
        if training.num_envs != config.env.num_envs:
            config = replace(config, env=replace(config.env, num_envs=training.num_envs))
        agent = MAPPO(training.spec, config, training.device, seed=derive_seed(config.run.seed, 0))
        path = open_run(name, config, training, resume)
        session = Session(path, name, config, agent, training, testing)
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
    ) -> None:
        self.path, self.name, self.config, self.agent = path, name, config, agent
        self.env, self.testing = env, testing
        self.generator = torch.Generator(agent.device)
        self.step, self.best, self.saved = 0, -math.inf, -1
        self.collector: Collector

    def start(self) -> int:
        """A new run: everything random derives from its seed. Returns 0, the updates done."""
        seed = self.config.run.seed
        self.generator.manual_seed(derive_seed(seed, 1))
        self._collect_from(self.env.reset(derive_seed(seed, 2)))
        self.logger = RunLogger(self.path, seed=seed)
        return 0

    def resume(self) -> int:
        """The last checkpoint's run, as it was. Returns the updates done."""
        found = checkpoint.load(self.path)
        state, tensors, part = found.state, found.trainer, checkpoint.part
        updates = int(state["updates"])
        optimizer = part(tensors, "optimizer")
        kept: dict[int, dict[str, Any]] = {}
        for key, value in optimizer.items():
            index, moment = key.split(".")
            kept.setdefault(int(index), {})[moment] = value
        self.agent.load_state_dict(
            {
                "network": part(found.model, "network"),
                "value_norm": part(found.model, "value_norm"),
                "optimizer": kept,
                "generator": tensors["generator.agent"],
                "updates": updates,
            }
        )
        self.generator.set_state(tensors["generator.noise"])
        self.step, self.saved, self.best = int(state["step"]), int(state["step"]), float(state["best"])
        saved_env = part(tensors, "env")
        first = self.env.reset(derive_seed(self.config.run.seed, 2, updates))
        if saved_env and isinstance(self.env, Resumable):
            self._collect_from(self.env.load_state_dict(saved_env))
            self.collector.load_state_dict(part(tensors, "collector"))
        else:  # it cannot be saved: new episodes, from seeds that the updates done derive
            self._collect_from(first)
        self.logger = RunLogger(self.path, seed=self.config.run.seed, resume_step=self.step)
        return updates

    def loop(self, done: int, callback: Callback | None) -> None:
        """Collect, learn, log; now and then evaluate and save."""
        config, size = self.config, self.config.steps_per_update
        started, offset = time.perf_counter(), self.step
        title = f"{self.name}  seed {config.run.seed}  {self.path}"
        total = config.num_updates * size
        with make_view(total, title, mode=config.run.progress) as view:
            for index in range(done + 1, config.num_updates + 1):
                start, cpu = time.perf_counter(), time.process_time()
                rollout, episodes = self.collector.collect()
                middle = time.perf_counter()
                tensors = {**episodes, **self.agent.update(rollout)}
                numbers = cast(list[float], torch.stack([x.float() for x in tensors.values()]).tolist())  # one sync
                metrics = dict(zip(tensors, numbers, strict=True))
                end, self.step = time.perf_counter(), index * size
                if metrics["skipped_steps"]:
                    view.note(f"step {self.step:,}: {metrics['skipped_steps']:.0f} gradient steps were not finite")
                due = self.step // config.run.eval_interval > (self.step - size) // config.run.eval_interval
                due = due or index == config.num_updates
                metrics["eval_return"] = self.measure() if due else math.nan
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
                if due:
                    self.save(metrics["eval_return"])
                if callback is not None:
                    callback(update)

    def measure(self) -> float:
        """Mean greedy return over games that training never sees, summed over agents; NaN without a test env."""
        if self.testing is None:
            return math.nan
        first = evaluate.SELECT_SEED
        seeds = range(first, first + self.config.run.eval_episodes)
        return float(evaluate.play(self.testing, self.agent.actor(), seeds).sums.mean())

    def save(self, result: float = math.nan) -> None:
        """A checkpoint of now, unless there is one."""
        if self.saved == self.step:
            return
        agent = self.agent.state_dict()
        best = result > self.best
        self.best = max(self.best, result) if best else self.best
        model = checkpoint.flat("network", agent["network"]) | checkpoint.flat("value_norm", agent["value_norm"])
        moments = {str(i): moments for i, moments in agent["optimizer"].items()}
        trainer = checkpoint.flat("optimizer", moments) | checkpoint.flat("collector", self.collector.state_dict())
        trainer |= {"generator.agent": agent["generator"], "generator.noise": self.generator.get_state()}
        if isinstance(self.env, Resumable):
            trainer |= checkpoint.flat("env", self.env.state_dict())
        state = {"updates": agent["updates"], "best": self.best, "eval_return": result}
        checkpoint.save(self.path, self.step, state, model, trainer, best)
        self.saved = self.step

    def finish(self) -> None:
        """Closes the logs and draws the learning curve."""
        self.logger.close()
        if self.step:
            lines: dict[str, float] = {}
            if self.testing is not None:
                scores = evaluate.score(self.testing, self.name, self.agent.actor(), 256)
                lines = {rival: s["mean"] for rival, s in scores["baselines"].items()}
            report.plot_curve(self.path, lines, title=f"{self.name}, seed {self.config.run.seed}")

    def _collect_from(self, step: Any) -> None:
        length = self.config.ppo.rollout_length
        self.collector = Collector(self.env, self.agent, length, step, self.generator)


def evaluate_run(
    path: Path | str,
    episodes: int = 320,
    *,
    on: str | None = None,
    which: str = "last",
    sampled: bool = False,
    env: Environment | None = None,
    seed: int = evaluate.SCORE_SEED,
) -> dict[str, Any]:
    """Plays a run's policy and the baselines of its environment, on the same reset seeds.

    Args:
        path: the run directory. episodes: how many games.
        on: a package that holds the original environment, such as `mpe2`, to score on that.
        which: checkpoint, `last` or `best`. sampled: draw actions, in place of the likeliest.
        env: to play in; needed only where the run's environment has no name.

    Returns:
        `env`, `package_version`, `policy`, `checkpoint`, and what `evaluate.score` gives.

    Raises:
        UserError: the run, the checkpoint or the package is missing or damaged.
    """
    if episodes < 1:
        raise UserError(f"episodes must be at least 1, got {episodes}")
    name, config, spec = checkpoint.read_run(Path(path))
    actor = checkpoint.load_actor(path, checkpoint=which, sampled=sampled)
    if env is None:
        name = name if on is None else envs.original(name, on)
        count = min(episodes, 2048) if name in envs.NATIVE else min(episodes, 16)
        env = envs.make(name, count, num_agents=config.env.num_agents)
    if env.spec.num_agents != spec.num_agents:
        raise UserError(f"the run has {spec.num_agents} agents, the environment {env.spec.num_agents}")
    about = {
        "env": name,
        "package_version": envs.package_version(name),
        "policy": "sampled" if sampled else "greedy",
        "checkpoint": which,
    }
    return about | evaluate.score(env, name, actor, episodes, seed)


def draw_replay(path: Path, episodes: int = 4, seed: int = evaluate.SCORE_SEED, which: str = "last") -> Path:
    """Writes `replay.gif` into the run directory: greedy games from the seeds that scores are made of.

    Raises:
        UserError: there is no such run, or its environment cannot draw.
    """
    name, config, _ = checkpoint.read_run(path)
    env = envs.make(name, 1, num_agents=config.env.num_agents, render=True)
    actor = checkpoint.load_actor(path, checkpoint=which)
    out = path / "replay.gif"
    report.write_gif(evaluate.replay(env, actor, range(seed, seed + episodes)), out)
    return out


def open_run(name: str, config: Config, env: Environment, resume: bool) -> Path:
    """The run's directory: a new one, or on `resume` the one that is there.

    Raises:
        UserError: it exists and is not resumed, or is resumed and missing or of another config.
    """
    run = config.run
    given = Path(run.dir) if run.dir else Path("runs") / run.name if run.name else None
    if resume:
        if given is None:
            raise UserError("to resume, name the run: --run.name or --run.dir")
        old_name, old, _ = checkpoint.read_run(given)
        _must_match(given, (old_name, old), (name, config))
        return given
    if given is not None:
        checkpoint.create_run(given, name, config, env.spec)
        return given
    stem = name.replace("/", "-")
    number = 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    checkpoint.create_run(path, name, config, env.spec)
    return path


def choose_device(name: str) -> torch.device:
    """`auto` is cuda where there is one, never MPS."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("run.device cuda: torch finds no CUDA device here; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def derive_seed(*path: int) -> int:
    """An independent seed for each purpose of each run: (run seed, purpose, ...)."""
    return int(np.random.SeedSequence(path).generate_state(1)[0])


def _name_of(env: Any) -> str:
    """`custom/NAME`: never that of an environment `mappo` knows, and fit for a directory."""
    return "custom/" + re.sub(r"\W+", "-", getattr(env, "__name__", type(env).__name__)).strip("-")


def _environments(env: Any, name: str, config: Config, device: torch.device) -> tuple[Environment, Environment | None]:
    """The environments to train in and those to test in; the second are None where there is only one set."""
    count, tests = config.env.num_envs, config.run.eval_episodes
    if isinstance(env, str):
        agents = config.env.num_agents
        tests = tests if env in envs.NATIVE else min(tests, 16)
        training = envs.make(env, count, num_agents=agents, device=device)
        return training, envs.make(env, tests, num_agents=agents, device=device)
    if isinstance(env, Environment):
        return env, None
    if callable(env):
        return envs.from_factory(env, count), envs.from_factory(env, min(tests, 16))
    warnings.warn(
        f"one {type(env).__name__} trains alone: slowly, on little data for each update, and without evaluations; "
        "give a function that makes one",
        stacklevel=3,
    )
    return envs.from_factory(lambda: env, 1), None


def _must_match(path: Path, old: tuple[str, Config], new: tuple[str, Config]) -> None:
    differences = [f"env {old[0]}, not {new[0]}"] if old[0] != new[0] else []
    for section in fields(Config):
        before, after = getattr(old[1], section.name), getattr(new[1], section.name)
        for field in fields(before):
            a, b = getattr(before, field.name), getattr(after, field.name)
            if a != b and (section.name, field.name) not in FREE:
                differences.append(f"{section.name}.{field.name} {a}, not {b}")
    if differences:
        raise UserError(f"{path} was made with other settings: {'; '.join(differences)}; use `mappo resume {path}`")
