"""Conversion of a Spec to and from the JSON in `config.json`."""

import math
import re
from dataclasses import asdict
from typing import Annotated, Any, cast

import numpy as np
from gymnasium import spaces

from mappo.config.bounds import above, between, coerce, read_field
from mappo.core.obs_inputs import ObsInput
from mappo.core.observations import ObsPart
from mappo.core.spec import ActionHeads, Spec
from mappo.errors import UserError
from mappo.system.safe_read import MAX_JSON, parse_json, quote

# Limits of an untrusted file, checked before memory of the stated size is allocated.
MAX_AGENTS = 10_000
MAX_OBS_SIZE = 1 << 26
MAX_CHOICES = 1 << 24

_DTYPE = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")
_Ints = tuple[Annotated[int, between(-(2**31), 2**31 - 1)], ...]
_Scales = tuple[Annotated[float, above(0)], ...]
_Objects = tuple[dict[str, Any], ...]


def spec_to_dict(spec: Spec) -> dict[str, Any]:
    """Return a Spec as JSON values."""
    return {
        "agents": spec.agents,
        "obs": [
            {
                "shape": space.shape,
                "dtype": str(space.dtype),
                "parts": list(map(asdict, parts)),
                "inputs": [asdict(x) | {"low": _finite(x.low), "high": _finite(x.high)} for x in inputs],
            }
            for space, parts, inputs in zip(spec.obs_spaces, spec.obs_parts, spec.obs_inputs, strict=True)
        ],
        "heads": [asdict(h) | {"low": _finite(h.low), "high": _finite(h.high)} for h in spec.action_heads],
        "groups": spec.groups,
        "state_shape": spec.state_shape,
        "state_parts": list(map(asdict, spec.state_parts)),
        "shared_reward": spec.shared_reward,
        "late_rewards": spec.late_rewards,
    }


def spec_from_dict(data: dict[str, Any]) -> Spec:
    """Return the Spec of JSON values, the inverse of `spec_to_dict`.

    Raises:
        UserError, TypeError, ValueError: the data is damaged, or larger than the limits above.
    """
    agents = read_field(data, "agents", tuple[str, ...])
    if len(agents) > MAX_AGENTS or len(set(agents)) < len(agents) or any(len(name) > 1000 for name in agents):
        raise UserError(f"'agents' must be up to {MAX_AGENTS:,} names, each of them once")
    obs = read_field(data, "obs", _Objects)
    arrays = [_read_array(x) for x in obs]
    state_shape = read_field(data, "state_shape", _Ints | None)
    # Equal observation spaces share a Box. The bounds of a Box are arrays of the observation's size.
    _limit("observe", max(sum(math.prod(shape) for shape, _ in set(arrays)), math.prod(state_shape or ())))
    boxes = {array: _box(array[0], np.dtype(array[1])) for array in set(arrays)}
    all_bytes = all(dtype == "uint8" for _, dtype in arrays)
    obs_parts = tuple(
        _read_parts(x["parts"], shape) if "parts" in x else _unscaled_part(shape, all_bytes)
        for x, (shape, _) in zip(obs, arrays, strict=True)
    )
    padded_size = len(agents) * max((sum(part.size for part in parts) for parts in obs_parts), default=0)
    if len(set(obs_parts)) > 1:
        _limit("observe", padded_size)
    # Runs of earlier versions know no arrays; their observations are flat.
    inputs = tuple(_read_inputs(x["inputs"], shape) for x, (shape, _) in zip(obs, arrays, strict=True) if "inputs" in x)
    heads = tuple(_read_heads(x) for x in read_field(data, "heads", _Objects))
    choices = len(agents) * max((sum(h.categorical) + h.size for h in heads), default=0)
    _limit("choose among", choices, MAX_CHOICES, "actions")
    return Spec(
        agents=agents,
        obs_spaces=tuple(boxes[array] for array in arrays),
        action_heads=heads,
        groups=read_field(data, "groups", _Ints),
        state_shape=state_shape,
        shared_reward=read_field(data, "shared_reward", bool),
        late_rewards="late_rewards" in data and read_field(data, "late_rewards", bool),
        obs_parts=obs_parts,
        state_parts=_read_parts(data["state_parts"], state_shape or ()) if data.get("state_parts") else (),
        obs_inputs=inputs if len(inputs) == len(obs) else (),
    )


def _limit(verb: str, size: int, limit: int = MAX_OBS_SIZE, things: str = "numbers") -> None:
    if size > limit:
        raise UserError(f"the agents {verb} {size:,} {things}, more than the limit of {limit:,}")


def check_readable(text: str) -> None:
    """Check the text of a `config.json`: a run that is not read again would be lost.

    Raises:
        UserError: the text is too long, or its Spec larger than the limits above.
    """
    try:
        if len(text) > MAX_JSON:
            raise UserError(f"config.json would have {len(text):,} characters, more than the limit of {MAX_JSON:,}")
        spec_from_dict(parse_json(text)["spec"])
    except (TypeError, ValueError) as error:  # UserError is a ValueError
        raise UserError(f"a run in this environment could never be read again: {error}") from None


def _finite(bounds: tuple[float, ...]) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in bounds]  # JSON has no infinity


def _read_array(data: dict[str, Any]) -> tuple[tuple[int, ...], str]:
    """Return shape and dtype of an observation."""
    shape = read_field(data, "shape", _Ints)
    dtype = read_field(data, "dtype", str)
    if not _DTYPE.fullmatch(dtype):
        raise UserError(f"'dtype' must be a numeric array dtype, got {quote(repr(dtype))}")
    if len(shape) > 8 or min(shape, default=1) < 0:
        raise UserError(f"'shape' must be an array shape, got {quote(repr(shape))}")
    return shape, dtype


def _read_parts(data: Any, shape: tuple[int, ...]) -> tuple[ObsPart, ...]:
    """Return the parts of an observation or state of this shape."""
    parts: list[ObsPart] = []
    for item in coerce("'parts'", data, _Objects):
        part = ObsPart(read_field(item, "shape", _Ints), read_field(item, "scale", _Scales))
        if not 1 <= len(part.shape) <= 3 or min(part.shape) < 0 or len(part.scale) not in (1, part.size):
            raise UserError(f"'parts' must be images or numbers, got {quote(repr(item))}")
        parts.append(part)
    is_wrong_image = len(shape) == 3 and [len(part.shape) for part in parts] != [3]
    if is_wrong_image or sum(part.size for part in parts) != math.prod(shape):
        raise UserError(f"'parts' must fill an array of shape {quote(repr(shape))}")
    return tuple(parts)


def _unscaled_part(shape: tuple[int, ...], all_bytes: bool) -> tuple[ObsPart, ...]:
    """Return the part of an observation of an earlier version, whose networks scaled images of bytes alone."""
    if len(shape) == 3:
        return (ObsPart(shape, (255.0 if all_bytes else 1.0,)),)
    return (ObsPart((math.prod(shape),)),)


def _read_inputs(data: Any, shape: tuple[int, ...]) -> tuple[ObsInput, ...]:
    """Return the arrays of an observation of this shape."""
    inputs: list[ObsInput] = []
    for item in coerce("'inputs'", data, _Objects):
        path = cast("list[Any]", item.get("path"))
        if type(path) not in (list, tuple) or not all(type(x) in (int, str) for x in path):
            raise UserError(f"'path' must be a list of keys, got {quote(repr(path))}")
        own_shape, choices, start = (read_field(item, name, _Ints) for name in ("shape", "choices", "start"))
        low, high = _read_bounds(item)
        array = ObsInput(tuple(path), own_shape, read_field(item, "dtype", str), low, high, choices, start)
        dtypes = ("int64",) if choices else ("uint8", "float32")
        is_sized = min((*own_shape, *choices), default=0) >= 0 and all(
            len(x) in (0, 1, array.size) for x in (low, high)
        )
        is_choice = len(choices) == len(start) == math.prod(own_shape) if choices else not start
        if array.dtype not in dtypes or not is_sized or not is_choice:
            raise UserError(f"'inputs' must be arrays of numbers or of choices, got {quote(repr(item))}")
        inputs.append(array)
    names = [array.name for array in inputs]
    if not names or sum(x.size for x in inputs) != math.prod(shape) or len(set(names)) < len(names):
        raise UserError(f"'inputs' must have names of their own and fill an array of shape {quote(repr(shape))}")
    return tuple(inputs)


def _read_bounds(data: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the lower and upper bounds of numbers; None stands for no bound, since JSON has no infinity."""
    low = tuple(-math.inf if x is None else x for x in read_field(data, "low", tuple[float | None, ...]))
    high = tuple(math.inf if x is None else x for x in read_field(data, "high", tuple[float | None, ...]))
    return low, high


def _read_heads(data: dict[str, Any]) -> ActionHeads:
    low, high = _read_bounds(data)
    categorical = read_field(data, "categorical", _Ints)
    start = read_field(data, "start", _Ints)
    shape = read_field(data, "shape", _Ints)
    if len(start) != len(categorical) or math.prod(shape) != len(categorical) + len(low):
        raise UserError("'start' and 'shape' must fit the action heads")
    return ActionHeads(categorical, low, high, start, shape)


def _box(shape: tuple[int, ...], dtype: np.dtype[Any]) -> spaces.Box:
    """Return the widest Box of a dtype: bounds have no effect on a network."""
    if dtype.kind == "f":
        return spaces.Box(-np.inf, np.inf, shape, cast(Any, dtype.type))
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return spaces.Box(low, high, shape, cast(Any, dtype.type))
