"""Encoders, from an observation to features: `mlp` for vectors, `cnn` for images, and encoders of the user's own."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from mappo.config import NetworkConfig
from mappo.errors import UserError
from mappo.networks.layers import GAIN, LayerNorm, Linear

# (groups, shape of one input, settings) -> a module with `groups` sets of parameters. The module maps (*B, *shape), or
# (G, *B, *shape) with several sets, to as many features as the last hidden layer has; see `layers.Linear`.
EncoderMaker = Callable[[int, tuple[int, ...], NetworkConfig], nn.Module]


class MLP(nn.Module):
    """Linear layers, each followed by the activation and, if set, by LayerNorm: the order of the paper.

    Args:
        in_features: size of the input's last axis.
        hidden: the width of each layer.
        activation: `relu` or `tanh`.
        layer_norm: LayerNorm after each activation and on the input (the paper's `feature_normalization`).
        groups: as in `Linear`.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        activation: str = "relu",
        layer_norm: bool = False,
        groups: int = 1,
    ) -> None:
        super().__init__()
        sizes = [in_features, *hidden]
        self.layers = nn.ModuleList(Linear(groups, a, b, GAIN[activation]) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(LayerNorm(groups, n) for n in (sizes if layer_norm else ()))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map `(*B, in)` to `(*B, hidden[-1])`."""
        norms: list[LayerNorm] = [*cast(Any, self.norms)]
        activation = torch.relu if self.activation == "relu" else torch.tanh
        # tanh(z) = 2 (sigmoid(2 z) - 1/2). On a CPU tanh takes longer than the matrix product beside it, and the
        # factors cost nothing inside the next matrix or LayerNorm. In bf16 the 1/2 would leave no digit near 0.
        exact = bool(norms) or not torch.is_autocast_enabled("cpu")
        by_sigmoid = self.activation == "tanh" and x.device.type == "cpu" and exact
        x = norms[0](x) if norms else x
        factor = 1.0
        for k, layer in enumerate(self.layers):
            x = torch.sigmoid(layer(x, 2.0, factor)) if by_sigmoid else activation(layer(x))
            if norms:
                x = norms[k + 1](x, LayerNorm.EPSILON / 4 if by_sigmoid else LayerNorm.EPSILON)
            elif by_sigmoid:
                x = x - 0.5
                factor = 2.0
        return x if factor == 1 else x * factor

    def select_(self, group: int) -> None:
        """Keep the parameters of a single group, as views."""
        for module in (*self.layers, *self.norms):
            cast(Linear, module).select_(group)


class CNN(nn.Module):
    """Convolutions, then an `MLP`, over images `(*B, H, W, C)`.

    Large images get the three layers of Mnih et al. (2015), small images two layers of 3 x 3.
    """

    def __init__(self, shape: tuple[int, int, int], network_config: NetworkConfig, groups: int = 1) -> None:
        super().__init__()
        self.groups = groups
        height, width, channels = shape
        large = [(32, 8, 4, 0), (64, 4, 2, 0), (64, 3, 1, 0)]  # channels, kernel, stride, padding
        small = [(16, 3, 1, 1), (32, 3, 2, 1)]
        layers: list[nn.Module] = []
        for out, kernel, stride, padding in large if min(height, width) >= 36 else small:
            conv = nn.Conv2d(groups * channels, groups * out, kernel, stride, padding, groups=groups)
            for filters in conv.weight.detach().chunk(groups):
                nn.init.orthogonal_(filters, GAIN["relu"])
            nn.init.zeros_(cast(Tensor, conv.bias))
            layers += [conv, nn.ReLU()]
            height, width = ((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
            channels = out
        self.convolutions = nn.Sequential(*layers)
        features = height * width * channels
        self.mlp = MLP(features, network_config.hidden, network_config.activation, network_config.layer_norm, groups)

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


class _OneGroup(nn.Module):
    """A single group of a user's encoder: computes all groups and selects the group."""

    def __init__(self, encoder: nn.Module, num_groups: int, group: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_groups = num_groups
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x.expand(self.num_groups, *x.shape))[self.group]


def select_encoder(encoder: nn.Module, num_groups: int, group: int) -> nn.Module:
    """Return a single group of an encoder, for inputs `(*B, *shape)`; built-in encoders are changed in place."""
    if not isinstance(encoder, MLP | CNN):
        return _OneGroup(encoder, num_groups, group)
    encoder.select_(group)
    return encoder


def _make_mlp(groups: int, shape: tuple[int, ...], network_config: NetworkConfig) -> nn.Module:
    if len(shape) != 1:
        raise UserError(f"network.encoder mlp reads vectors, not inputs of shape {shape}: use cnn or auto")
    return MLP(shape[0], network_config.hidden, network_config.activation, network_config.layer_norm, groups)


def _make_cnn(groups: int, shape: tuple[int, ...], network_config: NetworkConfig) -> nn.Module:
    if len(shape) != 3:
        return _make_mlp(groups, shape, network_config)  # a critic may read a vector where the actor reads images
    return CNN(shape, network_config, groups)


BUILT_IN: dict[str, EncoderMaker] = {"mlp": _make_mlp, "cnn": _make_cnn}
ENCODERS = dict(BUILT_IN)


def register_encoder(name: str) -> Callable[[EncoderMaker], EncoderMaker]:
    """Register an encoder under a name for `network.encoder`; see `examples/custom_network.py`.

    Raises:
        UserError: the name belongs to a built-in encoder, or is not a string.
    """
    if not isinstance(name, str) or name in ("auto", *BUILT_IN):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"@mappo.register_encoder(NAME) needs a name of its own, got {name!r}")

    def register(maker: EncoderMaker) -> EncoderMaker:
        ENCODERS[name] = maker
        return maker

    return register


def make_encoder(groups: int, shape: tuple[int, ...], network_config: NetworkConfig) -> nn.Module:
    """Build the encoder named by the settings; `auto` is `cnn` for images, else `mlp`.

    Raises:
        UserError: no encoder has this name, or the encoder does not read this shape.
    """
    name = network_config.encoder
    if name == "auto":
        name = "cnn" if len(shape) == 3 else "mlp"
    if name not in ENCODERS:
        raise UserError(
            f"network.encoder {name!r} is not known; there are: auto, {', '.join(ENCODERS)}. "
            f"An encoder of your own must be registered first: import the module with the call of "
            f"mappo.register_encoder"
        )
    encoder = ENCODERS[name](groups, shape, network_config)
    if name not in BUILT_IN:
        _check_encoder(name, encoder, (2,) if groups == 1 else (groups, 2), shape, network_config.hidden[-1])
    return encoder


@torch.no_grad()
def _check_encoder(name: str, encoder: nn.Module, rows: tuple[int, ...], shape: tuple[int, ...], width: int) -> None:
    """Raise UserError where a user's encoder does not return `(*rows, width)` for zeros `(*rows, *shape)`."""
    zeros = torch.zeros(*rows, *shape, dtype=torch.get_default_dtype())
    message = f"network.encoder {name} was given {tuple(zeros.shape)} and should return {(*rows, width)}"
    try:
        output: object = encoder(zeros)
    except Exception as error:
        raise UserError(f"{message}; it failed: {type(error).__name__} {error}") from error
    if not isinstance(output, Tensor) or output.shape != (*rows, width):
        result = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"{message}, not {result}")
