"""Episodes of a policy, and what may be said of them: means with intervals, differences to baselines."""

import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mappo import envs, report
from mappo.actor import Player, RandomPolicy
from mappo.checkpoint import load, load_actor
from mappo.config import EnvConfig
from mappo.envs.closing import closed
from mappo.errors import UserError
from mappo.rundir import read_run, seed_paths
from mappo.types import Environment, Renderable

# First reset seeds: final scores and the choice of the best checkpoint see other games (up to a million each).
SCORE_SEED, SELECT_SEED = 1_000_000, 2_000_000
MAX_STEPS, MAX_DRAWN = 100_000, 1_000
Stop = Callable[[], None]


@dataclass(frozen=True)
class Episodes:
    """Undiscounted raw returns of each agent `(N, A)` and of the team `(N,)`, and lengths `(N,)`, of N episodes."""

    returns: np.ndarray
    sums: np.ndarray
    lengths: np.ndarray


class CutOffError(UserError):
    """Games that could not be played to their end; others may be."""


def play(env: Environment, policy: Player, seeds: Sequence[int], stop: Stop | None = None) -> Episodes:
    """One episode from each reset seed, whole batches of environments at a time.

    Every environment plays the first episode of its seed and no other, so that short episodes are not
    counted more often than long ones.

    Args:
        stop: called ahead of each step; what it raises ends the games.

    Raises:
        UserError: an episode does not end within 100,000 steps.
        CutOffError: workers were lost and replaced again and again.
    """
    played: list[Episodes] = []
    for start in range(0, len(seeds), env.num_envs):
        part = seeds[start : start + env.num_envs]
        for _ in range(3):
            restarts: int = getattr(env, "restarts", 0)
            batch = _play_batch(env, policy, part, stop)
            if getattr(env, "restarts", 0) == restarts:  # else a worker was replaced, and its games cut off
                played.append(batch)
                break
        else:
            raise CutOffError(f"the games of seeds {part[0]} to {part[-1]} were cut off three times, by workers lost")
    returns, sums, lengths = ([getattr(p, f.name) for p in played] for f in fields(Episodes))
    return Episodes(np.concatenate(returns), np.concatenate(sums), np.concatenate(lengths))


def _play_batch(env: Environment, policy: Player, seeds: Sequence[int], stop: Stop | None) -> Episodes:
    """At most as many seeds as there are environments."""
    step, memory = env.reset([*seeds, *[seeds[-1]] * (env.num_envs - len(seeds))]), None
    total = torch.zeros(step.reward.shape, dtype=torch.float64, device=env.device)
    length = torch.zeros(env.num_envs, dtype=torch.long, device=env.device)
    going = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    for _ in range(MAX_STEPS):
        if stop is not None:
            stop()
        action, memory = policy(step.obs, memory, mask=step.mask, is_first=step.is_first, active=step.active)
        step = env.step(action)
        total += torch.where(going.unsqueeze(-1), step.reward, 0.0)
        length += going
        going = going & ~step.ended
        if not going.any():
            break
    else:
        raise UserError(f"an episode did not end within {MAX_STEPS} steps: the environment needs a time limit")
    returns, sums = total, env.spec.team_reward(total)
    return Episodes(*(x[: len(seeds)].cpu().numpy() for x in (returns, sums, length)))


def summary(values: np.ndarray) -> dict[str, Any]:
    """Mean, interquartile mean and the 95 % bootstrap interval of the mean, over episodes `(N,)`."""
    rng = np.random.default_rng(0)
    means = np.array([rng.choice(values, len(values)).mean() for _ in range(2000)])
    low, high = np.quantile(means, [0.025, 0.975])
    quarter = len(values) // 4
    middle = np.sort(values)[quarter : len(values) - quarter]
    return {"mean": float(values.mean()), "iqm": float(middle.mean()), "ci95": [float(low), float(high)]}


def play_baselines(
    env: Environment, name: str, seeds: Sequence[int], stop: Stop | None = None
) -> dict[str, np.ndarray]:
    """Team returns `(N,)` of the random policy and of the scripted ones that the environment is measured by."""
    rivals: dict[str, Player] = {
        "random": RandomPolicy(env.spec, seeds[0], env.device),
        **envs.baselines(name, env.spec.num_agents),
    }
    return {rival: play(env, policy, seeds, stop).sums for rival, policy in rivals.items()}


def score(
    env: Environment, name: str, policy: Player | Sequence[Player], episodes: int, seed: int = SCORE_SEED
) -> dict[str, Any]:
    """A policy, or those of several seeds, and the baselines of its environment, on the same reset seeds.

    Returns:
        `episodes`, `seed`, `return_sum` (see `summary`), `return_per_agent` (means), `episode_length` (mean) and
        `baselines`: for each a `summary`, and `difference`, that of policy less baseline, game by game. Of several
        policies each counts as one, by its mean over the games, and intervals are over them: `by_policy` has the means.
    """
    seeds, policies = range(seed, seed + episodes), policy if isinstance(policy, Sequence) else [policy]
    played = [play(env, one, seeds) for one in policies]
    sums = np.stack([p.sums for p in played])  # (policies, games)

    def told(x: np.ndarray) -> dict[str, Any]:
        return summary(x[0] if len(x) == 1 else x.mean(1))

    baselines: dict[str, Any] = {}
    for rival, theirs in play_baselines(env, name, seeds).items():
        difference = told(sums - theirs)
        baselines[rival] = {
            **summary(theirs),
            "difference": {"mean": difference["mean"], "ci95": difference["ci95"]},
        }
    return {
        "episodes": episodes,
        "seed": seed,
        "return_sum": told(sums),
        "return_per_agent": [float(x) for x in np.mean([p.returns.mean(0) for p in played], 0)],
        "episode_length": float(np.mean([p.lengths.mean() for p in played])),
        "baselines": baselines,
    } | ({"by_policy": [float(x) for x in sums.mean(1)]} if len(policies) > 1 else {})


def replay(env: Any, policy: Player, seeds: Sequence[int]) -> list[np.ndarray]:
    """Pictures of the first environment playing one episode from each seed; the last one of each stays longer.

    Raises:
        UserError: the environment cannot draw.
    """
    if not isinstance(env, Renderable):
        raise UserError("this environment cannot draw a replay: it has no render(index)")
    frames: list[np.ndarray] = []
    for seed in seeds:
        step, memory = env.reset([seed] * env.num_envs), None
        for _ in range(MAX_DRAWN):
            frames.append(env.render(0))
            action, memory = policy(step.obs, memory, mask=step.mask, is_first=step.is_first, active=step.active)
            step = env.step(action)
            if step.ended[0]:
                break
        else:
            warnings.warn(f"the game of seed {seed} is shown up to step {MAX_DRAWN:,}: it went on", stacklevel=3)
        frames.extend(frames[-1:] * 4)
    return frames


def evaluate_run(
    path: Path | str,
    episodes: int = 320,
    *,
    on: str | None = None,
    checkpoint: str = "last",
    sampled: bool = False,
    env: Any = None,
    seed: int = SCORE_SEED,
    workers: int | None = None,
    allow_code: bool = False,
) -> dict[str, Any]:
    """Plays a run's policy, or those of its seeds, and the baselines of its environment, on the same reset seeds.

    Args:
        path: the run directory. episodes: how many games.
        on: a package that holds the original environment, such as `mpe2`, to score on that.
        checkpoint: `last` or `best`. sampled: draw actions, in place of the likeliest.
        env: what to play in, as for `train`; needed only where the run's environment has no name.
        workers: as `env.workers`, of environments in Python; None: as in training.
        allow_code: import the function that the run's `config.json` names as its environment (`module:function`).

    Returns:
        `env`, `package_version`, `policy`, `checkpoint`, and what `evaluate.score` gives.

    Raises:
        UserError: the run, the checkpoint or the package is missing or damaged.
    """
    if episodes < 1:
        raise UserError(f"episodes must be at least 1, got {episodes}")
    name, config, spec = read_run(Path(path))
    paths = seed_paths(Path(path), config)
    actors = [load_actor(own, checkpoint=checkpoint, sampled=sampled) for own in paths]
    if env is None and name.startswith("custom/"):
        raise UserError(f"{name} has no name that mappo knows: give the environment, run.evaluate(env=make_env)")
    if env is not None and on is not None:
        raise UserError("give env, or on, but not both")
    if env is None:
        check_code(name, allow_code)
    where = config.env if workers is None else replace(config.env, workers=workers)
    with _games(name if env is None else env, name, where, episodes, on) as (name, env):
        if difference := spec.differs_from(env.spec):
            raise UserError(f"{path} was trained in another environment: {difference}")
        about = {
            "env": name,
            "package_version": envs.package_version(name),
            "policy": "sampled" if sampled else "greedy",
            "checkpoint": checkpoint,
            "step": min(load(own, checkpoint).state["step"] for own in paths),
        }
        return about | score(env, name, actors, episodes, seed)


@contextmanager
def _games(env: Any, name: str, config: EnvConfig, episodes: int, on: str | None) -> Generator[tuple[str, Environment]]:
    """The name of the environment to play in, and some of it side by side; what was made here is closed behind."""
    if envs.is_batched(env):
        yield name, env
        return
    chosen: dict[str, Any] = envs.settings(config)
    if not isinstance(env, str):
        made = envs.of_python(env, episodes, chosen)
    else:
        if on is not None:
            chosen["options"] = envs.carried(env, config.own_options)
            env = envs.original(env, on)
        name, made = env, envs.make(env, envs.games_at_once(env, episodes), **chosen)
    with closed(made) if isinstance(env, str) or callable(env) else nullcontext():  # what was given is not closed
        yield name, made


def check_code(name: str, allowed: bool) -> None:
    """Raises UserError where a file names a function to import, and that is not `allowed`."""
    if envs.is_code(name) and not allowed:
        raise UserError(
            f"config.json names code to import, {name}: look at it, and if you trust it, add --allow-code "
            f"(from Python, allow_code=True)"
        )


def draw_replay(
    path: Path, episodes: int = 4, seed: int = SCORE_SEED, checkpoint: str = "last", allow_code: bool = False
) -> Path:
    """Writes `replay.gif` into the run directory: greedy games (of its first seed) from the seeds of scores.

    Raises:
        UserError: there is no such run, or its environment cannot draw.
    """
    name, config, _ = read_run(path)
    if not 1 <= episodes <= 100:
        raise UserError(f"a replay shows 1 to 100 games, got {episodes}")
    if name.startswith("custom/"):
        raise UserError(f"{name} has no name that mappo knows: its games cannot be drawn from here")
    check_code(name, allow_code)
    actor = load_actor(seed_paths(path, config)[0], checkpoint=checkpoint)
    out = path / "replay.gif"
    with closed(envs.make(name, 1, render=True, **envs.settings(replace(config.env, workers=0)))) as env:
        frames = replay(env, actor, range(seed, seed + episodes))
    try:
        report.write_gif(frames, out)
    except ValueError as error:
        raise UserError(f"the pictures of {name} make no replay: {error}") from None
    return out
