"""Conversion of trained layers, each with a single set of parameters, to plain layers of torch."""

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from mappo.deploy.layers import Branches, ChannelsFirst, ReadImages, ReadNumbers
from mappo.errors import UserError
from mappo.networks.cnn import CNN, PartsEncoder
from mappo.networks.encoders import OneGroup
from mappo.networks.layers import LayerNorm, Linear
from mappo.networks.mlp import MLP

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def convert_encoder(encoder: nn.Module, constants: Tensor | None, agent: str) -> tuple[nn.Module, Tensor | None]:
    """Convert an encoder.

    Numbers that are the same in every input become part of a bias where no layer stands before the first product: the
    file then holds no weights of padding and of other agents' ids.

    Args:
        encoder: the trained encoder; a user's own encoder stays as it is.
        constants: the last numbers or channels of every input; None for none.
        agent: the agent's name, for the message.

    Returns:
        The encoder, and the constants that its inputs must still end with.

    Raises:
        UserError: a user's encoder holds the parameters of several agents.
    """
    if isinstance(encoder, OneGroup):
        raise UserError(
            f"{agent} cannot be exported: its encoder holds the parameters of other agents too. Train with "
            f"network.sharing all, or give the encoder's module a method `select_(group)` that keeps those of one group"
        )
    if type(encoder) is MLP:
        folded = constants if _folds(encoder, constants) else None
        return to_sequential(encoder, folded), None if folded is not None else constants
    if type(encoder) is CNN:
        return nn.Sequential(*_convolutions(encoder), *to_sequential(encoder.mlp)), constants
    if type(encoder) is PartsEncoder:
        folded = constants if encoder.mlp is not None and _folds(encoder.mlp, constants) else None
        return _convert_parts(encoder, folded), None if folded is not None else constants
    return encoder, constants


def _folds(mlp: MLP, constants: Tensor | None) -> bool:
    return constants is not None and not len(mlp.norms) and _in_features(mlp) > len(constants)


def _in_features(mlp: MLP) -> int:
    return cast(Linear, mlp.layers[0]).weight.shape[-1]


def to_sequential(mlp: MLP, constants: Tensor | None = None) -> nn.Sequential:
    """Convert an MLP; the last numbers of its input may be constants, which become part of the first bias."""
    layers = [to_linear(cast(Linear, layer)) for layer in mlp.layers]
    if constants is not None:
        layers[0] = _fold(layers[0], constants)
    norms = [to_layer_norm(cast(LayerNorm, norm)) for norm in mlp.norms]
    stages: list[nn.Module] = [*norms[:1]]
    for k, layer in enumerate(layers, 1):
        stages += [layer, ACTIVATIONS[mlp.activation](), *norms[k : k + 1]]
    return nn.Sequential(*stages)


def _fold(linear: nn.Linear, constants: Tensor) -> nn.Linear:
    """Return the layer for inputs without their last numbers, which are constants."""
    size = linear.in_features - len(constants)
    weight = linear.weight.detach()
    used = constants.nonzero()[:, 0]  # the weights of other agents' ids are not even read
    bias = linear.bias.detach().double() + weight[:, size + used].double() @ constants[used].double()
    return _make_linear(weight[:, :size], bias.float())


def to_linear(layer: Linear, rows: Sequence[int] | None = None) -> nn.Linear:
    """Convert a dense layer, or some of its outputs."""
    index = slice(None) if rows is None else list(rows)
    return _make_linear(layer.weight.detach()[index], layer.bias.detach()[index])


def _make_linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    out_features, in_features = weight.shape
    linear = nn.Linear(in_features, out_features, device="meta")  # no random numbers are drawn
    linear.weight = nn.Parameter(weight.clone(), requires_grad=False)
    linear.bias = nn.Parameter(bias.clone(), requires_grad=False)
    return linear


def to_layer_norm(layer: LayerNorm) -> nn.LayerNorm:
    """Convert a LayerNorm."""
    norm = nn.LayerNorm(layer.weight.shape[-1], eps=layer.EPSILON)
    norm.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias.detach()})
    return norm.requires_grad_(False)


def _convolutions(cnn: CNN) -> list[nn.Module]:
    return [ChannelsFirst(), *cnn.convolutions, nn.Flatten(1)]


def _convert_parts(encoder: PartsEncoder, constants: Tensor | None) -> nn.Module:
    branches: list[nn.Module] = []
    for cnn, stack in zip(encoder.cnns, encoder.images, strict=True):
        images = [(x.start, cast(Any, (*x.shape, 1)[:3]), x.is_channels_first) for x in stack]
        network = cast(CNN, cnn)
        branches.append(nn.Sequential(ReadImages(images), *_convolutions(network), *to_sequential(network.mlp)))
    if encoder.mlp is not None:
        ranges = [(x.start, x.stop) for x in encoder.number_slices]
        if constants is not None:
            ranges = _without_last(ranges, len(constants))
        branches.append(nn.Sequential(ReadNumbers(ranges), *to_sequential(encoder.mlp, constants)))
    if encoder.join is None:
        return branches[0]
    return Branches(branches, to_sequential(encoder.join))


def _without_last(ranges: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """Return the ranges without the last numbers of a row, which belong to ranges at its end."""
    size = max(end for _, end in ranges) - count
    return [(start, min(end, size)) for start, end in ranges if start < size]
