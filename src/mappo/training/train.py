"""`train(env, config)`: from an environment and settings to a run directory."""

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch

from mappo import envs
from mappo.algorithms.critic_input import CriticInputFunction
from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.multi_seed import MultiSeed
from mappo.config import Config
from mappo.config.presets import preset
from mappo.core.seeding import derive_seed
from mappo.errors import StopTraining, UserError
from mappo.evaluation.episodes import StopCallback
from mappo.runs.directory import open_run, seed_paths
from mappo.runs.lock import lock_directory
from mappo.system import shutdown
from mappo.system.shutdown import close_all
from mappo.training.run import Run
from mappo.training.seed_run import SeedRun
from mappo.training.session import Callback, Session


def train(
    env: str | Callable[[], Any] | Any,
    config: Config | None = None,
    *,
    callback: Callback | None = None,
    stop: StopCallback | None = None,
    resume: bool = False,
    critic_input: CriticInputFunction | None = None,
) -> Run:
    """Trains a team, and keeps everything in a run directory.

    Args:
        env: a name, such as `spread`, `lbf/Foraging-8x8-2p-2f-coop-v3` or `module:function`; a callable that makes one
            environment, called once for each (in worker processes: see `env.workers`), or that takes `num_envs` and
            makes a batched `Environment`; or such a one. A single environment trains too, alone, with a warning.
        config: by default the environment's preset (`mappo.preset`).
        callback: called after each update; may raise `StopTraining`, upon which the run is saved and returned. Of
            several seeds (`run.seeds`) it is given the mean.
        stop: called after each update, and at each step of an evaluation, which may be long; may raise `StopTraining`
            too.
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
    stop = _stop_after(config.run.time_limit, stop)
    device = choose_device(config.run.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.run.threads)
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        if device.type == "cuda":
            stack.enter_context(_tf32_allowed(config.network.precision == "tf32"))
        with shutdown.waiting():
            training, testing = envs.for_training(env, config, device)
        for made in (training, testing):
            if made is not None and (isinstance(env, str) or callable(env)):  # what was given is not closed
                stack.callback(close_all, made)
        if config.run.device == "cuda" and training.device.type == "cpu":
            raise UserError(f"run.device cuda: {name} is stepped on the CPU, and trains there: use cpu or auto")
        seeds = config.run.all_seeds
        if training.num_envs != config.env.num_envs * len(seeds):
            config = replace(config, env=replace(config.env, num_envs=training.num_envs // len(seeds)))
        agents = [MAPPO(training.spec, config, training.device, derive_seed(s, 0), critic_input) for s in seeds]
        if len(agents) > 1:
            MultiSeed(agents).check_encoder()
        path = open_run(name, config, training.spec, resume)
        paths = seed_paths(path, config)
        for place in sorted({path, *paths}):
            stack.enter_context(lock_directory(place))
        tracks = [SeedRun(*of, config.run.keep_every) for of in zip(paths, seeds, agents, strict=True)]
        session = Session(path, name, config, tracks, training, testing, stop)
        stack.callback(session.close)  # whatever happens
        done = session.resume() if resume else session.start()
        try:
            session.loop(done, callback)
        except StopTraining:
            session.save()
        session.finish()
        return Run(path, name, config, session.step)


@contextmanager
def _tf32_allowed(allowed: bool) -> Generator[None]:
    """Whether CUDA may round what it multiplies to TF32; left to itself torch does so in convolutions."""
    places: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.cudnn, "conv", torch.backends.cudnn)]
    # Since torch 2.9 by another name; to ask by the old one fails where anybody has used the new one.
    new = hasattr(torch.backends.cudnn, "conv")
    name, value = ("fp32_precision", "tf32" if allowed else "ieee") if new else ("allow_tf32", allowed)
    before = [getattr(place, name) for place in places]
    for place in places:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, kept in zip(places, before, strict=True):
            setattr(place, name, kept)


def _stop_after(minutes: float | None, stop: StopCallback | None) -> StopCallback | None:
    """`stop`, that raises `StopTraining` too once so many minutes are over."""
    if minutes is None:
        return stop
    end = time.monotonic() + 60 * minutes

    def late() -> None:
        if stop is not None:
            stop()
        if time.monotonic() >= end:
            raise StopTraining

    return late


def choose_device(name: str, option: str = "run.device") -> torch.device:
    """`auto` is cuda where there is one, never MPS."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{option} cuda: torch finds no CUDA device here; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
