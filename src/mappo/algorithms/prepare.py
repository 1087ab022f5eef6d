"""From a rollout to the training data of an update."""

import torch
from torch import Tensor

from mappo.algorithms.advantages import advantages, standardize, value_metrics
from mappo.algorithms.critic import Critic, Values
from mappo.algorithms.minibatch import Batch
from mappo.config import Config
from mappo.core.timestep import Rollout
from mappo.functional.weighted import SumAcross
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
    if team_rows:
        value_weight = weight.sum(-1)
    else:  # the team's return outlives an agent: its row is evaluated for the team after its death too
        value_weight = torch.ones_like(weight) if config.env.reward == "team" else weight
    metrics = value_metrics(values.value, adv, returns, value_weight, sum_across)
    normalized_value = values.normalized_value
    if config.ppo.value_norm:
        if not recompute:
            normalized_value = critic.update_value_norm(returns, value_weight, normalized_value)
        returns = critic.value_norm.normalize(returns)
    if config.ppo.advantage_norm:
        adv = standardize(adv, weight.sum(-1) if team_rows else weight, sum_across)
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
