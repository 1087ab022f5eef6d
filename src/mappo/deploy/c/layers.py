"""C calls of the layers of a network."""

from collections.abc import Callable
from typing import Any

from torch import nn

from mappo.deploy.c.draft import Array, Draft
from mappo.deploy.layers import Branches, ChannelsFirst, GRUCell, ReadImages, ReadNumbers
from mappo.errors import UserError


def encode(draft: Draft, module: nn.Module, x: Array) -> Array:
    """Write the layers of an encoder; return its features.

    Raises:
        UserError: C files know no such layer.
    """
    if isinstance(module, nn.Sequential):
        for layer in module:
            x = encode(draft, layer, x)
        return x
    if type(module) not in _WRITERS:
        raise UserError(
            f"a C file holds the encoders mlp and cnn, not the layer {type(module).__name__} of your own encoder: "
            f"use --to onnx"
        )
    return _WRITERS[type(module)](draft, module, x)


def dense(draft: Draft, layer: nn.Linear, x: Array, y: Array) -> Array:
    """Write a dense layer from x to y."""
    weight = draft.table(f"{y.name.upper()}_WEIGHT", layer.weight)
    bias = draft.table(f"{y.name.upper()}_BIAS", layer.bias)
    draft.call("dense", x.place, x.size, weight, bias, y.size, y.place)
    draft.describe("dense", x, y, layer)
    return y


def layer_norm(draft: Draft, layer: nn.LayerNorm, x: Array) -> Array:
    """Write a layer normalisation in place."""
    weight = draft.table("NORM_WEIGHT", layer.weight)
    bias = draft.table("NORM_BIAS", layer.bias)
    draft.call("layer_norm", x.place, x.size, weight, bias)
    draft.describe("layer norm", x, x, layer)
    return x


def recur(draft: Draft, gru: GRUCell, norm: nn.LayerNorm | None, x: Array, memory: Array) -> Array:
    """Write a step of the GRU; return the memory, normalised if set."""
    input_sums = dense(draft, gru.input, x, draft.field("input_sums", 3 * memory.size))
    hidden_sums = dense(draft, gru.hidden, memory, draft.field("hidden_sums", 3 * memory.size))
    draft.call("gru", input_sums.place, hidden_sums.place, memory.size, memory.place)
    if norm is None:
        return memory
    normed = draft.field("normed", memory.size)
    draft.call("read_floats", memory.place, memory.size, normed.place)
    return layer_norm(draft, norm, normed)


def _branches(draft: Draft, branches: Branches, x: Array) -> Array:
    features = [encode(draft, branch, x) for branch in branches.branches]
    joined = draft.field("joined", sum(array.size for array in features))
    start = 0
    for array in features:
        draft.call("read_floats", array.place, array.size, joined.at(start))
        start += array.size
    return encode(draft, branches.join, joined)


def _read_images(draft: Draft, reader: ReadImages, x: Array) -> Array:
    """Write the reading of images with their channels in front."""
    shapes = [(shape[1], shape[2], shape[0]) if is_first else shape for _, shape, is_first in reader.images]
    height, width, _ = shapes[0]
    places = height * width
    stack = draft.field("image", sum(shape[2] for shape in shapes), height, width)
    channel = 0
    for (first, _, is_first), (*_, channels) in zip(reader.images, shapes, strict=True):
        target = stack.at(channel * places)
        if is_first:
            draft.call("read_floats", x.at(first), places * channels, target)
        else:
            draft.call("channels_first", x.at(first), places, channels, target)
        channel += channels
    return stack


def _read_numbers(draft: Draft, reader: ReadNumbers, x: Array) -> Array:
    y = draft.field("numbers", sum(end - start for start, end in reader.ranges))
    position = 0
    for start, end in reader.ranges:
        draft.call("read_floats", x.at(start), end - start, y.at(position))
        position += end - start
    return y


def _hidden(draft: Draft, layer: nn.Linear, x: Array) -> Array:
    return dense(draft, layer, x, draft.field("hidden", layer.out_features))


def _convolve(draft: Draft, layer: nn.Conv2d, x: Array) -> Array:
    filters, _, size, _ = layer.weight.shape
    stride, padding = (int(pair[0]) for pair in (layer.stride, layer.padding))
    height, width = ((n + 2 * padding - size) // stride + 1 for n in x.shape[1:])
    y = draft.field("convolved", filters, height, width)
    weight = draft.table(f"{y.name.upper()}_WEIGHT", layer.weight)
    assert layer.bias is not None
    bias = draft.table(f"{y.name.upper()}_BIAS", layer.bias)
    draft.call("convolve", x.place, *x.shape, weight, bias, filters, size, stride, padding, y.place)
    draft.describe(f"convolution {size} x {size}", x, y, layer)
    return y


def _in_place(function: str) -> Callable[[Draft, Any, Array], Array]:
    def write(draft: Draft, _: nn.Module, x: Array) -> Array:
        draft.call(function, x.place, x.size)
        return x

    return write


def _flatten(_draft: Draft, _layer: nn.Module, x: Array) -> Array:
    return Array(x.place, (x.size,))


def _unchanged(_draft: Draft, _layer: nn.Module, x: Array) -> Array:
    return x


_WRITERS: dict[type[nn.Module], Callable[[Draft, Any, Array], Array]] = {
    Branches: _branches,
    ReadImages: _read_images,
    ReadNumbers: _read_numbers,
    ChannelsFirst: _unchanged,  # images are read with their channels in front
    nn.Flatten: _flatten,
    nn.Conv2d: _convolve,
    nn.Linear: _hidden,
    nn.LayerNorm: layer_norm,
    nn.ReLU: _in_place("relu"),
    nn.Tanh: _in_place("squash"),
}
