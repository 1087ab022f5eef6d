"""C calls that read the arrays of an observation."""

from collections.abc import Sequence
from itertools import groupby
from typing import cast

from torch import Tensor

from mappo.core.obs_inputs import ObsInput
from mappo.deploy.c.draft import Array, Draft
from mappo.deploy.c.interface import field_names
from mappo.deploy.layers import Reader


def read_observation(draft: Draft, reader: Reader) -> Array:
    """Read an observation: a flat row `(F,)`, or an image `(C, H, W)`."""
    constants = cast("list[float]", [] if reader.constants is None else reader.constants.tolist())
    if reader.is_image:
        return _read_image(draft, reader, constants)
    size = sum(array.size for array in reader.inputs)
    x = draft.field("input", size + len(constants))
    start = 0
    for array, name in zip(reader.inputs, field_names([x.name for x in reader.inputs]), strict=True):
        _read_array(draft, array, name, Array(x.at(start), (array.size,)))
        start += array.size
    _divide(draft, x.place, size, reader.divisor)
    if reader.mean is not None and reader.scale is not None:
        _normalize(draft, x, reader.mean, reader.scale, reader.is_pixel)
    for value, equal in groupby(constants):
        count = len(list(equal))
        draft.call("fill", x.at(size), count, value)
        size += count
    return x


def _read_image(draft: Draft, reader: Reader, constants: Sequence[float]) -> Array:
    """Read an image, and append its constant channels."""
    (array,) = reader.inputs
    (name,) = field_names([array.name])
    shape = array.shape
    channels, height, width = shape if reader.channels_first else (shape[2], *shape[:2])
    places = height * width
    x = draft.field("image", channels + len(constants), height, width)
    if reader.channels_first:
        _read_array(draft, array, name, x)
    else:
        pixels = draft.field("pixels", *shape)
        _read_array(draft, array, name, pixels)
        draft.call("channels_first", pixels.place, places, channels, x.place)
    _divide(draft, x.place, array.size, reader.divisor)
    for k, value in enumerate(constants, channels):
        draft.call("fill", x.at(k * places), places, value)
    return x


def _read_array(draft: Draft, array: ObsInput, name: str, x: Array) -> None:
    if not array.choices:
        function = "read_bytes" if array.dtype == "uint8" else "read_floats"
        draft.call(function, f"observation->{name}", array.size, x.place)
    start = 0
    for k, (count, first) in enumerate(zip(array.choices, array.start, strict=True)):
        draft.call("read_choice", f"observation->{name}[{k}]", first, count, x.at(start))
        start += count


def _divide(draft: Draft, place: str, size: int, divisor: Tensor) -> None:
    if divisor.numel() > 1:
        draft.call("divide_each", place, size, draft.table("DIVISOR", divisor))
    elif divisor.item() != 1:
        draft.call("divide", place, size, divisor.item())


def _normalize(draft: Draft, x: Array, mean: Tensor, scale: Tensor, is_pixel: Tensor | None) -> None:
    """Normalise the numbers, and leave pixels as they are."""
    size = len(mean)
    tables = [Array(draft.table(name, values), (size,)) for name, values in (("MEAN", mean), ("SCALE", scale))]
    pixels = cast("list[bool]", [False] * size if is_pixel is None else is_pixel.tolist())
    edges = [k for k in range(1, size) if pixels[k] != pixels[k - 1]]
    for start, end in zip([0, *edges], [*edges, size], strict=True):
        if not pixels[start]:
            draft.call("normalize", x.at(start), end - start, *(table.at(start) for table in tables))
