"""Episodes of a policy, and what may be said of them: means with intervals, differences to baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mappo import envs
from mappo.actor import Policy, RandomPolicy
from mappo.errors import UserError
from mappo.networks import heads_of
from mappo.types import Environment

# Reset seeds: final scores and the choice of the best checkpoint never see the same games, nor training's.
SCORE_SEED, SELECT_SEED = 1_000_000, 2_000_000
MAX_STEPS = 100_000


@dataclass(frozen=True)
class Episodes:
    """Undiscounted raw returns `(N, A)` and lengths `(N,)` of N episodes."""

    returns: np.ndarray
    lengths: np.ndarray

    @property
    def sums(self) -> np.ndarray:
        """Returns summed over agents, `(N,)`."""
        return self.returns.sum(-1)


def play(env: Environment, policy: Policy, seeds: Sequence[int]) -> Episodes:
    """One episode from each reset seed, whole batches of environments at a time.

    Every environment plays the first episode of its seed and no other, so that short episodes are not
    counted more often than long ones.

    Raises:
        UserError: an episode does not end within 100,000 steps.
    """
    returns: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    for start in range(0, len(seeds), env.num_envs):
        part = list(seeds[start : start + env.num_envs])
        step, memory = env.reset([*part, *part[-1:] * (env.num_envs - len(part))]), None
        total = torch.zeros(step.reward.shape, dtype=torch.float64, device=env.device)
        length = torch.zeros(env.num_envs, dtype=torch.long, device=env.device)
        going = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
        for _ in range(MAX_STEPS):
            action, memory = policy(step.obs, memory, mask=step.mask, is_first=step.is_first)
            step = env.step(action)
            total += torch.where(going.unsqueeze(-1), step.reward, 0.0)
            length += going
            going = going & ~step.ended
            if not going.any():
                break
        else:
            raise UserError(f"an episode did not end within {MAX_STEPS} steps: the environment needs a time limit")
        returns.append(total[: len(part)].cpu().numpy())
        lengths.append(length[: len(part)].cpu().numpy())
    return Episodes(np.concatenate(returns), np.concatenate(lengths))


def summary(values: np.ndarray) -> dict[str, Any]:
    """Mean, interquartile mean and the 95 % bootstrap interval of the mean, over episodes `(N,)`."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(-1)
    low, high = np.quantile(means, [0.025, 0.975])
    quarter = len(values) // 4
    middle = np.sort(values)[quarter : len(values) - quarter]
    return {"mean": float(values.mean()), "iqm": float(middle.mean()), "ci95": [float(low), float(high)]}


def score(env: Environment, name: str, policy: Policy, episodes: int, seed: int = SCORE_SEED) -> dict[str, Any]:
    """A policy and the baselines of its environment, on the same reset seeds.

    Returns:
        `episodes`, `seed`, `return_sum` (see `summary`), `return_per_agent` (means), `episode_length` (mean) and
        `baselines`: for each a `summary`, and `difference`, that of policy less baseline, game by game.
    """
    seeds = range(seed, seed + episodes)
    played = play(env, policy, seeds)
    rivals: Mapping[str, Policy] = {
        "random": RandomPolicy(heads_of(env.spec), seed, env.device),
        **envs.baselines(name, env.spec.num_agents),
    }
    baselines: dict[str, Any] = {}
    for rival, rival_policy in rivals.items():
        sums = play(env, rival_policy, seeds).sums
        difference = summary(played.sums - sums)
        baselines[rival] = {
            **summary(sums),
            "difference": {"mean": difference["mean"], "ci95": difference["ci95"]},
        }
    return {
        "episodes": episodes,
        "seed": seed,
        "return_sum": summary(played.sums),
        "return_per_agent": [float(x) for x in played.returns.mean(0)],
        "episode_length": float(played.lengths.mean()),
        "baselines": baselines,
    }


def replay(env: Any, policy: Policy, seeds: Sequence[int]) -> list[np.ndarray]:
    """Pictures of the first environment playing one episode from each seed; the last one of each stays longer.

    Raises:
        UserError: the environment cannot draw.
    """
    if not hasattr(env, "render"):
        raise UserError("this environment cannot draw a replay: it has no render(index)")
    frames: list[np.ndarray] = []
    for seed in seeds:
        step, memory = env.reset([seed] * env.num_envs), None
        for _ in range(MAX_STEPS):
            frames.append(env.render(0))
            action, memory = policy(step.obs, memory, mask=step.mask, is_first=step.is_first)
            step = env.step(action)
            if step.ended[0]:
                break
        frames.extend(frames[-1:] * 4)
    return frames
