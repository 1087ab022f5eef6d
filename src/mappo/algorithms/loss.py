"""What the gradient steps make small: the loss of a minibatch, or of a piece of one."""

import torch
from torch import Tensor

from mappo.algorithms.minibatch import Batch
from mappo.config import PPOConfig
from mappo.functional.losses import ppo_clip_loss, ppo_value_data, ppo_value_error
from mappo.functional.weighted import weighted_mean
from mappo.networks.network import Network
from mappo.policies.policy import Policy


def loss(
    policy: Policy,
    critic: Network,
    ppo: PPOConfig,
    batch: Batch,
    entropy_weight: float | Tensor,
    whole: Batch | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`policy_loss + value_weight * value_loss - entropy_weight * entropy`, arXiv:2103.01955, appendix A.

    Args:
        of: the minibatch that `batch` is a piece of, whose losses and metrics are then its share, and add up.

    Returns:
        A scalar, and scalars without gradient.
    """
    dist_params, _ = policy.network(batch.obs, None if batch.memory is None else batch.memory[0], batch.is_first)
    legal = policy.distribution.static_mask if batch.mask is None else batch.mask
    log_prob, entropies = policy.distribution.log_prob(dist_params, batch.action, legal)
    policy_loss, info = ppo_clip_loss(log_prob, batch.log_prob, batch.adv, batch.weight, ppo.clip_ratio, ppo.dual_clip)
    memory = None if batch.critic_memory is None else batch.critic_memory[0]
    value = critic(batch.critic_obs, memory, batch.critic_is_first)[0].squeeze(-1)
    value_loss = ppo_value_error(
        ppo_value_data(value, batch.value, batch.target, batch.value_weight), ppo.value_clip, ppo.huber_delta
    )
    entropy, kl, clipped = weighted_mean(entropies, batch.weight), info.approx_kl, info.clipfrac
    if whole is not None:
        acting, valued = _fraction(batch.weight, whole.weight), _fraction(batch.value_weight, whole.value_weight)
        policy_loss, entropy, kl, clipped = (x * acting for x in (policy_loss, entropy, kl, clipped))
        value_loss = value_loss * valued
    total = policy_loss + ppo.value_weight * value_loss - entropy_weight * entropy
    metrics = {
        "total_loss": total,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": kl,
        "clip_fraction": clipped,
    }
    return total, {name: x.detach() for name, x in metrics.items()}


def _fraction(weight: Tensor, of: Tensor) -> Tensor:
    return weight.sum() / of.sum().clamp_min(torch.finfo(of.dtype).tiny)
