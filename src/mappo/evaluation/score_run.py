"""Scores and replays of a saved run; `mappo evaluate`, `mappo play` and `Run.evaluate` call these functions."""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mappo import envs
from mappo.backend.process_settings import EnvSettings
from mappo.backend.ranks import ALONE, Ranks
from mappo.config.settings import EnvOptions
from mappo.core.protocols import Environment
from mappo.core.spec import Spec
from mappo.core.user_code import check_code
from mappo.deploy.load import read_actor
from mappo.errors import UserError
from mappo.evaluation.dealt import Deal, together
from mappo.evaluation.episodes import NO_BUDGET, Budget, StepCallback
from mappo.evaluation.options import EvaluateOptions, ReplayOptions
from mappo.evaluation.replay import episode_seconds, frames_per_second, replay
from mappo.evaluation.replay_file import write_replay
from mappo.evaluation.score import score
from mappo.policies.actor import Actor
from mappo.runs.checkpoint import Checkpoint
from mappo.runs.directory import read_run, seed_paths
from mappo.runs.scores import Score, save_score
from mappo.system.shutdown import CloseLimit, closing


def evaluate_run(
    path: Path,
    options: EvaluateOptions,
    *,
    env: Any = None,
    close_limit: CloseLimit = nullcontext,
    on_step: StepCallback | None = None,
    budget: Budget = NO_BUDGET,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Score the policies of a run (of each seed) and the environment's baselines on the same reset seeds.

    The returns of the last checkpoint are kept in the `score.json` of each seed, see `save_score`.

    Args:
        path: run directory.
        options: see `EvaluateOptions`.
        env: environment to play in, as for `train`; needed only if the run's environment has no name.
        close_limit, on_step, budget: see `closing` and `play_episodes`.
        ranks: processes among which the episodes are dealt out, see `shared_run`; the environment must have a name.

    Returns:
        `env`, `package_version`, `policy`, `checkpoint`, `step`, and the result of `score.score`.

    Raises:
        UserError: the run, the checkpoint or the package is missing or damaged.
    """
    name, config, spec = read_run(path)
    check_options(name, env, options)
    # Absolute, because the environment may change the current folder.
    folders = [folder.absolute() for folder in seed_paths(path, config)]
    actors = [read_actor(folder, options.checkpoint, allow_code=options.allow_code) for folder in folders]
    env_options = spec.fit_options(config.env.env_options)
    # A score in another environment, which the caller gives for a run in a named environment, is not the run's.
    is_kept = options.checkpoint == "last" and (env is None or name.startswith(envs.CUSTOM))
    open_own = partial(open_env, name, env, env_options, options, close_limit, processes=ranks.size)
    with ExitStack() as stack:
        name, env = together(ranks, lambda: stack.enter_context(open_own()))
        deal = Deal(ranks, envs.num_envs_for(name, options.episodes)) if ranks.size > 1 else None
        check_same_spec(path, spec, env)
        names = ("sampled", "greedy") if options.sampled else ("greedy", "sampled")
        teams = {team: _make_team(actors, team == "sampled") for team in names}
        result: dict[str, Any] = {
            "env": name,
            "package_version": envs.package_version(name),
            "policy": names[0],
            "checkpoint": options.checkpoint,
            "step": min(checkpoint.state["step"] for _, checkpoint in actors),
            **score(env, name, teams, options.episodes, on_step=on_step, budget=budget, deal=deal),
        }
    if is_kept and not ranks.rank:  # the other processes read copies
        _save_scores(folders, [checkpoint.state["step"] for _, checkpoint in actors], result)
    return result


def _save_scores(folders: Sequence[Path], steps: Sequence[int], result: Mapping[str, Any]) -> None:
    """Keep a result as the score of each seed, in its folder; `steps` are those of the checkpoints."""
    baselines = {name: baseline["returns"] for name, baseline in result["baselines"].items()}
    for index, (folder, step) in enumerate(zip(folders, steps, strict=True)):
        # A single seed has a list of returns, several seeds have a list each.
        returns = {team: np.atleast_2d(score["returns"])[index].tolist() for team, score in result["scores"].items()}
        save_score(folder, Score(result["env"], result["package_version"], step, result["seed"], returns, baselines))


def check_options(name: str, env: Any, options: EvaluateOptions, method: str = "evaluate") -> None:
    """Raise `UserError` unless the episodes are a number, and the environment is known.

    Args:
        name: name of the run's environment.
        env: environment given in its place, or None.
        options: see `EvaluateOptions`.
        method: method of `Run` that takes an environment, for the message.
    """
    if options.episodes < 1:
        raise UserError(f"episodes must be at least 1, got {options.episodes}")
    if env is None and name.startswith(envs.CUSTOM):
        raise UserError(f"{name} has no name in mappo: give the environment, run.{method}(env=make_env)")
    if env is not None and options.on is not None:
        raise UserError("give env, or on, but not both")


def check_same_spec(path: Path, spec: Spec, env: Environment) -> None:
    """Raise `UserError` unless an environment has the agents and spaces of a run."""
    if difference := spec.mismatch(env.spec):
        raise UserError(f"{path} was trained in another environment: {difference}")


def _make_team(actors: Sequence[tuple[Actor, Checkpoint]], is_sampled: bool) -> list[Actor]:
    """Return an actor of each seed. Each samples by random numbers of its own: common ones would make seeds alike."""
    return [Actor(x.policy, is_sampled, torch.Generator().manual_seed(k)) for k, (x, _) in enumerate(actors)]


@contextmanager
def open_env(
    name: str,
    env: Any,
    env_options: EnvOptions,
    options: EvaluateOptions,
    close_limit: CloseLimit,
    *,
    processes: int = 1,
    render: bool = False,
) -> Generator[tuple[str, Environment]]:
    """Give the name of the environment to play in and the batched environment; close an environment made here.

    Args:
        name, env: name of the run's environment, and the environment in its place, or None.
        env_options, options, close_limit: see `EnvOptions`, `EvaluateOptions` and `closing`.
        processes: of several processes each gets an equal share of the environments.
        render: whether the environment must render.

    Raises:
        UserError: the run's environment is code that may not be imported.
    """
    if env is None:
        check_code([name], options.allow_code)
        env = name
    if envs.is_batched(env):
        yield name, env
        return
    if options.workers is not None:
        env_options = replace(env_options, workers=options.workers)
    is_ours = isinstance(env, str) or callable(env)  # an environment object belongs to the caller, and is not closed
    if isinstance(env, str):
        name, env_options = _original_env(env, env_options, options)
    with EnvSettings():
        if isinstance(env, str):
            num_envs = -(-envs.num_envs_for(name, options.episodes) // processes)
            batched = envs.make_envs(name, num_envs, env_options, render=render)
        else:
            batched = envs.from_python(env, options.episodes, env_options)
    with closing(batched, close_limit) if is_ours else nullcontext():
        yield name, batched


def _original_env(name: str, env_options: EnvOptions, options: EvaluateOptions) -> tuple[str, EnvOptions]:
    """Return name and options of an environment in the package `options.on`; unchanged without a package."""
    if options.on is None:
        return name, env_options
    translated = replace(env_options, options=envs.translate_options(name, env_options.options))
    return envs.original_name(name, options.on), translated


def draw_replay(
    path: Path,
    options: ReplayOptions,
    *,
    close_limit: CloseLimit = nullcontext,
    on_step: StepCallback | None = None,
    budget_s: float = math.inf,
) -> Path:
    """Write a replay: episodes of the run's first seed, by `run.eval_policy`. Return the file.

    Args:
        path: run directory.
        options: see `ReplayOptions`.
        close_limit: context for closing the environment.
        on_step: see `StepCallback`.
        budget_s: seconds; after them no further episode begins.

    Raises:
        UserError: there is no such run, or its environment cannot render.
    """
    path = path.absolute()  # the environment may change the current folder
    name, config, spec = read_run(path)
    if not 1 <= options.episodes <= 100:
        raise UserError(f"a replay shows 1 to 100 episodes, got {options.episodes}")
    if name.startswith(envs.CUSTOM):
        raise UserError(f"{name} has no name in mappo: its episodes cannot be drawn from here")
    is_sampled = config.run.eval_policy == "sampled"
    first = seed_paths(path, config)[0]
    actor, _ = read_actor(first, options.checkpoint, is_sampled, allow_code=options.allow_code)
    env_options = spec.fit_options(config.env.env_options)
    single = EvaluateOptions(episodes=1, allow_code=options.allow_code)
    with open_env(name, None, env_options, single, close_limit, render=True) as (_, env):
        # mappo's own environments write captions themselves.
        title = None if envs.is_native(name) else name
        seeds = range(options.seed, options.seed + options.episodes)
        pictures = replay(env, actor, seeds, on_step, budget_s, title)
        seconds = episode_seconds(options.episodes)
        return write_replay(pictures, options.out or path / "replay.gif", name, frames_per_second(env), seconds)
