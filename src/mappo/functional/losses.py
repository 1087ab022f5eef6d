"""The losses of PPO, as pure functions over any batch shape `(*B)`.

Every mean is weighted: `sum(w * x) / sum(w)`. A sample of weight 0 carries no gradient, whatever value it holds, NaN
included. Every metric stays a tensor, so that no function waits for the device.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mappo.functional.distributions import categorical_log_prob
from mappo.functional.shapes import check_alike
from mappo.functional.weighted import mask_out, weighted_mean


class ppo_policy_data(NamedTuple):
    """Logits `(*B, N)`, actions `(*B)` as integers, advantages and weights `(*B)`; no weight means 1."""

    logit_new: Tensor
    logit_old: Tensor
    action: Tensor
    adv: Tensor
    weight: Tensor | None = None


class ppo_policy_loss(NamedTuple):
    """Two scalars. The entropy is a bonus: `total = policy_loss - entropy_weight * entropy_loss + ...`."""

    policy_loss: Tensor
    entropy_loss: Tensor


class ppo_info(NamedTuple):
    """Two scalars without gradient: the k3 estimate of KL(old || new), and the fraction of clipped ratios."""

    approx_kl: Tensor
    clipfrac: Tensor


class ppo_value_data(NamedTuple):
    """New and old value, return and weight, each `(*B)`; no weight means 1."""

    value_new: Tensor
    value_old: Tensor
    return_: Tensor
    weight: Tensor | None = None


def ppo_policy_error(
    data: ppo_policy_data, clip_ratio: float = 0.2, dual_clip: float | None = None
) -> tuple[ppo_policy_loss, ppo_info]:
    """Compute the clipped surrogate and the entropy of categorical policies, from their logits.

    The result equals `ppo_clip_loss` on the log-probabilities of `action`. A training loop should call
    `ppo_clip_loss`, because it has the old log-probabilities already.

    Args:
        data: `ppo_policy_data`.
        clip_ratio: eps of `ppo_clip_loss`, above 0.
        dual_clip: c of `ppo_clip_loss`, above 1; None for none.

    Returns:
        `ppo_policy_loss` and `ppo_info`.

    Raises:
        ValueError: a shape, `clip_ratio` or `dual_clip` does not fit.
        TypeError: a dtype does not fit.
    """
    logit_new, logit_old, action, adv, weight = data
    for name, logit in (("logit_new", logit_new), ("logit_old", logit_old)):
        if logit.ndim == 0 or logit.shape[:-1] != adv.shape:
            raise ValueError(f"{name} must be (*B, N) for adv of shape {tuple(adv.shape)}, got {tuple(logit.shape)}")
    if logit_new.shape != logit_old.shape:
        raise ValueError(f"logit_new {tuple(logit_new.shape)} and logit_old {tuple(logit_old.shape)} must be alike")
    if action.shape != adv.shape:
        raise ValueError(f"action must have adv's shape {tuple(adv.shape)}, got {tuple(action.shape)}")
    if action.is_floating_point() or action.dtype == torch.bool:
        raise TypeError(f"action must be of an integer type, got {action.dtype}")
    check_alike("adv", adv, weight=weight)
    log_prob_new, entropy = _log_prob_and_entropy(logit_new, action, weight)
    log_prob_old, _ = _log_prob_and_entropy(logit_old, action, weight)
    policy_loss, info = ppo_clip_loss(log_prob_new, log_prob_old, adv, weight, clip_ratio, dual_clip)
    return ppo_policy_loss(policy_loss, weighted_mean(entropy, weight)), info


def _log_prob_and_entropy(logit: Tensor, action: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    if weight is not None:
        # Masked before the softmax: its backward pass would turn a NaN behind a mask into NaN again.
        logit = torch.where((weight != 0).unsqueeze(-1), logit, 0.0)
        action = torch.where(weight != 0, action, 0)
    # Many codes mask an action by -inf, and 0 * -inf would make the entropy NaN.
    return categorical_log_prob(logit.clamp_min(torch.finfo(logit.dtype).min), action)


def ppo_clip_loss(
    log_prob_new: Tensor,
    log_prob_old: Tensor,
    adv: Tensor,
    weight: Tensor | None = None,
    clip_ratio: float = 0.2,
    dual_clip: float | None = None,
    total_weight: Tensor | None = None,
) -> tuple[Tensor, ppo_info]:
    """Compute PPO's clipped surrogate, arXiv:1707.06347, equation 7, negated to a loss.

        r = pi_new(a|s) / pi_old(a|s)
        L = -mean(min(r * A, clip(r, 1 - eps, 1 + eps) * A))

    With `dual_clip` c > 1 (arXiv:1912.09729, equation 5) the minimum is bounded below by c * A where A < 0.
    The KL estimate is k3, mean((r - 1) - log r): never negative, and unbiased for KL(old || new).

    Args:
        log_prob_new: log pi_new(a|s), `(*B)`.
        log_prob_old: log pi_old(a|s), `(*B)`.
        adv: the advantage A, `(*B)`.
        weight: `(*B)`; None means 1.
        clip_ratio: eps, above 0.
        dual_clip: c, above 1; None for none.
        total_weight: the weight of the whole minibatch where the rows are a piece of it; see `weighted_mean`.

    Returns:
        The loss, a scalar, and `ppo_info`.

    Raises:
        ValueError: a shape, `clip_ratio` or `dual_clip` does not fit.
        TypeError: a dtype does not fit.
    """
    if clip_ratio <= 0:
        raise ValueError(f"clip_ratio must be above 0, got {clip_ratio}")
    if dual_clip is not None and dual_clip <= 1:
        raise ValueError(f"dual_clip must be above 1, got {dual_clip}")
    check_alike("adv", adv, log_prob_new=log_prob_new, log_prob_old=log_prob_old, weight=weight)
    adv = mask_out(adv, weight)
    log_ratio = mask_out(log_prob_new - log_prob_old, weight)
    ratio = log_ratio.exp()
    surrogate = torch.min(ratio * adv, ratio.clamp(1 - clip_ratio, 1 + clip_ratio) * adv)
    if dual_clip is not None:
        surrogate = torch.where(adv < 0, torch.max(surrogate, dual_clip * adv), surrogate)
    with torch.no_grad():
        approx_kl = weighted_mean(ratio - 1 - log_ratio, weight, total_weight)
        clipfrac = weighted_mean(((ratio - 1).abs() > clip_ratio).to(ratio.dtype), weight, total_weight)
    return -weighted_mean(surrogate, weight, total_weight), ppo_info(approx_kl, clipfrac)


def ppo_value_error(
    data: ppo_value_data,
    clip_ratio: float | None = 0.2,
    huber_delta: float | None = None,
    total_weight: Tensor | None = None,
) -> Tensor:
    """Compute the value loss, a scalar: the mean of l(e) = e^2 / 2, or of Huber's function, of the error e.

        L = mean(max(l(R - V), l(R - V_old - clip(V - V_old, -eps, eps))))

    The clipped form keeps the value near the old value, as in the code of arXiv:2103.01955 (appendix C).
    Huber's l is e^2 / 2 up to `huber_delta` and grows linearly from there.

    Args:
        data: `ppo_value_data`, each `(*B)`.
        clip_ratio: eps, above 0; None for no clipping.
        huber_delta: above 0; None for e^2 / 2.
        total_weight: the weight of the whole minibatch where the rows are a piece of it; see `weighted_mean`.

    Raises:
        ValueError: a shape, `clip_ratio` or `huber_delta` does not fit. A team's value `(B, 1)` against the returns
            `(B, A)` of its agents is such a shape: the two must not broadcast.
        TypeError: a dtype does not fit.
    """
    value_new, value_old, return_, weight = data
    if clip_ratio is not None and clip_ratio <= 0:
        raise ValueError(f"clip_ratio must be above 0 or None, got {clip_ratio}")
    if huber_delta is not None and huber_delta <= 0:
        raise ValueError(f"huber_delta must be above 0 or None, got {huber_delta}")
    check_alike("return_", return_, value_new=value_new, value_old=value_old, weight=weight)
    value_new, value_old, return_ = (mask_out(x, weight) for x in (value_new, value_old, return_))
    loss = square_or_huber(return_ - value_new, huber_delta)
    if clip_ratio is not None:
        near = value_old + (value_new - value_old).clamp(-clip_ratio, clip_ratio)
        loss = torch.max(loss, square_or_huber(return_ - near, huber_delta))
    return weighted_mean(loss, weight, total_weight)


def square_or_huber(error: Tensor, huber_delta: float | None) -> Tensor:
    """Compute l(e) of `ppo_value_error`, `(*B)`."""
    if huber_delta is None:
        return error.square() / 2
    return torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=huber_delta)
