"""Categorical and Gaussian policies, written by hand: `torch.distributions` is fifty times as slow on small rows.

Logits `(*B, N)` hold one or more heads side by side, `heads = (n_1, ..., n_D)`, with N their sum; actions are
`(*B, D)`. A mask is True where an action is legal. A row without a legal action counts as uniform over all actions: it
stays finite, and is meant to have weight 0.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import cast

import torch
from torch import Tensor

# A vector-Jacobian product: (dL / d log-probability, dL / d entropy), each (*B) -> dL / d logits or parameters, (*B, N)
VJP = Callable[[Tensor, Tensor], Tensor]


def categorical_log_prob(logit: Tensor, action: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Compute the log-probability of `action` and the entropy, H(pi) = -sum_a pi(a) log pi(a).

    Args:
        logit: `(*B, N)`.
        action: integers `(*B)` in [0, N).
        mask: `(*B, N)`, True where legal.

    Returns:
        log pi(action) and H(pi), each `(*B)`.
    """
    log_prob, entropy, _ = categorical_vjp(logit, action, mask)
    return log_prob, entropy


def categorical_vjp(logit: Tensor, action: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, VJP]:
    """Compute `categorical_log_prob`, and its gradient as a function.

    d log pi(a) / d logit_k = [k = a] - pi_k,    d H / d logit_k = -pi_k (log pi_k + H)
    """
    log_prob = _log_softmax(logit, mask)
    prob = log_prob.exp()
    entropy = -(prob * log_prob).sum(0)
    index = action.reshape(1, -1).long()
    chosen = log_prob.gather(0, index)

    def vjp(d_log_prob: Tensor, d_entropy: Tensor) -> Tensor:
        d_log_prob = d_log_prob.reshape(1, -1)
        d_logit = (log_prob + entropy).mul_(d_entropy.reshape(1, -1)).add_(d_log_prob).mul_(prob).neg_()
        d_logit = d_logit.scatter_add_(0, index, d_log_prob).t().reshape(logit.shape)
        return d_logit if mask is None else torch.where(mask, d_logit, 0.0)

    return chosen.reshape(action.shape), entropy.reshape(action.shape), vjp


def categorical_sample(logit: Tensor, noise: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sample by the inverse CDF: the first action with a cumulative probability above the noise.

    The comparison excludes both ends of the flat pieces of the CDF. An action of probability 0 is therefore never
    sampled: not the first action at noise 0, nor the last action by rounding.

    Args:
        logit: `(*B, N)`.
        noise: `(*B)`, uniform in [0, 1).
        mask: `(*B, N)`, True where legal.

    Returns:
        Actions, int64, and their log-probabilities, each `(*B)`.
    """
    log_prob = _log_softmax(logit, mask)
    cdf = log_prob.exp().cumsum(0)
    action = (cdf <= noise.reshape(-1) * cdf[-1]).sum(0, keepdim=True)
    return action.reshape(noise.shape), log_prob.gather(0, action).reshape(noise.shape)


def categorical_mode(logit: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the most probable legal action, int64 `(*B)`; the first of equals."""
    return _fill(logit, mask).argmax(-1)


def log_prob_of_heads(
    logit: Tensor, action: Tensor, heads: Sequence[int], mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum `categorical_log_prob` over heads: logit `(*B, N)`, action `(*B, D)` -> two `(*B)`."""
    log_prob, entropy, _ = vjp_of_heads(logit, action, heads, mask)
    return log_prob, entropy


def vjp_of_heads(
    logit: Tensor, action: Tensor, heads: Sequence[int], mask: Tensor | None = None
) -> tuple[Tensor, Tensor, VJP]:
    """Compute `log_prob_of_heads`, and its gradient as a function; the gradients of the heads lie side by side."""
    outputs = [categorical_vjp(x, action[..., d], m) for d, (x, m) in enumerate(_split(logit, mask, heads))]
    log_probs, entropies, vjps = zip(*outputs, strict=True)

    def vjp(d_log_prob: Tensor, d_entropy: Tensor) -> Tensor:
        parts = [head_vjp(d_log_prob, d_entropy) for head_vjp in vjps]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    return sum_tensors(log_probs), sum_tensors(entropies), vjp


def sample_heads(
    logit: Tensor, noise: Tensor, heads: Sequence[int], mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Apply `categorical_sample` to each head: noise `(*B, D)` -> actions `(*B, D)`, log-probability `(*B)`."""
    if len(heads) == 1:
        action, log_prob = categorical_sample(logit, noise.squeeze(-1), mask)
        return action.unsqueeze(-1), log_prob
    pairs = [categorical_sample(x, noise[..., d], m) for d, (x, m) in enumerate(_split(logit, mask, heads))]
    actions, log_probs = zip(*pairs, strict=True)
    return torch.stack(actions, -1), sum_tensors(log_probs)


def mode_of_heads(logit: Tensor, heads: Sequence[int], mask: Tensor | None = None) -> Tensor:
    """Apply `categorical_mode` to each head: actions `(*B, D)`."""
    return torch.stack([categorical_mode(x, m) for x, m in _split(logit, mask, heads)], -1)


def gaussian_log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the log-density of `action` and the entropy of a normal distribution, element by element.

        log p(a) = -((a - mean) / std)^2 / 2 - log std - log(2 pi) / 2,    H = log std + log(2 pi e) / 2

    Args:
        mean: `(*B)`.
        log_std: `(*B)`.
        action: `(*B)`.

    Returns:
        Log-density and entropy, each `(*B)`.
    """
    log_prob = -((action - mean) * (-log_std).exp()).square() / 2 - log_std - math.log(2 * math.pi) / 2
    return log_prob, log_std + math.log(2 * math.pi * math.e) / 2


def tanh_gaussian_log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the log-density of tanh(u) for a normal u, given u: `log p(u) - log(1 - tanh(u)^2)`.

    The entropy has no closed form: it is the entropy of u plus E[log(1 - tanh(u)^2)], and `action` is one sample for
    that mean. The gradient flows along u = mean + std * epsilon with epsilon held (arXiv:1312.6114). The estimate is
    unbiased where the action was sampled from this distribution: at the first gradient step on a rollout.

    Args:
        mean: `(*B)`.
        log_std: `(*B)`.
        action: u, `(*B)`: the action before the tanh, because large values have no inverse after it.

    Returns:
        Log-density of tanh(action) and the estimate of the entropy, each `(*B)`.
    """
    log_prob, entropy = gaussian_log_prob(mean, log_std, action)
    epsilon = ((action - mean) * (-log_std).exp()).detach()
    return log_prob - _log_slope(action), entropy + _log_slope(mean + log_std.exp() * epsilon)


def _log_slope(u: Tensor) -> Tensor:
    """Compute log(1 - tanh(u)^2) in a form that does not round the difference to 0."""
    return 2 * (math.log(2) - u - torch.logaddexp(torch.zeros_like(u), -2 * u))


def gaussian_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
    """Sample by the inverse CDF: mean, log_std and noise `(*B)`, noise uniform in [0, 1) -> `(*B)`."""
    # `torch.rand` can return 0, and the quantile of 0 is minus infinity. Its largest value is below 1.
    return mean + log_std.exp() * cast(Tensor, torch.special.ndtri(noise.clamp_min(2.0**-25)))


def sum_tensors(tensors: Sequence[Tensor]) -> Tensor:
    """Add one or more tensors of one shape."""
    return reduce(torch.add, tensors)


def _split(logit: Tensor, mask: Tensor | None, heads: Sequence[int]) -> list[tuple[Tensor, Tensor | None]]:
    """Split logits and mask `(*B, N)` into one pair for each head."""
    if sum(heads) != logit.shape[-1]:
        raise ValueError(f"logits {tuple(logit.shape)} do not fit heads of sizes {tuple(heads)}")
    if len(heads) == 1:
        return [(logit, mask)]
    sizes = list(heads)
    masks = [None] * len(sizes) if mask is None else torch.split(mask, sizes, -1)
    return list(zip(torch.split(logit, sizes, -1), masks, strict=True))


def _fill(logit: Tensor, mask: Tensor | None) -> Tensor:
    """Set illegal logits to the lowest finite number."""
    return logit if mask is None else torch.where(mask, logit, torch.finfo(logit.dtype).min)


def _log_softmax(logit: Tensor, mask: Tensor | None) -> Tensor:
    """Compute log-probabilities `(N, rows)`, the action axis first.

    A softmax over 5 adjacent numbers cannot be vectorised; a softmax over 5 long rows can.
    """
    return torch.log_softmax(_fill(logit, mask).reshape(-1, logit.shape[-1]).t().contiguous(), 0)
