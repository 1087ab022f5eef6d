"""Whole episodes of a policy from given reset seeds, for scores and evaluations."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from mappo.backend.process_settings import EnvSettings
from mappo.core.protocols import Environment, TeamPolicy
from mappo.evaluation.dealt import CutOffError as CutOffError, Deal, Episodes as Episodes

# Limits in steps of an episode. A budget allows a long episode and no more; elsewhere a longer episode is warned of.
MAX_STEPS = 100_000
LONG_EPISODE = 10_000
# Attempts at a batch of episodes, if worker processes are lost.
MAX_ATTEMPTS = 3
# Called before each step with the fraction of the episodes already played; an exception ends the episodes.
StepCallback = Callable[[float], None]


@dataclass(frozen=True)
class Budget:
    """Limits on the episodes of a policy. No further batch of episodes begins once a limit is reached.

    Every episode that begins is played to its end: cut off, long episodes would count less often than short episodes.

    Args:
        steps: environment steps, summed over episodes.
        seconds: wall-clock time; infinite where results must not depend on a clock.
        max_length: steps of an episode before the episode counts as endless.
    """

    steps: float = math.inf
    seconds: float = math.inf
    max_length: int = MAX_STEPS


NO_BUDGET = Budget()
# An evaluation during training: 256 episodes of 100 steps.
EVALUATION_BUDGET = Budget(steps=25_600, max_length=LONG_EPISODE)
# The score of a policy at the end of a run.
SCORE_BUDGET = Budget(steps=25_600, seconds=60.0, max_length=LONG_EPISODE)


def part_of(on_step: StepCallback | None, index: int, count: int) -> StepCallback:
    """Return the callback of part `index` of `count` equal parts; the whole reports to `on_step`."""
    return lambda fraction: None if on_step is None else on_step((index + fraction) / count)


def play_episodes(
    env: Environment,
    policy: TeamPolicy,
    seeds: Sequence[int],
    on_step: StepCallback | None = None,
    budget: Budget = NO_BUDGET,
    deal: Deal | None = None,
) -> Episodes:
    """Run an episode from each reset seed, as many at a time as there are environments.

    Every environment runs only the first episode of its seed. Otherwise short episodes would count more often than
    long episodes.

    Args:
        env: environment to step.
        policy: acts for all agents.
        seeds: reset seeds of the N episodes.
        on_step: see `StepCallback`.
        budget: a limit may end the episodes early, after the first of the seeds.
        deal: the processes which play the episodes together; by default this process plays all.

    Raises:
        CutOffError: an episode does not end, or workers were lost and replaced in three attempts.
    """
    deal = deal or Deal()
    num_envs = deal.num_envs or env.num_envs
    batches: list[Episodes] = []
    steps = 0
    began = time.monotonic()

    def report(done: int, steps: int, batch_step: int) -> None:
        if on_step is not None:
            steps += batch_step * num_envs
            on_step(min(1.0, max(done / len(seeds), steps / budget.steps)))

    for start in range(0, len(seeds), num_envs):
        play = partial(_play_batch_again, env, partial(report, start, steps), budget.max_length)
        batches.append(deal.play(play, policy, env.spec, seeds[start : start + num_envs]))
        steps += int(batches[-1].lengths.sum())
        [is_late] = deal.ranks.largest(time.monotonic() - began >= budget.seconds)
        if steps >= budget.steps or is_late:
            break
    parts = zip(*((batch.returns, batch.team_returns, batch.lengths) for batch in batches), strict=True)
    return Episodes(*map(np.concatenate, parts))


def _play_batch_again(
    env: Environment, on_step: Callable[[int], None], max_length: int, policy: TeamPolicy, seeds: Sequence[int]
) -> Episodes:
    """Repeat a batch until no worker is lost: a replaced worker has cut off its episodes."""
    for _ in range(MAX_ATTEMPTS):
        restarts: int = getattr(env, "restarts", 0)
        batch = _play_batch(env, policy, seeds, on_step, max_length)
        if getattr(env, "restarts", 0) == restarts:
            return batch
    raise CutOffError(f"lost workers cut off the episodes of seeds {seeds[0]} to {seeds[-1]} three times")


def _play_batch(
    env: Environment, policy: TeamPolicy, seeds: Sequence[int], on_step: Callable[[int], None], max_length: int
) -> Episodes:
    """Run an episode from each of at most `num_envs` seeds."""
    # The environment needs a seed for each of its E copies; results of the surplus copies are dropped.
    settings = EnvSettings()
    with settings:
        step = env.reset([*seeds, *[seeds[-1]] * (env.num_envs - len(seeds))])
    memory = None
    returns = torch.zeros(step.reward.shape, dtype=torch.float64, device=env.device)  # (E, A)
    lengths = torch.zeros(env.num_envs, dtype=torch.long, device=env.device)
    is_running = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    for t in range(max_length):
        on_step(t)
        if t == LONG_EPISODE:
            warnings.warn(f"an episode goes on after {t:,} steps, up to {max_length:,}", stacklevel=4)
        action, memory = policy(step.obs, memory, mask=step.mask, is_first=step.is_first, active=step.active)
        with settings:
            step = env.step(action)
        returns += torch.where(is_running.unsqueeze(-1), step.reward, 0.0)
        lengths += is_running
        is_running = is_running & ~step.ended
        if not is_running.any():
            break
    else:
        longer = f"; --run.eval-episodes and --run.score-episodes allow {MAX_STEPS:,}" if max_length < MAX_STEPS else ""
        raise CutOffError(
            f"an episode did not end within {max_length:,} steps: the environment needs a time limit (for environments "
            f"in Python --env.time-limit){longer}"
        )
    results = (returns, env.spec.team_reward(returns), lengths)
    return Episodes(*(x[: len(seeds)].cpu().numpy() for x in results))
