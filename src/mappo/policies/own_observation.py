"""Reading of an agent's own observation, as its environment returns it, into a tensor."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from mappo.core.obs_inputs import ObsInput
from mappo.networks.input_reader import flatten_inputs


def read_observation(agent: str, inputs: Sequence[ObsInput], obs: Any, dtype: torch.dtype, keep_image: bool) -> Tensor:
    """Convert an observation to a tensor with all numbers side by side, `(*B, F)`, or to an image in its own shape.

    Args:
        agent: the agent's name, for messages.
        inputs: the arrays of its observation.
        obs: an array, flat or not; or a dict or tuple of arrays. Each may have leading axes `*B`.
        dtype: of observations in the team: uint8, or float32.
        keep_image: the observation is an image, and stays one.

    Raises:
        ValueError: an array is missing, or its shape does not fit.
    """
    if isinstance(obs, Mapping) and "observation" in obs and not inputs[0].path:
        obs = cast(Any, obs)["observation"]  # beside its mask
    if isinstance(obs, Mapping | tuple) and inputs[0].path:
        return _read_arrays(agent, inputs, obs).to(dtype)
    x = to_tensor(obs, dtype)
    size = sum(array.size for array in inputs)
    shape = (size,) if inputs[0].path else inputs[0].shape
    if x.shape[x.ndim - len(shape) :] == shape and not _is_one_hot(inputs[0], x):
        return x if keep_image or inputs[0].path else flatten_inputs(inputs, [x]).to(dtype)
    if keep_image or x.shape[-1:] != (size,):
        raise ValueError(f"{agent} reads observations {('*B', *shape)}, got {tuple(x.shape)}")
    return x


def _read_arrays(agent: str, inputs: Sequence[ObsInput], obs: Any) -> Tensor:
    """Flatten an observation in a dict or a tuple, `(*B, F)`."""
    try:
        arrays = [to_tensor(array.find(obs), getattr(torch, array.dtype)) for array in inputs]
    except KeyError as missing:
        names = ", ".join(array.name for array in inputs)
        raise ValueError(f"{agent} reads {names}, but {missing} is not in its observation") from None
    for array, x in zip(inputs, arrays, strict=True):
        if x.shape[x.ndim - len(array.shape) :] != array.shape:
            raise ValueError(f"{agent} reads {array.name} {('*B', *array.shape)}, got {tuple(x.shape)}")
    return flatten_inputs(inputs, arrays)


def _is_one_hot(array: ObsInput, x: Tensor) -> bool:
    """Return True if an observation of choices comes flattened."""
    if not array.choices or x.shape[-1:] != (array.size,):
        return False
    return bool(((x == 0) | (x == 1)).all() and (x.sum(-1) == len(array.choices)).all())


def to_tensor(obs: Any, dtype: torch.dtype) -> Tensor:
    """Convert an array to a tensor; refuse fractions of 255 where bytes are observed.

    Raises:
        ValueError: it is no array, or holds other numbers than bytes.
    """
    try:
        obs = torch.as_tensor(obs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"an actor reads arrays, got {type(obs).__name__} ({error}): flatten it by gymnasium.spaces.flatten"
        ) from None
    if dtype == torch.uint8 and obs.dtype != torch.uint8:
        if obs.is_floating_point() or obs.lt(0).any() or obs.gt(255).any():
            raise ValueError(f"these agents observe bytes, got {obs.dtype} beyond them")
        obs = obs.to(torch.uint8)
    return obs
