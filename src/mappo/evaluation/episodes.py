"""Whole episodes of a policy from given reset seeds, for scores, evaluations and replays."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mappo.core.protocols import Environment, Renderable, TeamPolicy
from mappo.errors import UserError

# Limits in steps of an episode: of an evaluation, of a replay.
MAX_STEPS = 100_000
MAX_FRAMES = 1_000
# Attempts at a batch of episodes, if worker processes are lost.
MAX_ATTEMPTS = 3
StopCallback = Callable[[], None]


@dataclass(frozen=True)
class Episodes:
    """Undiscounted raw returns of each agent `(N, A)` and of the team `(N,)`, and lengths `(N,)`, of N episodes."""

    returns: np.ndarray
    team_returns: np.ndarray
    lengths: np.ndarray


class CutOffError(UserError):
    """Raised if lost worker processes cut off the same episodes again and again; later episodes may succeed."""


def play_episodes(
    env: Environment, policy: TeamPolicy, seeds: Sequence[int], stop: StopCallback | None = None
) -> Episodes:
    """Run an episode from each reset seed, as many at a time as there are environments.

    Every environment runs only the first episode of its seed. Otherwise short episodes would count more often than
    long episodes.

    Args:
        env: environment to step.
        policy: acts for all agents.
        seeds: reset seeds of the N episodes.
        stop: called before each step; an exception ends the episodes.

    Raises:
        UserError: an episode does not end within 100,000 steps.
        CutOffError: workers were lost and replaced in three attempts.
    """
    starts = range(0, len(seeds), env.num_envs)
    batches = [_play_batch_again(env, policy, seeds[start : start + env.num_envs], stop) for start in starts]
    return Episodes(
        np.concatenate([batch.returns for batch in batches]),
        np.concatenate([batch.team_returns for batch in batches]),
        np.concatenate([batch.lengths for batch in batches]),
    )


def _play_batch_again(
    env: Environment, policy: TeamPolicy, seeds: Sequence[int], stop: StopCallback | None
) -> Episodes:
    """Repeat a batch until no worker is lost: a replaced worker has cut off its episodes."""
    for _ in range(MAX_ATTEMPTS):
        restarts: int = getattr(env, "restarts", 0)
        batch = _play_batch(env, policy, seeds, stop)
        if getattr(env, "restarts", 0) == restarts:
            return batch
    raise CutOffError(f"lost workers cut off the episodes of seeds {seeds[0]} to {seeds[-1]} three times")


def _play_batch(env: Environment, policy: TeamPolicy, seeds: Sequence[int], stop: StopCallback | None) -> Episodes:
    """Run an episode from each of at most `num_envs` seeds."""
    # The environment needs a seed for each of its E copies; results of the surplus copies are dropped.
    step = env.reset([*seeds, *[seeds[-1]] * (env.num_envs - len(seeds))])
    memory = None
    returns = torch.zeros(step.reward.shape, dtype=torch.float64, device=env.device)  # (E, A)
    lengths = torch.zeros(env.num_envs, dtype=torch.long, device=env.device)
    is_running = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    for _ in range(MAX_STEPS):
        if stop is not None:
            stop()
        action, memory = policy(step.obs, memory, mask=step.mask, is_first=step.is_first, active=step.active)
        step = env.step(action)
        returns += torch.where(is_running.unsqueeze(-1), step.reward, 0.0)
        lengths += is_running
        is_running = is_running & ~step.ended
        if not is_running.any():
            break
    else:
        raise UserError(f"an episode did not end within {MAX_STEPS} steps: the environment needs a time limit")
    results = (returns, env.spec.team_reward(returns), lengths)
    return Episodes(*(x[: len(seeds)].cpu().numpy() for x in results))


def replay(env: Any, policy: TeamPolicy, seeds: Sequence[int]) -> list[np.ndarray]:
    """Return pictures of the first environment in an episode from each seed; the last picture of each stays longer.

    Raises:
        UserError: the environment cannot render.
    """
    if not isinstance(env, Renderable):
        raise UserError("this environment cannot draw a replay: it has no render(index)")
    frames: list[np.ndarray] = []
    for seed in seeds:
        step = env.reset([seed] * env.num_envs)
        memory = None
        for _ in range(MAX_FRAMES):
            frames.append(env.render(0))
            action, memory = policy(step.obs, memory, mask=step.mask, is_first=step.is_first, active=step.active)
            step = env.step(action)
            if step.ended[0]:
                break
        else:
            warnings.warn(f"the episode of seed {seed} is shown up to step {MAX_FRAMES:,}: it went on", stacklevel=3)
        frames.extend(frames[-1:] * 4)
    return frames
