"""PPO's losses together with their gradients in closed form; `losses.py` explains the losses.

Rows are weighted by their fraction `f` of the total weight: `f = w / sum(w)`. A row of fraction 0 has no gradient,
whatever it holds.
"""

import torch
from torch import Tensor

from mappo.functional.losses import ppo_info, ppo_value_data, square_or_huber
from mappo.functional.weighted import mask_out, weighted_sum


def ppo_clip_gradient(
    log_prob_new: Tensor,
    log_prob_old: Tensor,
    adv: Tensor,
    fraction: Tensor,
    clip_ratio: float,
    dual_clip: float | None = None,
) -> tuple[Tensor, ppo_info, Tensor]:
    """Compute `ppo_clip_loss` and its gradient.

        L = -sum f min(r A, clip(r, 1 - eps, 1 + eps) A),    r = exp(log pi_new - log pi_old)
        dL / d log pi_new = -f r A, and 0 where the clipped term is the smaller

    With `dual_clip` c it is also 0 where A < 0 and r > c.

    Args:
        log_prob_new: log pi_new(a|s), `(*B)`.
        log_prob_old: log pi_old(a|s), `(*B)`.
        adv: the advantage A, `(*B)`.
        fraction: f, `(*B)`.
        clip_ratio: eps, above 0.
        dual_clip: c, above 1; None for none.

    Returns:
        The loss, `ppo_info`, and the gradient by `log_prob_new`, `(*B)`.
    """
    adv = mask_out(adv, fraction)
    log_ratio = mask_out(log_prob_new - log_prob_old, fraction)
    ratio = log_ratio.exp()
    free = ratio * adv
    surrogate = torch.min(free, ratio.clamp(1 - clip_ratio, 1 + clip_ratio) * adv)
    if dual_clip is not None:
        surrogate = torch.where(adv < 0, torch.max(surrogate, dual_clip * adv), surrogate)
    approx_kl = weighted_sum(ratio - 1 - log_ratio, fraction)
    clipfrac = weighted_sum(((ratio - 1).abs() > clip_ratio).to(ratio.dtype), fraction)
    gradient = torch.where(surrogate == free, free, 0.0).mul_(fraction).neg_()
    return -weighted_sum(surrogate, fraction), ppo_info(approx_kl, clipfrac), gradient


def ppo_value_gradient(
    data: ppo_value_data, fraction: Tensor, clip_ratio: float | None, huber_delta: float | None
) -> tuple[Tensor, Tensor]:
    """Compute `ppo_value_error` and its gradient.

        L = sum f max(l(R - V), l(R - V_old - clip(V - V_old, -eps, eps)))
        dL / dV = -f l'(R - V), and 0 where the second term is the larger and V is clipped
        l'(e) = e, or with Huber's function e clipped to +-delta

    Args:
        data: `ppo_value_data`, each `(*B)`; its weight is not read.
        fraction: f, `(*B)`.
        clip_ratio: eps, above 0; None for no clipping.
        huber_delta: delta, above 0; None for e^2 / 2.

    Returns:
        The loss, and the gradient by `value_new`, `(*B)`.
    """
    value_new, value_old, return_, _ = data
    error = mask_out(return_ - value_new, fraction)
    loss = square_or_huber(error, huber_delta)
    slope = error if huber_delta is None else error.clamp(-huber_delta, huber_delta)
    gradient = -fraction * slope
    if clip_ratio is not None:
        change = mask_out(value_new - value_old, fraction)
        clipped = change.clamp(-clip_ratio, clip_ratio)
        clipped_loss = square_or_huber(error + change - clipped, huber_delta)
        gradient = torch.where((clipped_loss > loss) & (change != clipped), 0.0, gradient)
        loss = torch.max(loss, clipped_loss)
    return weighted_sum(loss, fraction), gradient
