"""Products of a matrix with many rows, by the faster of two libraries in torch.

torch multiplies matrices with MKL, which leaves AVX-512 of AMD's processors unused. oneDNN uses AVX-512: on a Zen 5 a
large product takes half the time, on a Zen 4 almost the same (benchmarks/README.md). torch calls oneDNN

- for convolutions: a convolution with a kernel of 1 x 1 is the same product, and differentiable (`affine`);
- for the gradient of a convolution's kernel, which copies no rows (`weight_gradient`);
- for a fused linear layer without a gradient, with less overhead (`linear`, `add_linear`).
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional

from mappo.system import hardware

Library = Literal["mkl", "onednn"]

# Processors with faster products by oneDNN, by vendor and family. A table and never a clock: a run repeats bit by bit.
# Zen 5 is family 26. Zen 4 (25) gains 2 to 8 %, which is not worth a rounding of its own.
ONEDNN_PROCESSORS = {("AuthenticAMD", 26)}
IMAGES = 16  # on one thread torch gives a 1 x 1 convolution of fewer images to MKL as well
MIN_WORK = 2**23  # multiplications; the overhead of a convolution outweighs a smaller product
MIN_LINEAR_WORK = 2**21  # the same for a fused linear layer
_acting = ContextVar("acting", default=False)
_library: ContextVar[Library | None] = ContextVar("library", default=None)
_fused_linear = cast(Any, getattr(torch.ops.mkldnn, "_linear_pointwise", None))


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


@contextmanager
def use_library(library: Library) -> Generator[None]:
    """Use a library for all large products in the context, in place of the processor's."""
    token = _library.set(library)
    try:
        yield
    finally:
        _library.reset(token)


def has_onednn() -> bool:
    """Return whether torch can multiply with oneDNN here."""
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


@cache
def best_library() -> Library:
    """Return the faster library for large products on this processor; MKL for a processor that was never measured."""
    is_faster = torch.backends.mkl.is_available() and hardware.cpu_family() in ONEDNN_PROCESSORS
    return "onednn" if is_faster and has_onednn() else "mkl"


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute `x W^T + b`, differentiable.

    Args:
        x: `(*B, in)`, or `(G, m, in)` with several groups.
        weight: `(out, in)`, or `(G, out, in)`.
        bias: `(out,)`, or `(G, out)`.
    """
    is_grouped = weight.ndim == 3
    num_rows = x.shape[1] if is_grouped else x.shape[:-1].numel()
    images = _num_images(num_rows, weight.shape[-2:].numel(), x, weight)
    if images is None:
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT) if is_grouped else functional.linear(x, weight, bias)
    if is_grouped:
        return torch.stack([affine(*group) for group in zip(x, weight, bias, strict=True)])
    y = torch.conv2d(_pixels(x, images), weight[..., None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `x W^T + b`, without a gradient: for steps whose gradient is in closed form.

    Args:
        x: `(m, in)`, or `(G, m, in)` with several groups.
        weight: `(out, in)`, or `(G, out, in)`.
        bias: `(out,)`, or `(G, out)`; None for 0.
    """
    if _uses_fused_linear(x, weight):
        if weight.ndim == 3:
            biases = [None] * len(weight) if bias is None else bias
            return torch.stack([linear(*group) for group in zip(x, weight, biases, strict=True)])
        return _fused_linear(x, weight, bias, "none", [], "")
    if bias is None:
        return x @ weight.mT
    return torch.addmm(bias, x, weight.mT) if weight.ndim == 2 else torch.baddbmm(bias.unsqueeze(-2), x, weight.mT)


def add_linear(y: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Compute `y + x W^T`, without a gradient; may overwrite y `(m, out)`. See `linear`."""
    if weight.ndim == 3:
        return y.add_(linear(x, weight)) if _uses_fused_linear(x, weight) else y.baddbmm_(x, weight.mT)
    if _uses_fused_linear(x, weight):
        return _fused_linear.binary(x, y, weight, None, "add")
    return y.addmm_(x, weight.mT)


def weight_gradient(y_grad: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of W in `linear`, `(out, in)`: the product of the rows `(m, out)` and x `(m, in)`."""
    images = _num_images(x.shape[-2], x.shape[-1] * y_grad.shape[-1], x, y_grad)
    if images is not None and y_grad.ndim == 3:
        return torch.stack([weight_gradient(*group) for group in zip(y_grad, x, strict=True)])
    if images is not None:
        kernel = x.new_empty(y_grad.shape[1], x.shape[1], 1, 1)  # only its shape is read
        rows = (_pixels(y_grad, images), _pixels(x, images), kernel, [len(kernel)])
        geometry = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)  # stride, padding, dilation, transposed, ..., groups
        return torch.ops.aten.convolution_backward(*rows, *geometry, [False, True, False])[1].flatten(1)
    # oneDNN is faster for the transposed product.
    return linear(x.mT, y_grad.mT).mT if _uses_fused_linear(x.mT, y_grad.mT) else y_grad.mT @ x


def _uses_fused_linear(x: Tensor, weight: Tensor) -> bool:
    work = x.shape[-2] * weight.shape[-2] * weight.shape[-1]
    return work >= MIN_LINEAR_WORK and _fused_linear is not None and _uses_onednn(x, weight)


def _uses_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not _acting.get()
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()  # pyright: ignore  # under vmap it is not faster
        and (_library.get() or best_library()) == "onednn"
    )


def _num_images(num_rows: int, num_weights: int, *factors: Tensor) -> int | None:
    """Return the number of images where a convolution computes the product of the factors; None where it does not."""
    return _divisor(num_rows) if num_rows * num_weights >= MIN_WORK and _uses_onednn(*factors) else None


@cache
def _divisor(num_rows: int) -> int | None:
    """Return a number of images of equal size that holds all rows, or None."""
    return next((n for n in range(IMAGES, 16 * IMAGES) if num_rows % n == 0), None)


def _pixels(x: Tensor, images: int) -> Tensor:
    """Return rows as the pixels of images. No memory moves: channels last is a layout that convolutions support."""
    return x.reshape(images, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
