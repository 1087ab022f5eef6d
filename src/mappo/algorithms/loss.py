"""The loss of a minibatch, or of a piece of a minibatch."""

from collections.abc import Callable

from torch import Tensor

from mappo.algorithms.minibatch import Batch
from mappo.config import PPOConfig
from mappo.functional.distributions import sum_tensors
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
    total_weight: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute `policy_loss + value_weight * value_loss - entropy_weight * entropy`, arXiv:2103.01955, appendix A.

    Args:
        policy: the actors.
        critic: the critic's network.
        ppo: the settings.
        batch: a minibatch, or a piece of a minibatch.
        entropy_weight: weight of the entropy bonus.
        total_weight: `Batch.total_weight` of the whole minibatch, where `batch` is a piece of it. Losses, metrics and
            gradients of all pieces then add up to the losses, metrics and gradients of the minibatch.

    Returns:
        The loss, a scalar, and metrics, scalars without gradient.
    """
    policy_total, value_total = (None, None) if total_weight is None else total_weight.unbind()
    memory = None if batch.memory is None else batch.memory[0]
    dist_params, _ = policy.network(batch.obs, memory, batch.is_first)
    legal = policy.distribution.static_mask if batch.mask is None else batch.mask
    log_prob, entropies = policy.distribution.log_prob(dist_params, batch.action, legal)
    policy_loss, info = ppo_clip_loss(
        log_prob, batch.log_prob, batch.adv, batch.weight, ppo.clip_ratio, ppo.dual_clip, policy_total
    )
    entropy = weighted_mean(entropies, batch.weight, policy_total)
    critic_memory = None if batch.critic_memory is None else batch.critic_memory[0]
    value = critic(batch.critic_obs, critic_memory, batch.critic_is_first)[0].squeeze(-1)
    value_data = ppo_value_data(value, batch.value, batch.target, batch.value_weight)
    value_loss = ppo_value_error(value_data, ppo.value_clip, ppo.huber_delta, value_total)
    total = policy_loss + ppo.value_weight * value_loss - entropy_weight * entropy
    metrics = {
        "total_loss": total,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": info.approx_kl,
        "clip_fraction": info.clipfrac,
    }
    return total, {name: x.detach() for name, x in metrics.items()}


def backward(
    loss: Callable[..., tuple[Tensor, dict[str, Tensor]]], batch: Batch, num_pieces: int, axis: int
) -> dict[str, Tensor]:
    """Add the gradient of a minibatch's loss to the gradients of the weights, in pieces.

    Args:
        loss: computes loss and metrics of a batch, with `total_weight` as in `loss`.
        batch: the minibatch.
        num_pieces: the pieces have the same sums as the minibatch, in another order.
        axis: axis of the batch's rows, or of its chunks.

    Returns:
        The metrics of the minibatch.
    """
    pieces = batch.pieces(num_pieces, axis) if num_pieces > 1 else [batch]
    total_weight = batch.total_weight() if num_pieces > 1 or batch.total is not None else None
    piece_metrics: list[dict[str, Tensor]] = []
    for piece in pieces:
        total, metrics = loss(piece, total_weight=total_weight)
        total.backward()
        piece_metrics.append(metrics)
    return {name: sum_tensors([m[name] for m in piece_metrics]) for name in piece_metrics[0]}
