"""Scores of policies, and their differences to baselines on the same episodes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from mappo import envs
from mappo.core.protocols import Environment, TeamPolicy
from mappo.errors import UserError
from mappo.evaluation.dealt import Deal
from mappo.evaluation.episodes import NO_BUDGET, Budget, Episodes, StepCallback, part_of, play_episodes
from mappo.evaluation.options import SCORE_SEED
from mappo.evaluation.statistics import compare_to_baseline, summarize_policies
from mappo.policies.random_policy import RandomPolicy


def baseline_policies(env: Environment, name: str, seed: int) -> dict[str, TeamPolicy]:
    """Return the random policy and the environment's scripted policies.

    Args:
        env: environment to play in.
        name: name of the environment.
        seed: seed of the random policy.
    """
    return {"random": RandomPolicy(env.spec, seed, env.device), **envs.baselines(name, env.spec)}


def score(
    env: Environment,
    name: str,
    teams: Mapping[str, Sequence[TeamPolicy]],
    episodes: int,
    seed: int = SCORE_SEED,
    on_step: StepCallback | None = None,
    budget: Budget = NO_BUDGET,
    deal: Deal | None = None,
) -> dict[str, Any]:
    """Score policies and the environment's baselines on the same reset seeds.

    Args:
        env, name: environment to step, and its name, for its baselines.
        teams: policies by name; the first team is compared with the baselines. A team may have policies of several
            seeds: each counts as a single sample, by its mean over the episodes, and intervals are over seeds.
        episodes, seed: number of episodes N of each policy, and first reset seed.
        on_step, budget, deal: see `play_episodes`; all policies are scored on as many episodes.

    Returns:
        `episodes`, `seed`, the score of the first team, `scores` by team, and `baselines`. A score is `return_sum` (see
        `summarize`), `return_per_agent`, `episode_length` and `returns` (a list for each of several seeds, with their
        means `by_policy`). A baseline has `returns` and `difference`: the first team's minus its own, by episode.
    """
    baselines = baseline_policies(env, name, seed)
    policies = [policy for team in teams.values() for policy in team]
    play = partial(play_episodes, env, budget=budget, deal=deal)
    played = _play_all(play, [*policies, *baselines.values()], range(seed, seed + episodes), on_step)
    _check_finite(env, played[: len(policies)], seed)
    batches = iter(played)
    scores = {team: _score_team([next(batches) for _ in members]) for team, members in teams.items()}
    first = scores[next(iter(teams))]
    returns = np.atleast_2d(np.array(first["returns"]))  # (S, N)
    return {
        "episodes": len(played[0].lengths),
        "seed": seed,
        **{key: value for key, value in first.items() if key != "returns"},
        "scores": scores,
        "baselines": {name: compare_to_baseline(returns, next(batches).team_returns) for name in baselines},
    }


def _play_all(
    play: Callable[..., Episodes], policies: Sequence[TeamPolicy], seeds: range, on_step: StepCallback | None
) -> list[Episodes]:
    """Return the same episodes of each policy: as many as the policy with the fewest has played."""
    played: list[Episodes] = []
    for index, policy in enumerate(policies):
        played.append(play(policy, seeds, part_of(on_step, index, len(policies))))
        seeds = seeds[: len(played[-1].lengths)]
    return [batch.first(len(seeds)) for batch in played]


def _score_team(played: Sequence[Episodes]) -> dict[str, Any]:
    """Return the score of the policies of a team, see `score`."""
    returns = np.stack([batch.team_returns for batch in played])  # (S, N)
    result: dict[str, Any] = {
        "return_sum": summarize_policies(returns),
        "return_per_agent": [float(x) for x in np.mean([batch.returns.mean(0) for batch in played], 0)],
        "episode_length": float(np.mean([batch.lengths.mean() for batch in played])),
        "returns": returns.tolist() if len(played) > 1 else returns[0].tolist(),
    }
    return result | ({"by_policy": returns.mean(1).tolist()} if len(played) > 1 else {})


def _check_finite(env: Environment, played: Sequence[Episodes], first_seed: int) -> None:
    """Raise `UserError` for the first NaN or infinity."""
    returns = np.concatenate([batch.returns for batch in played])  # (P * N, A)
    for episode, agent in np.argwhere(~np.isfinite(returns))[:1]:
        seed = first_seed + episode % len(played[0].lengths)
        raise UserError(
            f"the episode of seed {seed} gave {env.spec.agents[agent]} rewards that are not finite, so there is no "
            f"score: correct the environment"
        )
