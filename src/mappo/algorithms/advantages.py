"""Advantages and returns of a rollout, and their statistics: between `Rollout` and `functional.returns`."""

from torch import Tensor

from mappo.algorithms.critic import Values
from mappo.config import Config
from mappo.core.spec import Spec
from mappo.core.timestep import Rollout
from mappo.functional.returns import discounted_return, gae, gae_data, n_step_return
from mappo.functional.weighted import SumAcross, weighted_mean_variance


def advantages(rollout: Rollout, values: Values, spec: Spec, config: Config, team_rows: bool) -> tuple[Tensor, Tensor]:
    """Compute advantages and returns by the method `ppo.returns`.

    Args:
        rollout: T steps of E environments.
        values: the critic's values of the rollout.
        spec: the environment's.
        config: `env.reward`, `ppo.returns`, `ppo.gamma`, `ppo.gae_lambda` and `ppo.n_step` are read.
        team_rows: the critic has one row for the team.

    Returns:
        Advantages and returns, each `(T, E)` for team rows, else `(T, E, A)`.
    """
    ppo = config.ppo
    value = values.value  # (T, E) or (T, E, A)
    reward, done, cut = _reward_and_flags(rollout, spec, config)
    if not team_rows and reward.ndim == 2:
        reward = reward.unsqueeze(-1).expand_as(value)
    if ppo.returns == "gae":
        adv = gae(gae_data(value, values.next_value, reward, done, cut), ppo.gamma, ppo.gae_lambda)
        return adv, adv + value
    if ppo.returns == "n_step":
        returns = n_step_return(values.next_value, reward, done, cut, ppo.gamma, ppo.n_step)
    else:
        returns = discounted_return(values.next_value, reward, done, cut, ppo.gamma)
    return returns - value, returns


def _reward_and_flags(rollout: Rollout, spec: Spec, config: Config) -> tuple[Tensor, Tensor, Tensor]:
    """Return reward, `done` (masks the bootstrap value) and `cut` (ends the trace): `(T, E)`, or `(T, E, A)`."""
    if config.env.reward == "agent":
        return rollout.reward, rollout.terminated, rollout.terminated | rollout.ended.unsqueeze(-1)
    # The team's return goes on after the death of one agent: only the end of the episode masks and cuts.
    return spec.team_reward(rollout.reward), rollout.ended & rollout.terminated.all(-1), rollout.ended


def standardize(adv: Tensor, weight: Tensor, sum_across: SumAcross) -> Tensor:
    """Return advantages of weighted mean 0 and weighted standard deviation 1; `adv` and `weight` are `(*B)`."""
    mean, variance = weighted_mean_variance(adv, weight, sum_across)
    return (adv - mean) / (variance.sqrt() + 1e-8)


def value_metrics(
    value: Tensor, adv: Tensor, returns: Tensor, weight: Tensor, sum_across: SumAcross
) -> dict[str, Tensor]:
    """Return the mean value and the explained variance, `1 - Var(returns - value) / Var(returns)`; each `(*B)`."""
    mean, _ = weighted_mean_variance(value, weight, sum_across)
    _, unexplained = weighted_mean_variance(adv, weight, sum_across)
    _, variance = weighted_mean_variance(returns, weight, sum_across)
    return {"value": mean, "explained_variance": 1 - unexplained / variance}
