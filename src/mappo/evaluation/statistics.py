"""Scores: means, intervals and differences to baselines, game by game."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mappo import envs
from mappo.core.protocols import Environment, TeamPolicy
from mappo.errors import UserError
from mappo.evaluation.episodes import StopCallback, play_episodes
from mappo.policies.random_policy import RandomPolicy

# First reset seeds: final scores and the choice of the best checkpoint see other games (up to a million each).
SCORE_SEED, SELECT_SEED = 1_000_000, 2_000_000


def summarize(values: np.ndarray) -> dict[str, Any]:
    """Mean, interquartile mean and the 95 % bootstrap interval of the mean, over episodes `(N,)`."""
    rng = np.random.default_rng(0)
    means = np.array([rng.choice(values, len(values)).mean() for _ in range(2000)])
    low, high = np.quantile(means, [0.025, 0.975])
    quarter = len(values) // 4
    middle = np.sort(values)[quarter : len(values) - quarter]
    return {"mean": float(values.mean()), "iqm": float(middle.mean()), "ci95": [float(low), float(high)]}


def play_baselines(
    env: Environment, name: str, seeds: Sequence[int], stop: StopCallback | None = None
) -> dict[str, np.ndarray]:
    """Team returns `(N,)` of the random policy and of the scripted ones that the environment is measured by."""
    rivals: dict[str, TeamPolicy] = {
        "random": RandomPolicy(env.spec, seeds[0], env.device),
        **envs.baselines(name, env.spec.num_agents),
    }
    return {rival: play_episodes(env, policy, seeds, stop).team_returns for rival, policy in rivals.items()}


def score(
    env: Environment, name: str, policy: TeamPolicy | Sequence[TeamPolicy], episodes: int, seed: int = SCORE_SEED
) -> dict[str, Any]:
    """A policy, or those of several seeds, and the baselines of its environment, on the same reset seeds.

    Returns:
        `episodes`, `seed`, `return_sum` (see `summarize`), `return_per_agent` (means), `episode_length` (mean) and
        `baselines`: for each a `summarize`, and `difference`, that of policy less baseline, game by game. Of several
        policies each counts as one, by its mean over the games, and intervals are over them: `by_policy` has the means.
    """
    seeds, policies = range(seed, seed + episodes), policy if isinstance(policy, Sequence) else [policy]
    played = [play_episodes(env, one, seeds) for one in policies]
    for game, agent in np.argwhere(~np.isfinite(np.concatenate([p.returns for p in played])))[:1]:
        raise UserError(
            f"the game of seed {seeds[game % len(seeds)]} gave {env.spec.agents[agent]} rewards that are not finite: a "
            f"score of them is none; mend the environment"
        )
    sums = np.stack([p.team_returns for p in played])  # (policies, games)

    def told(x: np.ndarray) -> dict[str, Any]:
        return summarize(x[0] if len(x) == 1 else x.mean(1))

    baselines: dict[str, Any] = {}
    for rival, theirs in play_baselines(env, name, seeds).items():
        difference = told(sums - theirs)
        baselines[rival] = {
            **summarize(theirs),
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
