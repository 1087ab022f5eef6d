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
from mappo.config import Config
from mappo.config.settings import EnvOptions
from mappo.core.protocols import Environment
from mappo.core.spec import Spec
from mappo.core.user_code import check_code
from mappo.deploy.load import read_actor
from mappo.errors import UserError
from mappo.evaluation.dealt import Deal, together
from mappo.evaluation.episodes import NO_BUDGET, Budget, StepCallback
from mappo.evaluation.options import REPLAY_EPISODES, SCORE_SEED, EvaluateOptions
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
    check_options(name, config, env, options)
    # Absolute, because the environment may change the current folder.
    folders = [folder.absolute() for folder in seed_paths(path, config)]
    actors = [read_actor(folder, options.checkpoint, allow_code=True) for folder in folders]
    env_options = spec.fit_options(config.env.env_options)
    # A score in another environment, which the caller gives for a run in a named environment, is not the run's.
    is_own_env = env is None or name.startswith(envs.CUSTOM)
    open_own = partial(open_env, name if env is None else env, name, env_options, options, close_limit, ranks.size)
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
    if options.checkpoint == "last" and is_own_env:
        for index, (folder, (_, checkpoint)) in enumerate(zip(folders, actors, strict=True)):
            save_score(folder, _seed_score(result, index, checkpoint.state["step"]))
    return result


def _seed_score(result: Mapping[str, Any], index: int, step: int) -> Score:
    """Return the score of the seed at a position in a result; `step` is the seed's."""
    # A single seed has a list of returns, several seeds have a list each.
    returns = {team: np.atleast_2d(score["returns"])[index].tolist() for team, score in result["scores"].items()}
    baselines = {name: baseline["returns"] for name, baseline in result["baselines"].items()}
    return Score(result["env"], result["package_version"], step, result["seed"], returns, baselines)


def check_options(name: str, config: Config, env: Any, options: EvaluateOptions, method: str = "evaluate") -> None:
    """Raise `UserError` unless the episodes are a number, the environment is known, and named code may be imported.

    Args:
        name: name of the run's environment.
        config: settings of the run.
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
    check_code([name if env is None else "", config.network.encoder], options.allow_code)


def check_same_spec(path: Path, spec: Spec, env: Environment) -> None:
    """Raise `UserError` unless an environment has the agents and spaces of a run."""
    if difference := spec.mismatch(env.spec):
        raise UserError(f"{path} was trained in another environment: {difference}")


def _make_team(actors: Sequence[tuple[Actor, Checkpoint]], is_sampled: bool) -> list[Actor]:
    """Return an actor of each seed. Each samples by random numbers of its own: common ones would make seeds alike."""
    return [Actor(x.policy, is_sampled, torch.Generator().manual_seed(k)) for k, (x, _) in enumerate(actors)]


@contextmanager
def open_env(
    env: Any, name: str, env_options: EnvOptions, options: EvaluateOptions, close_limit: CloseLimit, processes: int = 1
) -> Generator[tuple[str, Environment]]:
    """Give the name of the environment to play in and the batched environment; close an environment made here.

    Of several processes each gets an equal share of the environments.
    """
    if envs.is_batched(env):
        yield name, env
        return
    if options.workers is not None:
        env_options = replace(env_options, workers=options.workers)
    with EnvSettings():
        if not isinstance(env, str):
            batched = envs.from_python(env, options.episodes, env_options)
        else:
            if options.on is not None:
                env_options = replace(env_options, options=envs.translate_options(env, env_options.options))
                env = envs.original_name(env, options.on)
            name = env
            batched = envs.make_envs(env, -(-envs.num_envs_for(env, options.episodes) // processes), env_options)
    # An environment object belongs to the caller, and is not closed here.
    is_ours = isinstance(env, str) or callable(env)
    with closing(batched, close_limit) if is_ours else nullcontext():
        yield name, batched


def draw_replay(
    path: Path,
    episodes: int = REPLAY_EPISODES,
    seed: int = SCORE_SEED,
    checkpoint: str = "last",
    allow_code: bool = False,
    close_limit: CloseLimit = nullcontext,
    on_step: StepCallback | None = None,
    budget_s: float = math.inf,
    out: Path | None = None,
) -> Path:
    """Write a replay: episodes of the run's first seed, by `run.eval_policy`.

    Args:
        path: run directory.
        episodes: number of episodes, 1 to 100.
        seed: reset seed of the first episode; further episodes count up.
        checkpoint: `last`, `best` or a step.
        allow_code: import the code named in the run's `config.json`, as environment or encoder.
        close_limit: context for closing the environment.
        on_step: see `StepCallback`.
        budget_s: seconds; after them no further episode begins.
        out: file to write, GIF or MP4; by default `replay.gif` in the run directory.

    Returns:
        The file.

    Raises:
        UserError: there is no such run, or its environment cannot render.
    """
    path = path.absolute()  # the environment may change the current folder
    name, config, spec = read_run(path)
    if not 1 <= episodes <= 100:
        raise UserError(f"a replay shows 1 to 100 episodes, got {episodes}")
    if name.startswith(envs.CUSTOM):
        raise UserError(f"{name} has no name in mappo: its episodes cannot be drawn from here")
    check_code([name, config.network.encoder], allow_code)
    is_sampled = config.run.eval_policy == "sampled"
    actor, _ = read_actor(seed_paths(path, config)[0], checkpoint, is_sampled, allow_code=True)
    with EnvSettings():
        env = envs.make_envs(name, 1, spec.fit_options(config.env.env_options), render=True)
    with closing(env, close_limit):
        # mappo's own environments write captions themselves.
        title = None if envs.is_native(name) else name
        pictures = replay(env, actor, range(seed, seed + episodes), on_step, budget_s, title)
        fps = frames_per_second(env)
        return write_replay(pictures, out or path / "replay.gif", name, fps, episode_seconds(episodes))
