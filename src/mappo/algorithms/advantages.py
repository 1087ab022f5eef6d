"""From a rollout to the training data of an update: values, advantages, returns and their statistics."""

import torch
from torch import Tensor

from mappo.algorithms.critic import Critic, Values
from mappo.algorithms.minibatch import Batch
from mappo.config import Config
from mappo.core.spec import Spec
from mappo.core.timestep import Rollout
from mappo.functional.returns import discounted_return, gae, gae_data, n_step_return
from mappo.functional.weighted import SumAcross, weighted_mean_variance
from mappo.policies.policy import Policy


def prepare(
    rollout: Rollout, policy: Policy, critic: Critic, config: Config, sum_across: SumAcross, recompute: bool = False
) -> tuple[Batch, dict[str, Tensor], Values]:
    """Compute the training data of an update.

    The value statistics are updated between the advantages and the targets: advantages use the old statistics,
    targets the new ones.

    Args:
        rollout: T steps of E environments.
        policy: the actors.
        critic: its value statistics are updated.
        config: the settings.
        sum_across: adds the sums of other processes.
        recompute: compute the data again with the present critic; the value statistics stay.

    Returns:
        The batch, the metrics `value` and `explained_variance`, and the critic's values.
    """
    team_rows = critic.critic_input.team_rows
    values = critic.evaluate(rollout)
    adv, returns = advantages(rollout, values, policy.spec, config, team_rows)
    weight = rollout.active.to(adv.dtype)  # (T, E, A)
    team_weight = weight.sum(-1)
    # The team's return outlives an agent: its row is evaluated for the team after its death too.
    agent_weight = torch.ones_like(weight) if config.env.reward == "team" else weight
    value_weight = team_weight if team_rows else agent_weight
    metrics = value_metrics(values.value, adv, returns, value_weight, sum_across)
    normalized_value = values.normalized_value
    if config.ppo.value_norm:
        if not recompute:
            normalized_value = critic.update_value_norm(returns, value_weight, normalized_value)
        returns = critic.value_norm.normalize(returns)
    if config.ppo.advantage_norm:
        adv = standardize(adv, team_weight if team_rows else weight, sum_across)
    if team_rows:
        adv = adv.unsqueeze(-1).expand_as(rollout.log_prob)
    batch = Batch(
        obs=policy.network.preprocess(rollout.obs, rollout.active),
        mask=policy.distribution.legal_choices(rollout.mask) if rollout.mask is not None else None,
        action=rollout.action,
        log_prob=rollout.log_prob,
        adv=adv,
        weight=weight,
        critic_obs=values.critic_obs,
        value=normalized_value,
        target=returns,
        value_weight=value_weight,
        is_first=rollout.is_first if rollout.memory is not None else None,
        critic_is_first=values.is_first,
    )
    return batch.to_chunks(config.chunk_length, rollout.memory, values.memory_in), metrics, values


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
