"""Encoders of images, and of observations that hold images beside numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, cast

import torch
from torch import Tensor, nn

from mappo.config import NetworkConfig
from mappo.core.observations import ObsPart, has_images, is_channels_first, padded_parts, part_shapes
from mappo.errors import UserError
from mappo.networks.layers import GAIN
from mappo.networks.mlp import MLP

# Outputs of convolutions in a call on a CPU: rows with large images are computed in pieces, of some GiB at most.
MAX_OUTPUTS = 2**26


class CNN(nn.Module):
    """Convolutions, then an `MLP`, over images `(*B, H, W, C)`.

    Large images get the three layers of Mnih et al. (2015), small images two layers of 3 x 3.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        network_config: NetworkConfig,
        groups: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.groups = groups
        height, width, channels = shape
        large = [(32, 8, 4, 0), (64, 4, 2, 0), (64, 3, 1, 0)]  # channels, kernel, stride, padding
        small = [(16, 3, 1, 1), (32, 3, 2, 1)]
        layers: list[nn.Module] = []
        self.num_outputs = 0  # of all convolutions, for an image
        for out, kernel, stride, padding in large if min(height, width) >= 36 else small:
            conv = _empty_convolution(groups * channels, groups * out, kernel, stride, padding, groups=groups)
            for parameter in (conv.weight, cast(Tensor, conv.bias)):
                # As many random numbers as nn.Conv2d draws: a seed gives the weights that it always gave.
                nn.init.uniform_(parameter, generator=generator)
            for filters in conv.weight.detach().chunk(groups):
                nn.init.orthogonal_(filters, GAIN["relu"], generator)
            nn.init.zeros_(cast(Tensor, conv.bias))
            layers += [conv, nn.ReLU()]
            height, width = ((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
            channels = out
            self.num_outputs += height * width * channels
        self.convolutions = nn.Sequential(*layers)
        features = height * width * channels
        self.mlp = MLP(
            features, network_config.hidden, network_config.activation, network_config.layer_norm, groups, generator
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(*B, H, W, C)`, or `(G, *B, H, W, C)`, to features."""
        lead = x.shape[:-3]
        # Groups side by side as channels: a grouped convolution computes all groups in one call.
        x = x.reshape(self.groups, -1, *x.shape[-3:]).permute(1, 0, 4, 2, 3)  # (B, G, C, H, W)
        y = self.convolutions(x.flatten(1, 2)).unflatten(1, (self.groups, -1))
        return self.mlp(y.flatten(2).transpose(0, 1).reshape(*lead, -1))

    def select_(self, group: int) -> None:
        """Keep the parameters of a single group, as views."""
        for conv in self.convolutions:
            if isinstance(conv, nn.Conv2d):
                conv.weight = nn.Parameter(conv.weight.detach().chunk(self.groups)[group])
                conv.bias = nn.Parameter(cast(Tensor, conv.bias).detach().chunk(self.groups)[group])
                conv.groups = 1
        self.groups = 1
        self.mlp.select_(group)


def _empty_convolution(*sizes: int, groups: int) -> nn.Conv2d:
    """Return a convolution without initial weights: torch would draw them from the random stream of all code."""
    conv = nn.Conv2d(*cast(Any, sizes), groups=groups, device="meta")
    return conv.to_empty(device=torch.get_default_device())


@dataclass(frozen=True)
class _Image:
    """Place of an image in a flat row."""

    start: int
    shape: tuple[int, ...]  # (H, W), (H, W, C) or (C, H, W)
    is_channels_first: bool

    @property
    def hwc(self) -> tuple[int, int, int]:
        """The shape `(H, W, C)`."""
        first, middle, last = (*self.shape, 1)[:3]
        return (middle, last, first) if self.is_channels_first else (first, middle, last)

    def read(self, x: Tensor) -> Tensor:
        """Return the image `(*B, H, W, C)` of rows `(*B, F)`."""
        pixels = x.narrow(-1, self.start, math.prod(self.shape))
        image = pixels.reshape(*x.shape[:-1], *(*self.shape, 1)[:3])
        return image.movedim(-3, -1) if self.is_channels_first else image


class PartsEncoder(nn.Module):
    """Encoder of flat rows with images: a CNN for all images of a size, an MLP for all numbers, and a joint layer.

    Images of a size are stacked along their channels.

    Args:
        parts: the parts of a row, in order.
        network_config: the settings.
        generator: as in `Linear`.
    """

    def __init__(
        self, parts: Sequence[ObsPart], network_config: NetworkConfig, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        images: dict[tuple[int, int], list[_Image]] = {}
        self.number_slices: list[slice] = []
        start = 0
        for part in parts:
            if part.is_image:
                is_first = len(part.shape) == 3 and is_channels_first(part.shape, network_config.channels)
                image = _Image(start, part.shape, is_first)
                images.setdefault(image.hwc[:2], []).append(image)
            else:
                self.number_slices.append(slice(start, start + part.size))
            start += part.size
        self.images = list(images.values())
        self.cnns = nn.ModuleList(
            CNN((*size, sum(image.hwc[2] for image in stack)), network_config, generator=generator)
            for size, stack in images.items()
        )
        hidden = network_config.hidden
        style = (network_config.activation, network_config.layer_norm, 1, generator)
        num_numbers = sum(part.size for part in parts if not part.is_image)
        self.mlp = MLP(num_numbers, hidden, *style) if num_numbers else None
        num_branches = len(self.cnns) + bool(num_numbers)
        self.join = MLP(num_branches * hidden[-1], hidden[-1:], *style) if num_branches > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(*B, F)` to features `(*B, H)`."""
        branches = [
            cnn(torch.cat([image.read(x) for image in stack], -1))
            for cnn, stack in zip(self.cnns, self.images, strict=True)
        ]
        if self.mlp is not None:
            branches.append(self.mlp(torch.cat([x[..., place] for place in self.number_slices], -1)))
        return branches[0] if self.join is None else self.join(torch.cat(branches, -1))


class PartsEncoders(nn.Module):
    """An encoder for each set of parameters, each with its own parts.

    Args:
        encoders: the encoder of each set.
    """

    def __init__(self, encoders: Sequence[PartsEncoder]) -> None:
        super().__init__()
        self.sets = nn.ModuleList(encoders)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(G, *B, F)` to features `(G, *B, H)`."""
        return torch.stack([encoder(rows) for encoder, rows in zip(self.sets, x, strict=True)])


def parts_by_set(sets: Sequence[int], parts: Sequence[Sequence[ObsPart]], features: int) -> list[Sequence[ObsPart]]:
    """Return the parts of flat rows of each parameter set; empty without images.

    Args:
        sets: the set of each agent; empty for rows without agents.
        parts: the parts of the rows of each agent, or of the team.
        features: size of a row, with an id.

    Raises:
        UserError: agents of a set have other parts.
    """
    if not has_images(*parts):
        return []
    by_set: dict[int, Sequence[ObsPart]] = {}
    for name, agent_parts in sorted(zip(sets or (0,), parts, strict=True), key=itemgetter(0)):
        if part_shapes(by_set.setdefault(name, agent_parts)) != part_shapes(agent_parts):
            raise UserError(
                "agents with images of other kinds, or with and without images, share parameters: use "
                "network.sharing group or none, or network.encoder mlp"
            )
    return [padded_parts(tuple(set_parts), features) for set_parts in by_set.values()]


def pixel_mask(rows: Sequence[Sequence[ObsPart]]) -> Tensor | None:
    """Return True for the numbers of flat rows that are pixels, `(A, F)`, or `(1, F)` for equal rows; None without."""
    if not has_images(*rows):
        return None
    kinds = rows[:1] if len(set(map(tuple, rows))) == 1 else rows
    return torch.stack([torch.cat([torch.full((part.size,), part.is_image) for part in row]) for row in kinds])
