"""`y = x W^T + b` of many rows, by the faster of the two libraries that torch brings for it.

torch multiplies matrices with MKL, which leaves the wide registers (AVX-512) of AMD's processors unused; its
convolutions run in oneDNN, which does not. A convolution with a kernel of 1 x 1 is this very product: on a Zen 5 a
large one takes half the time (benchmarks/README.md).
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from mappo import machine

LEAST_IMAGES = 16  # of fewer, torch gives a 1 x 1 convolution to MKL as well
LEAST_WORK = 2**23  # multiplications: below it the convolution's overhead weighs more


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x W^T + b`, differentiable.

    Args:
        x: `(*B, in)`. weight: `(out, in)`. bias: `(out,)`. Of several groups `(G, m, in)`, `(G, out, in)`, `(G, out)`.
    """
    rows = x.numel() * weight.shape[-2] // weight.numel()  # of each group
    images = (
        _images(rows) if rows * weight.shape[-1] * weight.shape[-2] >= LEAST_WORK and _convolves(x, weight) else None
    )
    if weight.ndim == 3:
        if images is None:
            return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
        return torch.stack([affine(*of) for of in zip(x, weight, bias, strict=True)])
    if images is None:
        return functional.linear(x, weight, bias)
    # A row is a pixel. Nothing moves: channels that lie last in memory are a layout that convolutions know.
    pixels = x.reshape(images, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    y = torch.conv2d(pixels, weight[..., None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


@cache
def slow_mkl() -> bool:
    """Whether MKL is known to leave half of this processor's speed. Its maker is asked and not the clock, so that a run
    repeats bit by bit.
    """
    wide = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and any(name in machine.cpu_model() for name in ("AMD ", "AuthenticAMD"))


def _convolves(x: Tensor, weight: Tensor) -> bool:
    """Where it is faster, and only in gradient steps: an answer should not depend on how many ask at once."""
    return (
        torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()  # pyright: ignore  # of many seeds at once: not faster
        and slow_mkl()
    )


@cache
def _images(rows: int) -> int | None:
    """Into how many images of one size the rows are dealt; None where they cannot be."""
    return next((n for n in range(LEAST_IMAGES, 16 * LEAST_IMAGES) if rows % n == 0), None)
