"""Games of a policy, and what may be said of them: means with intervals, differences to baselines."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from mappo.core.protocols import Environment, Renderable, TeamPolicy
from mappo.errors import UserError

MAX_STEPS, MAX_FRAMES = 100_000, 1_000
StopCallback = Callable[[], None]


@dataclass(frozen=True)
class Episodes:
    """Undiscounted raw returns of each agent `(N, A)` and of the team `(N,)`, and lengths `(N,)`, of N episodes."""

    returns: np.ndarray
    team_returns: np.ndarray
    lengths: np.ndarray


class CutOffError(UserError):
    """Games that could not be played to their end; others may be."""


def play_episodes(
    env: Environment, policy: TeamPolicy, seeds: Sequence[int], stop: StopCallback | None = None
) -> Episodes:
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


def _play_batch(env: Environment, policy: TeamPolicy, seeds: Sequence[int], stop: StopCallback | None) -> Episodes:
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


def replay(env: Any, policy: TeamPolicy, seeds: Sequence[int]) -> list[np.ndarray]:
    """Pictures of the first environment playing one episode from each seed; the last one of each stays longer.

    Raises:
        UserError: the environment cannot draw.
    """
    if not isinstance(env, Renderable):
        raise UserError("this environment cannot draw a replay: it has no render(index)")
    frames: list[np.ndarray] = []
    for seed in seeds:
        step, memory = env.reset([seed] * env.num_envs), None
        for _ in range(MAX_FRAMES):
            frames.append(env.render(0))
            action, memory = policy(step.obs, memory, mask=step.mask, is_first=step.is_first, active=step.active)
            step = env.step(action)
            if step.ended[0]:
                break
        else:
            warnings.warn(f"the game of seed {seed} is shown up to step {MAX_FRAMES:,}: it went on", stacklevel=3)
        frames.extend(frames[-1:] * 4)
    return frames
