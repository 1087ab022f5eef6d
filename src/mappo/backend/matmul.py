"""`y = x W^T + b` of many rows, by the faster of the two libraries that torch brings for it.

torch multiplies matrices with MKL, which leaves the wide registers (AVX-512) of AMD's processors unused; its
convolutions run in oneDNN, which does not. A convolution with a kernel of 1 x 1 is this very product: on a Zen 5 a
large one takes half the time (benchmarks/README.md).
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from mappo.system import hardware

IMAGES = 16  # on one thread torch gives a 1 x 1 convolution of fewer to MKL as well
LEAST_WORK = 2**23  # multiplications: below it the convolution's overhead weighs more
_acting = ContextVar("acting", default=False)


@contextmanager
def acting() -> Generator[None]:
    """All products in here are MKL's: oneDNN's differ in their last bits, and what a policy answers should not depend
    on how many environments ask at once.
    """
    token = _acting.set(True)
    try:
        yield
    finally:
        _acting.reset(token)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x W^T + b`, differentiable.

    Args:
        x: `(*B, in)`. weight: `(out, in)`. bias: `(out,)`. Of several groups `(G, m, in)`, `(G, out, in)`, `(G, out)`.
    """
    grouped = weight.ndim == 3
    rows = x.shape[1] if grouped else x.shape[:-1].numel()
    large = rows * weight.shape[-2] * weight.shape[-1] >= LEAST_WORK
    images = _images(rows) if large and _convolves(x, weight) else None
    if images is None:
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT) if grouped else functional.linear(x, weight, bias)
    if grouped:
        return torch.stack([affine(*of) for of in zip(x, weight, bias, strict=True)])
    # A row is a pixel. Nothing moves: channels that lie last in memory are a layout that convolutions know.
    pixels = x.reshape(images, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    y = torch.conv2d(pixels, weight[..., None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


@cache
def slow_mkl() -> bool:
    """Whether MKL is known to leave half of this processor's speed. Its maker is asked and not the clock, so that a run
    repeats bit by bit.
    """
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    wide = both and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and any(name in hardware.cpu_model() for name in ("AMD ", "AuthenticAMD"))


def _convolves(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not _acting.get()
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()  # pyright: ignore  # of many seeds at once: not faster
        and slow_mkl()
    )


@cache
def _images(rows: int) -> int | None:
    """Into how many images of one size the rows are dealt; None where they cannot be."""
    return next((n for n in range(IMAGES, 16 * IMAGES) if rows % n == 0), None)
