"""What turns an observation into features: `mlp` for vectors, `cnn` for images, and those that users add."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from mappo.config import NetworkConfig
from mappo.errors import UserError
from mappo.networks.layers import GAIN, LayerNorm, Linear

# (groups, shape of one input, settings) -> a module with so many sets of parameters that maps (*B, *shape), or
# (G, *B, *shape) of several sets, to as many features as the last hidden layer has. `layers.Linear` has the sets.
EncoderMaker = Callable[[int, tuple[int, ...], NetworkConfig], nn.Module]


class MLP(nn.Module):
    """`depth` times Linear, activation and, if asked for, LayerNorm: the paper's order.

    Args:
        in_features: size of the input's last axis.
        hidden: the width of each layer.
        activation: `relu` or `tanh`.
        layer_norm: LayerNorm behind each activation, and on the input (the paper's `feature_normalization`).
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
        norms: list[LayerNorm] = [*cast(Any, self.norms)]
        activation = torch.relu if self.activation == "relu" else torch.tanh
        # tanh(z) = 2 (sigmoid(2 z) - 1/2). On a CPU tanh itself takes longer than the product beside it; factors cost
        # nothing where the next matrix, or a LayerNorm, takes them in. In bf16 the 1/2 would leave no digit near 0.
        exact = bool(norms) or not torch.is_autocast_enabled("cpu")
        cheap = self.activation == "tanh" and x.device.type == "cpu" and exact
        x = norms[0](x) if norms else x
        factor = 1.0
        for k, layer in enumerate(self.layers):
            x = torch.sigmoid(layer(x, 2.0, factor)) if cheap else activation(layer(x))
            if norms:
                x = norms[k + 1](x, LayerNorm.EPSILON / 4 if cheap else LayerNorm.EPSILON)
            elif cheap:
                x, factor = x - 0.5, 2.0
        return x if factor == 1 else x * factor


class CNN(nn.Module):
    """Convolutions, then an `MLP`, over images `(*B, H, W, C)`.

    Large images get the three layers of Mnih et al. (2015), small ones two of 3 x 3.
    """

    def __init__(self, shape: tuple[int, int, int], network_config: NetworkConfig, groups: int = 1) -> None:
        super().__init__()
        self.groups, (height, width, channels) = groups, shape
        large = [(32, 8, 4, 0), (64, 4, 2, 0), (64, 3, 1, 0)]
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
        self.mlp = MLP(
            height * width * channels,
            network_config.hidden,
            network_config.activation,
            network_config.layer_norm,
            groups,
        )

    def forward(self, x: Tensor) -> Tensor:
        lead, (height, width, channels) = x.shape[:-3], x.shape[-3:]
        # Groups side by side as channels: a grouped convolution takes them all at once.
        x = x.reshape(self.groups, -1, height, width, channels).permute(1, 0, 4, 2, 3)
        y = self.convolutions(x.flatten(1, 2)).unflatten(1, (self.groups, -1))
        return self.mlp(y.flatten(2).transpose(0, 1).reshape(*lead, -1))


def _make_mlp(groups: int, shape: tuple[int, ...], network_config: NetworkConfig) -> nn.Module:
    if len(shape) != 1:
        raise UserError(f"network.encoder mlp reads vectors, not inputs of shape {shape}: use cnn or auto")
    return MLP(shape[0], network_config.hidden, network_config.activation, network_config.layer_norm, groups)


def _make_cnn(groups: int, shape: tuple[int, ...], network_config: NetworkConfig) -> nn.Module:
    if len(shape) != 3:
        return _make_mlp(groups, shape, network_config)  # a critic may read a vector where the actor sees images
    return CNN(shape, network_config, groups)


ENCODERS: dict[str, EncoderMaker] = {"mlp": _make_mlp, "cnn": _make_cnn}


def register_encoder(name: str) -> Callable[[EncoderMaker], EncoderMaker]:
    """Adds an encoder that `network.encoder` then may name; see `examples/custom_network.py`.

    Raises:
        UserError: the name is taken by a built-in one, or is not a name.
    """
    if not isinstance(name, str) or name in ("auto", "mlp", "cnn"):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"@mappo.register_encoder(NAME) needs a name of its own, got {name!r}")

    def register(maker: EncoderMaker) -> EncoderMaker:
        ENCODERS[name] = maker
        return maker

    return register


def make_encoder(groups: int, shape: tuple[int, ...], network_config: NetworkConfig) -> nn.Module:
    """The encoder that the settings name; `auto` is `cnn` for images, else `mlp`.

    Raises:
        UserError: there is none of this name, or it does not read this shape.
    """
    name = ("cnn" if len(shape) == 3 else "mlp") if network_config.encoder == "auto" else network_config.encoder
    if name not in ENCODERS:
        raise UserError(
            f"network.encoder {name!r} is not known; there are: auto, {', '.join(ENCODERS)}. "
            f"One of your own must be registered first: import the module that calls mappo.register_encoder"
        )
    encoder = ENCODERS[name](groups, shape, network_config)
    if name not in ("mlp", "cnn"):
        _check_encoder(name, encoder, (2,) if groups == 1 else (groups, 2), shape, network_config.hidden[-1])
    return encoder


@torch.no_grad()
def _check_encoder(name: str, encoder: nn.Module, rows: tuple[int, ...], shape: tuple[int, ...], width: int) -> None:
    """Raises UserError where an encoder of the user's own does not answer what it should to zeros."""
    zeros = torch.zeros(*rows, *shape, dtype=torch.get_default_dtype())
    told = f"network.encoder {name} was given {tuple(zeros.shape)} and should answer {(*rows, width)}"
    try:
        answer: object = encoder(zeros)
    except Exception as error:
        raise UserError(f"{told}; it failed: {type(error).__name__} {error}") from error
    if not isinstance(answer, Tensor) or answer.shape != (*rows, width):
        raise UserError(f"{told}, not {tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__}")
