"""Weighted sums and means, as pure functions.

Every statistic is built from sums over rows. Between the sums and their quotient there is room for `sum_across`, a
function that adds the sums of other processes; by default there are none.
"""

from collections.abc import Callable

import torch
from torch import Tensor

SumAcross = Callable[[Tensor], Tensor]  # sums of these rows -> sums of all rows


def alone(sums: Tensor) -> Tensor:
    """Return the sums unchanged: no other process holds rows."""
    return sums


def weighted_sum(x: Tensor, weight: Tensor) -> Tensor:
    """Compute `sum(w * x)` over all axes, a scalar; `x` and `weight` are `(*B)`."""
    return torch.dot(x.reshape(-1), weight.reshape(-1))


def weighted_mean(x: Tensor, weight: Tensor | None, total: Tensor | None = None) -> Tensor:
    """Compute `sum(w * x) / sum(w)` over all axes.

    Args:
        x: `(*B)`, finite; see `mask_out`.
        weight: `(*B)`; None means 1.
        total: the weight of a whole of which these rows are a part, a scalar; by default `sum(w)`. The means of all
            parts then add up to the mean of the whole.

    Returns:
        A scalar; 0 where all weights are 0.
    """
    if weight is None:
        return x.mean() if total is None else x.sum() / total
    total = weight.sum() if total is None else total
    return (x * weight).sum() / total.clamp_min(torch.finfo(x.dtype).tiny)


def weighted_mean_variance(x: Tensor, weight: Tensor, sum_across: SumAcross = alone) -> tuple[Tensor, Tensor]:
    """Compute the weighted mean and the weighted variance over all axes, of the rows of all processes.

        mean = sum(w * x) / sum(w),    variance = sum(w * (x - mean)^2) / sum(w)

    Args:
        x: `(*B)`, finite; see `mask_out`.
        weight: `(*B)`.
        sum_across: adds the sums of other processes.

    Returns:
        Two scalars; 0 where all weights are 0.
    """
    total = sum_across(weight.sum()).clamp_min(torch.finfo(x.dtype).tiny)
    mean = sum_across((x * weight).sum()) / total
    return mean, sum_across(((x - mean).square() * weight).sum()) / total


def mask_out(x: Tensor, weight: Tensor | None) -> Tensor:
    """Return `x` with 0 in place of every sample of weight 0.

    A product with the weight would keep NaN, in the value and in the gradient.
    """
    return x if weight is None else torch.where(weight != 0, x, 0.0)
