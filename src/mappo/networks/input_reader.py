"""Conversion of raw observations and states to the inputs of encoders; actors and critics read alike."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mappo.core.obs_inputs import ObsInput
from mappo.core.observations import Channels, ObsPart, is_channels_first
from mappo.core.spec import Spec


class InputReader(nn.Module):
    """Divides integers by the bounds of their space, and moves the channels of images to the last axis.

    Images of bytes stay bytes, four times smaller; `to_floats` divides them when an encoder reads them.

    Args:
        divisor: broadcasts over rows; its first axis stands for agents, or has length 1.
        shape: shape of a raw row: an image, or numbers.
        moved_axes: present and new place of the channels of an image, counted from the end; None for channels last.
        divides_floats: False if images that are no bytes have been divided already.
    """

    def __init__(
        self,
        divisor: np.ndarray,
        shape: tuple[int, ...],
        moved_axes: tuple[int, int] | None = None,
        divides_floats: bool = True,
    ) -> None:
        super().__init__()
        is_image = len(shape) == 3
        divisor = divisor[0] if (divisor == divisor[:1]).all() else divisor
        # A number in place of a tensor where possible: a GPU rounds the two divisions differently.
        number: float | None = divisor.item(0) if (divisor == divisor.item(0)).all() else None
        self.divisor: Tensor = nn.Buffer(torch.as_tensor(divisor, dtype=torch.float32), persistent=False)
        self.differs_by_agent = number is None and divisor.ndim in (2, 4)
        self.bytes_scale = number if is_image else None
        self.number = number if divides_floats or self.bytes_scale is None else 1.0
        self.moved_axes = moved_axes
        self.shape = tuple(torch.empty(shape, device="meta").movedim(*moved_axes).shape) if moved_axes else shape

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Convert rows `(*B, A, *shape)`, or `(*B, *shape)` where agents do not differ."""
        if self.bytes_scale is None or x.dtype != torch.uint8:
            x = x.to(dtype)
            x = x if self.number == 1 else x / (self.divisor if self.number is None else self.number)
        return x if self.moved_axes is None else x.movedim(*self.moved_axes)

    def to_floats(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Convert the bytes of images to fractions of their bound; other tensors are returned as they are."""
        return x.to(dtype) / (self.bytes_scale or 255.0) if x.dtype == torch.uint8 else x

    def select_(self, agent: int) -> None:
        """Keep the divisor of one agent, as a view, for rows `(*B, 1, *shape)`."""
        if self.differs_by_agent:
            self.divisor = self.divisor[agent : agent + 1]


def obs_reader(spec: Spec, channels: Channels = "auto") -> InputReader:
    """Build the reader of a team's observations `(*B, A, *obs_shape)`."""
    shape = spec.obs_shape
    raw_shape: tuple[int, ...] = spec.obs_spaces[0].shape or ()
    scales = {scale for parts in spec.obs_parts for part in parts for scale in part.scale}
    kinds = spec.obs_parts[:1] if len(set(spec.obs_parts)) == 1 else spec.obs_parts
    # One number for all where possible: a row for each agent takes memory.
    divisor = np.full((1, 1), scales.pop()) if len(scales) == 1 else np.stack([_divisors(x, shape) for x in kinds])
    axes = _moved_axes(raw_shape, channels) if len(shape) == 3 else None
    return InputReader(divisor, shape, axes, divides_floats=not spec.observes_bytes)


def state_reader(spec: Spec, channels: Channels = "auto") -> InputReader:
    """Build the reader of an environment's states `(*B, *state_shape)`."""
    shape = spec.state_shape or ()
    if spec.state_parts:
        axes = _moved_axes(spec.state_parts[0].shape, channels) if len(shape) == 3 else None
        return InputReader(_divisors(spec.state_parts, shape)[None], shape, axes)
    # An environment's own tensors: an image has its channels last, and may hold bytes.
    axes = (-3, -1) if len(shape) == 3 and channels == "first" else None
    return bytes_reader(shape, axes=axes)


def bytes_reader(shape: tuple[int, ...], scale: float = 255.0, axes: tuple[int, int] | None = None) -> InputReader:
    """Build the reader of inputs of which images of bytes alone are divided."""
    is_image = len(shape) == 3
    return InputReader(np.full(1, scale if is_image else 1.0), shape, axes, divides_floats=False)


def _divisors(parts: Sequence[ObsPart], shape: tuple[int, ...]) -> np.ndarray:
    """Return what a padded observation is divided by: `(O,)`, or `(1, 1, 1)` for an image."""
    if len(shape) == 3:
        return np.reshape(parts[0].scale, (1, 1, 1))
    rows = [np.broadcast_to(part.scale, part.size) for part in parts]
    padding = np.ones(math.prod(shape) - sum(map(len, rows)))
    return np.concatenate([*rows, padding])


def _moved_axes(raw_shape: tuple[int, ...], channels: Channels) -> tuple[int, int] | None:
    """Return the axes to move in an image that has its channels last by the guess of `is_channels_first`."""
    was_first = is_channels_first(raw_shape)
    if was_first == is_channels_first(raw_shape, channels):
        return None
    return (-1, -3) if was_first else (-3, -1)


def flatten_inputs(inputs: Sequence[ObsInput], arrays: Sequence[Tensor]) -> Tensor:
    """Flatten arrays `(*B, *shape)` of an observation side by side, float32 `(*B, F)`; choices become one-hot."""
    flat: list[Tensor] = []
    for array, x in zip(inputs, arrays, strict=True):
        rows = x.shape[: x.ndim - len(array.shape)]
        if not array.choices:
            flat.append(x.to(torch.float32).reshape(*rows, array.size))
            continue
        choices = x.to(torch.int64).reshape(*rows, len(array.choices)).unbind(-1)
        for choice, start, count in zip(choices, array.start, array.choices, strict=True):
            options = torch.arange(start, start + count, device=x.device)
            flat.append((choice.unsqueeze(-1) == options).to(torch.float32))
    return flat[0] if len(flat) == 1 else torch.cat(flat, -1)


def unflatten_inputs(inputs: Sequence[ObsInput], flat: Tensor) -> list[Tensor]:
    """Return the arrays `(*B, *shape)` of flat observations `(*B, F)`; numbers behind the last array are padding."""
    arrays: list[Tensor] = []
    first = 0
    for array in inputs:
        x = flat[..., first : first + array.size]
        first += array.size
        if array.choices:
            options = torch.split(x, list(array.choices), -1)
            choices = [x.argmax(-1) + start for x, start in zip(options, array.start, strict=True)]
            x = torch.stack(choices, -1)
        arrays.append(x.reshape((*flat.shape[:-1], *array.shape)).to(getattr(torch, array.dtype)))
    return arrays
