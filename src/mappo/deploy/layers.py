"""Plain layers of a single agent's policy: one set of parameters, no closed-form gradients, nothing but standard torch.

Exporters and writers of C code read them; `build` makes them of the layers that were trained.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mappo.core.obs_inputs import ObsInput
from mappo.networks.input_reader import flatten_inputs
from mappo.networks.normalizers import RunningNorm


class Reader(nn.Module):
    """Conversion of raw arrays of an observation to the input of the encoder.

    Numbers are divided by the bounds of their space, and normalised where the team was trained so.

    Args:
        inputs: the arrays, in order.
        is_image: the only array is an image; else all arrays are flattened side by side.
        channels_first: the image is `(C, H, W)`; the encoder reads `(H, W, C)`.
        divisor: `(F,)`, or `(1,)` for all numbers.
        mean: `(F,)` of the numbers after the division; None without normalisation.
        scale: `(F,)`, one over the standard deviation; 0 for constant numbers.
        is_pixel: `(F,)`, True for numbers that are not normalised; None where all are.
        constants: numbers or channels appended to every input: padding, and the agent's id.
    """

    def __init__(
        self,
        inputs: Sequence[ObsInput],
        divisor: Tensor,
        *,
        is_image: bool = False,
        channels_first: bool = False,
        mean: Tensor | None = None,
        scale: Tensor | None = None,
        is_pixel: Tensor | None = None,
        constants: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.is_image = is_image
        self.channels_first = channels_first
        self.divisor: Tensor = nn.Buffer(divisor)
        self.mean = _buffer(mean)
        self.scale = _buffer(scale)
        self.is_pixel = _buffer(is_pixel)
        self.constants = _buffer(constants)

    def forward(self, arrays: Sequence[Tensor]) -> Tensor:
        """Convert arrays `(B, *shape)` to `(B, F)`, or to an image `(B, H, W, C)`."""
        if self.is_image:
            x = arrays[0].to(self.divisor.dtype)
            x = x.movedim(-3, -1) if self.channels_first else x
        else:
            x = flatten_inputs(self.inputs, arrays)
        x = x / self.divisor
        if self.mean is not None and self.scale is not None:
            normalized = ((x - self.mean) * self.scale).clamp(-RunningNorm.LIMIT, RunningNorm.LIMIT)
            x = normalized if self.is_pixel is None else torch.where(self.is_pixel, x, normalized)
        if self.constants is not None:
            x = torch.cat([x, self.constants.expand(*x.shape[:-1], -1)], -1)
        return x


def _buffer(x: Tensor | None) -> Tensor | None:
    return None if x is None else nn.Buffer(x)


class ChannelsFirst(nn.Module):
    """Moves the channels of images, `(B, H, W, C)` to `(B, C, H, W)`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class ReadImages(nn.Module):
    """Images of equal size in flat rows, `(B, F)` to `(B, H, W, C)`, stacked along their channels.

    Args:
        images: the first number, the shape in the row and whether it is `(C, H, W)`, of each image.
    """

    def __init__(self, images: Sequence[tuple[int, tuple[int, int, int], bool]]) -> None:
        super().__init__()
        self.images = tuple(images)

    def forward(self, x: Tensor) -> Tensor:
        stack: list[Tensor] = []
        for start, shape, channels_first in self.images:
            height, width, channels = shape
            image = x[:, start : start + height * width * channels].reshape(-1, *shape)
            stack.append(image.movedim(-3, -1) if channels_first else image)
        return torch.cat(stack, -1)


class ReadNumbers(nn.Module):
    """The numbers beside images in flat rows, `(B, F)` to `(B, n)`.

    Args:
        ranges: first number and end of each range.
    """

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.ranges = tuple(ranges)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, start:end] for start, end in self.ranges], -1)


class Branches(nn.Module):
    """Several encoders of the same rows, and a layer that joins their features.

    Args:
        branches: each maps `(B, F)` to `(B, H)`.
        join: maps the features side by side to `(B, H)`; for a single branch it may be empty.
    """

    def __init__(self, branches: Sequence[nn.Module], join: nn.Sequential) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([branch(x) for branch in self.branches], -1))


class GRUCell(nn.Module):
    """A step of `networks.gru.GRU`.

        r, z = sigmoid(W x + U h),    n = tanh(W x + r * (U h)),    h' = (1 - z) * n + z * h

    Args:
        input: W and its bias, `(in) -> (3 H)`, in the order r, z, n.
        hidden: U and its bias, `(H) -> (3 H)`.
    """

    def __init__(self, input: nn.Linear, hidden: nn.Linear) -> None:
        super().__init__()
        self.input = input
        self.hidden = hidden

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Return the next memory `(B, H)`."""
        x_r, x_z, x_n = self.input(x).chunk(3, -1)
        h_r, h_z, h_n = self.hidden(memory).chunk(3, -1)
        z = torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
        return n + z * (memory - n)
