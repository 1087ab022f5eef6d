"""The loss of a minibatch, or of a piece of a minibatch."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from mappo.algorithms.epochs import LOSS_METRICS
from mappo.algorithms.minibatch import Batch
from mappo.backend.process_settings import raise_as_user_error
from mappo.config import PPOConfig
from mappo.errors import UserError
from mappo.functional.distributions import sum_tensors
from mappo.functional.gradients import ppo_clip_gradient, ppo_value_gradient
from mappo.functional.losses import ppo_clip_loss, ppo_info, ppo_value_data, ppo_value_error
from mappo.functional.weighted import weighted_sum
from mappo.networks.network import Network
from mappo.policies.policy import Policy


class Outputs(NamedTuple):
    """Outputs of the networks for a minibatch, with gradients."""

    dist_params: Tensor  # (*R, A, N + 2 C): parameters of the action distribution
    log_prob: Tensor  # (*R, A): of the actions in the minibatch
    entropy: Tensor  # (*R, A)
    value: Tensor  # (*R) of team rows, or (*R, A): normalised values


def compute_outputs(policy: Policy, critic: Network, batch: Batch) -> Outputs:
    """Compute the outputs of actor and critic for a minibatch, or for a piece of a minibatch."""
    memory = None if batch.memory is None else batch.memory[0]
    dist_params, _ = policy.network(batch.obs, memory, batch.is_first)
    log_prob, entropy = policy.distribution.log_prob(dist_params, batch.action, _legal(policy, batch))
    critic_memory = None if batch.critic_memory is None else batch.critic_memory[0]
    value = critic(batch.critic_obs, critic_memory, batch.critic_is_first)[0].squeeze(-1)
    return Outputs(dist_params, log_prob, entropy, value)


def loss(
    outputs: Outputs, batch: Batch, ppo: PPOConfig, entropy_weight: float | Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute `policy_loss + value_weight * value_loss - entropy_weight * entropy`, arXiv:2103.01955, appendix A.

    Args:
        outputs: of the networks for the batch.
        batch: a minibatch, or a piece: losses, metrics and gradients of all pieces add up to those of the minibatch.
        ppo: the settings.
        entropy_weight: weight of the entropy bonus.

    Returns:
        The loss, a scalar, and metrics, scalars without gradient.
    """
    policy_total, value_total = (None, None) if batch.total is None else batch.total.unbind()
    policy_loss, info = ppo_clip_loss(
        outputs.log_prob, batch.log_prob, batch.adv, batch.weight, ppo.clip_ratio, ppo.dual_clip, policy_total
    )
    value_data = ppo_value_data(outputs.value, batch.value, batch.target, batch.value_weight)
    value_loss = ppo_value_error(value_data, ppo.value_clip, ppo.huber_delta, value_total)
    return _metrics(ppo, entropy_weight, policy_loss, value_loss, batch.mean(outputs.entropy), info)


def checked_loss(name: str, work: Callable[[], object], extra: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the result of a user's `loss` with all metrics, without gradients; NaN for those left out.

    Args:
        name: of the learner's class.
        work: computes the loss.
        extra: names of the metrics beyond `LOSS_METRICS`.

    Raises:
        UserError: the loss failed, or the result is no loss with metrics, or has metrics of other names.
    """
    try:
        result = work()
    except Exception as error:
        raise_as_user_error(f"{name}.loss", error)
        raise
    pair = cast(Any, result) if isinstance(result, tuple) and len(cast(Any, result)) == 2 else (None, None)
    total, found = pair
    if not (isinstance(total, Tensor) and not total.ndim and total.requires_grad and isinstance(found, dict)):
        raise UserError(f"{name}.loss must return (loss, metrics), a scalar tensor with a gradient and a dict")
    metrics: dict[str, Tensor] = {}
    for key, value in cast("dict[str, object]", found).items():
        if key not in (*LOSS_METRICS, *extra):
            raise UserError(f"{name}.loss returned the metric {key!r}: add its name to {name}.extra_metrics")
        if not isinstance(value, Tensor | float | int) or (isinstance(value, Tensor) and value.ndim):
            raise UserError(f"{name}.loss returned the metric {key!r}, which is no scalar: take batch.mean(...)")
        # Copies, because the learner may change its tensors; by a fill, because a graph allows none from the host.
        is_tensor = isinstance(value, Tensor)
        metrics[key] = value.detach().to(total, copy=True) if is_tensor else total.new_full((), value)
    nan = total.new_full((), math.nan)
    return total, {key: metrics.get(key, nan) for key in (*LOSS_METRICS, *extra)} | {"total_loss": total.detach()}


@torch.no_grad()
def add_gradient(
    policy: Policy, critic: Network, ppo: PPOConfig, batch: Batch, entropy_weight: Tensor
) -> dict[str, Tensor]:
    """Add the gradient of `loss` to the gradients of the weights in closed form; return its metrics.

    Autograd gives the same numbers in more time. Both networks have `record` and `backward`.
    """
    weights = (batch.weight, batch.value_weight)
    fraction, value_fraction = (
        w / t.clamp_min(torch.finfo(w.dtype).tiny) for w, t in zip(weights, batch.total_weight().unbind(), strict=True)
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
    add_gradient: Callable[[Batch], dict[str, Tensor]], batch: Batch, num_pieces: int, axis: int
) -> dict[str, Tensor]:
    """Add the gradient of a minibatch's loss to the gradients of the weights, in pieces.

    Args:
        add_gradient: adds the gradient of a batch and returns its metrics.
        batch: the minibatch.
        num_pieces: the pieces have the same sums as the minibatch, in another order.
        axis: axis of the batch's rows, or of its chunks.

    Returns:
        The metrics of the minibatch.
    """
    pieces = batch.pieces(num_pieces, axis) if num_pieces > 1 else [batch]
    piece_metrics = [add_gradient(piece) for piece in pieces]
    return {name: sum_tensors([m[name] for m in piece_metrics]) for name in piece_metrics[0]}
