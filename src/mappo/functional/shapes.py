"""Shapes of tensors: checks, and broadcasting over trailing axes."""

import torch
from torch import Tensor


def append_axes(x: Tensor, ndim: int) -> Tensor:
    """Append axes of size 1 up to `ndim` axes: `(*B)` then broadcasts against `(*B, *F)`."""
    return x.reshape(*x.shape, *(1,) * (ndim - x.ndim))


def append_ids(x: Tensor, ids: Tensor, planes: int) -> Tensor:
    """Append an id to the features, or to the channels, of each agent's row.

    Args:
        x: `(*B, A, *P, C)`.
        ids: `(A, I)`.
        planes: number of axes in P: 0 for vectors, 2 for images.

    Returns:
        `(*B, A, *P, C + I)`.
    """
    agents, size = ids.shape
    return torch.cat([x, ids.reshape(agents, *(1,) * planes, size).expand(*x.shape[:-1], size)], -1)


def check_alike(like_name: str, like: Tensor, **tensors: Tensor | None) -> None:
    """Check that tensors have the shape of `like`, and floating point numbers; a weight may hold integers.

    Args:
        like_name: name of `like`, for the error message.
        like: the tensor with the right shape; it must be floating point too.
        tensors: by name; None passes.

    Raises:
        ValueError: a shape differs.
        TypeError: a tensor is not floating point.
    """
    for name, tensor in {like_name: like, **tensors}.items():
        if tensor is not None and tensor.shape != like.shape:
            raise ValueError(
                f"{name} must have the shape of {like_name}, {tuple(like.shape)}, got {tuple(tensor.shape)}"
            )
        if tensor is not None and not tensor.is_floating_point() and name != "weight":
            raise TypeError(f"{name} must be floating point, got {tensor.dtype}")
