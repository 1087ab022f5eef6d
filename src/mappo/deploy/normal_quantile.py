"""The quantile function of the normal distribution in plain arithmetic: ONNX and C have no such function."""

import torch
from torch import Tensor

SMALLEST = 2.0**-25  # the quantile of 0 is infinite
# Coefficients of numerator and denominator, highest power first, near the centre and in the tails.
CENTER = ((59.109374720, 159.29113202, 50.434271938, 3.3871327179), (67.187563600, 78.757757664, 17.895169469, 1.0))
TAIL = ((0.17023821103, 1.3067284816, 2.7568153900, 1.4234372777), (0.12021132975, 0.73700164250, 1.0))


def normal_quantile(p: Tensor) -> Tensor:
    """Compute the x below which a standard normal variable lies with probability p; p `(*B)` in [0, 1) -> `(*B)`.

    Algorithm PPND7 of Wichura (1988), AS 241, with an error of 1e-7. Its third range, below 1e-11, is never reached:
    p of float32 below 1 is at most 1 - 2^-24, and smaller p count as 2^-25.
    """
    p = p.clamp_min(SMALLEST)
    q = p - 0.5
    r = 0.180625 - q * q
    center = q * _polynomial(CENTER[0], r) / _polynomial(CENTER[1], r)
    # In the centre the tail's formula is computed too, and not used.
    s = torch.sqrt(-torch.log(torch.minimum(p, 1 - p))) - 1.6
    tail = _polynomial(TAIL[0], s) / _polynomial(TAIL[1], s)
    return torch.where(q.abs() <= 0.425, center, torch.where(q < 0, -tail, tail))


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    y = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        y = y * x + coefficient
    return y
