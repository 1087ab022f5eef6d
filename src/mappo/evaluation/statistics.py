"""Scores of policies: means, confidence intervals, and differences to baselines on the same episodes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mappo import envs
from mappo.core.protocols import Environment, TeamPolicy
from mappo.errors import UserError
from mappo.evaluation.episodes import Episodes, StopCallback, play_episodes
from mappo.evaluation.options import SCORE_SEED
from mappo.policies.random_policy import RandomPolicy


def summarize(values: np.ndarray) -> dict[str, Any]:
    """Return mean, interquartile mean and the 95 % bootstrap interval of the mean, over episodes `(N,)`."""
    rng = np.random.default_rng(0)
    means = np.array([rng.choice(values, len(values)).mean() for _ in range(2000)])
    low, high = np.quantile(means, [0.025, 0.975])
    quarter = len(values) // 4
    middle = np.sort(values)[quarter : len(values) - quarter]
    return {"mean": float(values.mean()), "iqm": float(middle.mean()), "ci95": [float(low), float(high)]}


def play_baselines(
    env: Environment, name: str, seeds: Sequence[int], stop: StopCallback | None = None
) -> dict[str, np.ndarray]:
    """Return team returns `(N,)` of the random policy and of the environment's scripted policies."""
    baselines: dict[str, TeamPolicy] = {
        "random": RandomPolicy(env.spec, seeds[0], env.device),
        **envs.baselines(name, env.spec.num_agents),
    }
    return {baseline: play_episodes(env, policy, seeds, stop).team_returns for baseline, policy in baselines.items()}


def score(
    env: Environment, name: str, policy: TeamPolicy | Sequence[TeamPolicy], episodes: int, seed: int = SCORE_SEED
) -> dict[str, Any]:
    """Score a policy, or the policies of several seeds, and the environment's baselines on the same reset seeds.

    Each of several policies counts as a single sample, by its mean over the episodes; intervals are over policies.

    Args:
        env: environment to step.
        name: name of the environment, for its baselines.
        policy: a policy, or a sequence of policies.
        episodes: number of episodes N of each policy.
        seed: first reset seed.

    Returns:
        `episodes`, `seed`, `return_sum` (see `summarize`), `return_per_agent` (means), `episode_length` (mean) and
        `baselines`: for each baseline its `summarize`, and `difference`, the policy's returns minus the baseline's,
        episode by episode. For several policies also `by_policy`, their means.
    """
    policies = policy if isinstance(policy, Sequence) else [policy]
    seeds = range(seed, seed + episodes)
    played = [play_episodes(env, policy, seeds) for policy in policies]
    _check_finite(env, played, seeds)
    returns = np.stack([batch.team_returns for batch in played])  # (P, N)
    result: dict[str, Any] = {
        "episodes": episodes,
        "seed": seed,
        "return_sum": _summarize_policies(returns),
        "return_per_agent": [float(x) for x in np.mean([batch.returns.mean(0) for batch in played], 0)],
        "episode_length": float(np.mean([batch.lengths.mean() for batch in played])),
        "baselines": {
            baseline: _compare(returns, baseline_returns)
            for baseline, baseline_returns in play_baselines(env, name, seeds).items()
        },
    }
    if len(policies) > 1:
        result["by_policy"] = [float(x) for x in returns.mean(1)]
    return result


def _check_finite(env: Environment, played: Sequence[Episodes], seeds: Sequence[int]) -> None:
    """Raise `UserError` for the first NaN or infinity."""
    returns = np.concatenate([batch.returns for batch in played])  # (P * N, A)
    for episode, agent in np.argwhere(~np.isfinite(returns))[:1]:
        raise UserError(
            f"the episode of seed {seeds[episode % len(seeds)]} gave {env.spec.agents[agent]} rewards that are not "
            f"finite, so that there is no score: correct the environment"
        )


def _summarize_policies(returns: np.ndarray) -> dict[str, Any]:
    """Summarize returns `(P, N)` over the episodes of a single policy, or over the means of several policies."""
    return summarize(returns[0] if len(returns) == 1 else returns.mean(1))


def _compare(returns: np.ndarray, baseline_returns: np.ndarray) -> dict[str, Any]:
    """Summarize a baseline's returns `(N,)`, and the difference of returns `(P, N)` to the baseline."""
    difference = _summarize_policies(returns - baseline_returns)
    del difference["iqm"]
    return {**summarize(baseline_returns), "difference": difference}
