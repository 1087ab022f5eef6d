"""The loss of a minibatch, or of a piece of a minibatch."""

from collections.abc import Callable

import torch
from torch import Tensor

from mappo.algorithms.minibatch import Batch
from mappo.config import PPOConfig
from mappo.functional.distributions import sum_tensors
from mappo.functional.gradients import ppo_clip_gradient, ppo_value_gradient
from mappo.functional.losses import ppo_clip_loss, ppo_info, ppo_value_data, ppo_value_error
from mappo.functional.weighted import weighted_mean, weighted_sum
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
    log_prob, entropies = policy.distribution.log_prob(dist_params, batch.action, _legal(policy, batch))
    policy_loss, info = ppo_clip_loss(
        log_prob, batch.log_prob, batch.adv, batch.weight, ppo.clip_ratio, ppo.dual_clip, policy_total
    )
    entropy = weighted_mean(entropies, batch.weight, policy_total)
    critic_memory = None if batch.critic_memory is None else batch.critic_memory[0]
    value = critic(batch.critic_obs, critic_memory, batch.critic_is_first)[0].squeeze(-1)
    value_data = ppo_value_data(value, batch.value, batch.target, batch.value_weight)
    value_loss = ppo_value_error(value_data, ppo.value_clip, ppo.huber_delta, value_total)
    return _metrics(ppo, entropy_weight, policy_loss, value_loss, entropy, info)


@torch.no_grad()
def add_gradient(
    policy: Policy,
    critic: Network,
    ppo: PPOConfig,
    batch: Batch,
    entropy_weight: Tensor,
    total_weight: Tensor | None = None,
) -> dict[str, Tensor]:
    """Add the gradient of `loss` to the gradients of the weights in closed form; return its metrics.

    Autograd gives the same numbers in more time. Args as for `loss`; both networks have `record` and `backward`.
    """
    totals = (batch.total_weight() if total_weight is None else total_weight).unbind()
    weights = (batch.weight, batch.value_weight)
    fraction, value_fraction = (
        w / t.clamp_min(torch.finfo(w.dtype).tiny) for w, t in zip(weights, totals, strict=True)
    )
    dist_params, saved = policy.network.record(batch.obs)
    log_prob, entropies, vjp = policy.distribution.log_prob_vjp(dist_params, batch.action, _legal(policy, batch))
    policy_loss, info, d_log_prob = ppo_clip_gradient(
        log_prob, batch.log_prob, batch.adv, fraction, ppo.clip_ratio, ppo.dual_clip
    )
    policy.network.backward(vjp(d_log_prob, -entropy_weight * fraction), saved)
    output, saved = critic.record(batch.critic_obs)
    value_data = ppo_value_data(output.squeeze(-1), batch.value, batch.target)
    value_loss, d_value = ppo_value_gradient(value_data, value_fraction, ppo.value_clip, ppo.huber_delta)
    critic.backward((ppo.value_weight * d_value).unsqueeze(-1), saved)
    return _metrics(ppo, entropy_weight, policy_loss, value_loss, weighted_sum(entropies, fraction), info)[1]


def _legal(policy: Policy, batch: Batch) -> Tensor | None:
    """Return the legal choices `(*R, A, N)`, or `(A, N)`; None where everything is legal."""
    return policy.distribution.static_mask if batch.mask is None else batch.mask


def _metrics(
    ppo: PPOConfig,
    entropy_weight: float | Tensor,
    policy_loss: Tensor,
    value_loss: Tensor,
    entropy: Tensor,
    info: ppo_info,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss, and the metrics of a minibatch or a piece, without gradient."""
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


def sum_over_pieces(
    add_gradient: Callable[[Batch, Tensor | None], dict[str, Tensor]], batch: Batch, num_pieces: int, axis: int
) -> dict[str, Tensor]:
    """Add the gradient of a minibatch's loss to the gradients of the weights, in pieces.

    Args:
        add_gradient: adds the gradient of a batch and returns its metrics, with `total_weight` as in `loss`.
        batch: the minibatch.
        num_pieces: the pieces have the same sums as the minibatch, in another order.
        axis: axis of the batch's rows, or of its chunks.

    Returns:
        The metrics of the minibatch.
    """
    pieces = batch.pieces(num_pieces, axis) if num_pieces > 1 else [batch]
    total_weight = batch.total_weight() if num_pieces > 1 or batch.total is not None else None
    piece_metrics = [add_gradient(piece, total_weight) for piece in pieces]
    return {name: sum_tensors([m[name] for m in piece_metrics]) for name in piece_metrics[0]}
