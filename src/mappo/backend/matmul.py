"""`y = x W^T + b` for many rows, by the faster of two libraries in torch.

torch multiplies matrices with MKL, which leaves AVX-512 of AMD's processors unused. torch computes convolutions with
oneDNN, which uses AVX-512. A convolution with a kernel of 1 x 1 is the same product: on a Zen 5 a large product takes
half the time (benchmarks/README.md).
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from mappo.system import hardware

IMAGES = 16  # on one thread torch gives a 1 x 1 convolution of fewer images to MKL as well
MIN_WORK = 2**23  # multiplications; the overhead of a convolution outweighs a smaller product
_acting = ContextVar("acting", default=False)


@contextmanager
def acting() -> Generator[None]:
    """Use MKL for all products in the context.

    The last bits of oneDNN's products depend on the number of rows, and the actions of a policy must not depend on the
    number of environments that act in one call.
    """
    token = _acting.set(True)
    try:
        yield
    finally:
        _acting.reset(token)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute `x W^T + b`, differentiable.

    Args:
        x: `(*B, in)`, or `(G, m, in)` with several groups.
        weight: `(out, in)`, or `(G, out, in)`.
        bias: `(out,)`, or `(G, out)`.
    """
    is_grouped = weight.ndim == 3
    num_rows = x.shape[1] if is_grouped else x.shape[:-1].numel()
    is_large = num_rows * weight.shape[-2] * weight.shape[-1] >= MIN_WORK
    images = _num_images(num_rows) if is_large and _uses_convolution(x, weight) else None
    if images is None:
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT) if is_grouped else functional.linear(x, weight, bias)
    if is_grouped:
        return torch.stack([affine(*group) for group in zip(x, weight, bias, strict=True)])
    # A row is a pixel. No memory moves: channels last is a layout that convolutions support.
    pixels = x.reshape(images, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    y = torch.conv2d(pixels, weight[..., None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


@cache
def has_slow_mkl() -> bool:
    """Return whether MKL is known to use half of this processor.

    The processor's name decides, never a clock: a run repeats bit by bit.
    """
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    has_avx512 = has_both and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return has_avx512 and any(name in hardware.cpu_model() for name in ("AMD ", "AuthenticAMD"))


def _uses_convolution(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not _acting.get()
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()  # pyright: ignore  # under vmap it is not faster
        and has_slow_mkl()
    )


@cache
def _num_images(num_rows: int) -> int | None:
    """Return a number of images of equal size that holds all rows, or None."""
    return next((n for n in range(IMAGES, 16 * IMAGES) if num_rows % n == 0), None)
