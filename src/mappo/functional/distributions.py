"""Categorical and Gaussian policies, by hand: `torch.distributions` takes fifty times as long on rows this small.

Inside, the action axis comes first: a softmax over 5 numbers that lie side by side cannot be vectorised, one
over 5 long rows can. Logits `(*B, N)` hold one or more heads side by side, `heads = (n_1, ..., n_D)`, with N
their sum; actions are `(*B, D)`. A mask is True where an action is legal. A row with nothing legal counts as
uniform over all: finite, and meant to have weight 0.
"""

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor


def categorical_log_prob(logit: Tensor, action: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Log-probability of `action` and entropy.

    Args:
        logit: `(*B, N)`. action: integers `(*B)` in [0, N). mask: `(*B, N)`, True where legal.

    Returns:
        log pi(action) and H(pi) = -sum_a pi(a) log pi(a), each `(*B)`.
    """
    log_prob = _log_softmax(logit, mask)
    rows = action.reshape(1, -1).long()
    entropy = -(log_prob.exp() * log_prob).sum(0)
    return log_prob.gather(0, rows).reshape(action.shape), entropy.reshape(action.shape)


def categorical_sample(logit: Tensor, noise: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Inverse-CDF sampling: the first action whose cumulative probability exceeds the noise.

    The comparison leaves out both ends of the CDF's flat parts, so that an action of probability 0 is never
    drawn: not the first one at noise 0, nor the last one by rounding.

    Args:
        logit: `(*B, N)`. noise: `(*B)`, uniform in [0, 1). mask: `(*B, N)`, True where legal.

    Returns:
        Actions, int64, and their log-probabilities, each `(*B)`.
    """
    log_prob = _log_softmax(logit, mask)
    cdf = log_prob.exp().cumsum(0)
    action = (cdf <= noise.reshape(-1) * cdf[-1]).sum(0)
    return action.reshape(noise.shape), log_prob.gather(0, action[None]).reshape(noise.shape)


def categorical_mode(logit: Tensor, mask: Tensor | None = None) -> Tensor:
    """The likeliest legal action, int64 `(*B)`; the first of equals."""
    return _fill(logit, mask).argmax(-1)


def log_prob_of_heads(
    logit: Tensor, action: Tensor, heads: Sequence[int], mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`categorical_log_prob` summed over heads: logit `(*B, N)`, action `(*B, D)` -> two `(*B)`."""
    parts = [categorical_log_prob(x, action[..., d], m) for d, (x, m) in enumerate(_split(logit, mask, heads))]
    return sum_tensors([p[0] for p in parts]), sum_tensors([p[1] for p in parts])


def sample_heads(
    logit: Tensor, noise: Tensor, heads: Sequence[int], mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`categorical_sample` for each head: noise `(*B, D)` -> actions `(*B, D)`, log-probability `(*B)`."""
    parts = [categorical_sample(x, noise[..., d], m) for d, (x, m) in enumerate(_split(logit, mask, heads))]
    return torch.stack([p[0] for p in parts], -1), sum_tensors([p[1] for p in parts])


def mode_of_heads(logit: Tensor, heads: Sequence[int], mask: Tensor | None = None) -> Tensor:
    """`categorical_mode` for each head: actions `(*B, D)`."""
    return torch.stack([categorical_mode(x, m) for x, m in _split(logit, mask, heads)], -1)


def gaussian_log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Log-density of `action` and entropy of a normal distribution, number by number.

        log p(a) = -((a - mean) / std)^2 / 2 - log std - log(2 pi) / 2,    H = log std + log(2 pi e) / 2

    Args:
        mean, log_std, action: `(*B)`.

    Returns:
        Two `(*B)`.
    """
    log_prob = -((action - mean) * (-log_std).exp()).square() / 2 - log_std - math.log(2 * math.pi) / 2
    return log_prob, log_std + math.log(2 * math.pi * math.e) / 2


def tanh_gaussian_log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """The same of tanh(u), where u is normal, given u: `log p(u) - log(1 - tanh(u)^2)`.

    The entropy has no closed form: that of u, plus E[log(1 - tanh(u)^2)], of which `action` is one sample. The
    gradient goes through it along u = mean + std * epsilon, epsilon held (arXiv:1312.6114). Unbiased where the action
    was drawn from this distribution, that is at the first gradient step on a rollout.

    Args:
        mean, log_std, action: `(*B)`; the action before the tanh, for behind it the numbers have no inverse.

    Returns:
        Log-density of tanh(action), and the estimate of the entropy, two `(*B)`.
    """
    log_prob, entropy = gaussian_log_prob(mean, log_std, action)
    epsilon = ((action - mean) * (-log_std).exp()).detach()
    return log_prob - _log_slope(action), entropy + _log_slope(mean + log_std.exp() * epsilon)


def _log_slope(u: Tensor) -> Tensor:
    """log(1 - tanh(u)^2), where the difference itself would be rounded to 0."""
    return 2 * (math.log(2) - u - torch.logaddexp(torch.zeros_like(u), -2 * u))


def gaussian_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
    """Inverse-CDF sampling: noise `(*B)`, uniform in [0, 1)."""
    # The least that `torch.rand` gives is 0, whose quantile is minus infinity; the most is below 1.
    return mean + log_std.exp() * cast(Tensor, torch.special.ndtri(noise.clamp_min(2.0**-25)))


def sum_tensors(parts: Sequence[Tensor]) -> Tensor:
    """The sum of one or more tensors of one shape."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _split(logit: Tensor, mask: Tensor | None, heads: Sequence[int]) -> list[tuple[Tensor, Tensor | None]]:
    if sum(heads) != logit.shape[-1]:
        raise ValueError(f"logits {tuple(logit.shape)} do not fit heads of sizes {tuple(heads)}")
    if len(heads) == 1:
        return [(logit, mask)]
    ends = list(itertools.accumulate(heads))
    return [
        (logit[..., end - n : end], None if mask is None else mask[..., end - n : end])
        for n, end in zip(heads, ends, strict=True)
    ]


def _fill(logit: Tensor, mask: Tensor | None) -> Tensor:
    return logit if mask is None else torch.where(mask, logit, torch.finfo(logit.dtype).min)


def _log_softmax(logit: Tensor, mask: Tensor | None) -> Tensor:
    """Log-probabilities `(N, rows)`, the action axis first."""
    rows = _fill(logit, mask).reshape(-1, logit.shape[-1])
    return torch.log_softmax(rows.t().contiguous(), 0)
