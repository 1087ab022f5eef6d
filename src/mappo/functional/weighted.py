"""Means and variances of weighted samples, as pure functions."""

import torch
from torch import Tensor


def weighted_mean(x: Tensor, weight: Tensor | None) -> Tensor:
    """`sum(w * x) / sum(w)` over all axes; 0 where all weights are 0. `x` must be finite: see `silence`."""
    if weight is None:
        return x.mean()
    return (x * weight).sum() / weight.sum().clamp_min(torch.finfo(x.dtype).tiny)


def weighted_variance(x: Tensor, weight: Tensor | None) -> Tensor:
    """`sum(w * (x - mean)^2) / sum(w)` over all axes, a scalar, with the weighted mean."""
    return weighted_mean((x - weighted_mean(x, weight)).square(), weight)


def mask_out(x: Tensor, weight: Tensor | None) -> Tensor:
    """`x` with 0 in place of every sample of weight 0: unlike a product, it stops NaN both ways."""
    return x if weight is None else torch.where(weight != 0, x, 0.0)
