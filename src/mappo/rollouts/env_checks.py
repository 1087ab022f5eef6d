"""Checks of an environment's tensors, against its `Spec` and for NaN and infinity, before anything learns from them."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, cast

import torch
from torch import Tensor

from mappo.core.protocols import Environment
from mappo.core.timestep import Rollout, TimeStep
from mappo.errors import UserError
from mappo.functional.shapes import append_axes

OF_AGENTS = {"obs": "active", "next_obs": "next_active"}  # fields of which those of absent agents may hold anything
FLAGS = ("active", "is_first", "terminated", "ended", "next_active", "mask")


def check_first_step(step: Any, env: Environment) -> TimeStep:
    """Check the step returned by `reset` against the environment's Spec, to prevent broadcasting later.

    Raises:
        UserError: the step is no `TimeStep`, or a field has a wrong type, shape or dtype.
    """
    if not isinstance(step, TimeStep):
        raise UserError(f"the environment must return a TimeStep, got {type(step).__name__}")
    spec = env.spec
    team = (env.num_envs, spec.num_agents)
    state_shape = None if spec.state_shape is None else (env.num_envs, *spec.state_shape)
    shapes = dict.fromkeys(("active", "is_first", "reward", "terminated", "next_active"), team)
    shapes |= dict.fromkeys(("obs", "next_obs"), (*team, *spec.obs_shape))
    shapes |= {"ended": (env.num_envs,), "mask": (*team, sum(spec.heads))}
    for field in fields(step):
        name = field.name
        value = getattr(step, name)
        expected = state_shape if name in ("state", "next_state") else shapes[name]
        if value is None and (name == "mask" or expected is None):
            continue
        if not isinstance(value, Tensor):
            raise UserError(
                f"the environment's {name} must be a tensor of shape {expected}, got {type(value).__name__}"
            )
        if tuple(value.shape) != expected:
            raise UserError(f"the environment's {name} must be {expected}, by its Spec, got {tuple(value.shape)}")
        if name in FLAGS and value.dtype != torch.bool:
            raise UserError(f"the environment's {name} must be boolean, got {value.dtype}")
    if not step.reward.is_floating_point():
        raise UserError(f"the environment's reward must be floating point, got {step.reward.dtype}")
    return step


def check_like_reset(name: str, value: Tensor | None, target: Tensor | None) -> None:
    """Check a field of a later step against its place in the rollout, which the step of the reset has shaped.

    Raises:
        UserError: the field is given at the reset alone, or later alone; or its shape or dtype has changed.
    """
    if value is None and target is None:
        return
    if value is None or target is None:
        raise UserError(f"the environment's {name} must be given at the reset and at every step, or never")
    if value.dtype != target.dtype:  # copying would round
        raise UserError(f"the environment's {name} was {target.dtype} at the reset and is {value.dtype} now")
    if value.shape != target.shape:  # copying would broadcast
        raise UserError(
            f"the environment's {name} must be {tuple(target.shape)} as at the reset, got {tuple(value.shape)}"
        )


def find_nonfinite(
    rollout: Rollout, env: Environment, seed_slices: Sequence[slice], rank: int = 0, num_ranks: int = 1
) -> list[str]:
    """Find the first non-finite reward, observation or state of each seed.

    The device is asked once for each rollout, and the source is searched only after a non-finite number.

    Args:
        rollout: T steps of E environments.
        env: the environments.
        seed_slices: the environments of each seed.
        rank: process of these environments.
        num_ranks: processes with equally many environments; messages count the environments of all.

    Returns:
        A message for each slice of the environments; "" where all numbers are finite.
    """
    # next_obs stands before obs, to name the action at fault.
    order = ("reward", "next_obs", "next_state", "obs", "state")
    values = {name: cast(Tensor | None, getattr(rollout, name)) for name in order}
    # Bytes are always finite; a copy of large images would take gigabytes.
    floats = {name: x for name, x in values.items() if x is not None and x.is_floating_point()}
    messages = [""] * len(seed_slices)
    if torch.stack([_has_finite_sum(rollout, name, x) for name, x in floats.items()]).all():
        return messages
    nonfinite = {name: _nonfinite(rollout, name, x) for name, x in floats.items()}
    for k, envs in enumerate(seed_slices):
        for name, where in nonfinite.items():
            if not messages[k] and where[:, envs].any():
                t, e, *rest = cast(list[int], where[:, envs].nonzero()[0].tolist())
                number = f"{rank * env.num_envs + e + envs.start} of {num_ranks * env.num_envs}"
                messages[k] = _message(rollout, env, name, (t, e + envs.start, *rest), number)
    return messages


def _message(rollout: Rollout, env: Environment, name: str, index: tuple[int, ...], number: str) -> str:
    """Return the message for a number at `(t, e, ...)`; `number` names the environment."""
    t, e, *rest = index
    agent = f" of {env.spec.agents[rest[0]]}" if "state" not in name else ""
    value = f"{getattr(rollout, name)[index].item()}"
    beyond = "" if value == "nan" else "; numbers beyond 3.4e38 count as infinite"
    return (
        f"the environment's {name}{agent} is {value}, in environment {number}, "
        f"at step {t} of the rollout, after action {rollout.action[t, e].tolist()}: "
        f"correct the environment, or clip its output{beyond}"
    )


def _has_finite_sum(rollout: Rollout, name: str, value: Tensor) -> Tensor:
    """Return whether the sum of a field is finite, as of no field with NaN or infinity; a tenth of the exact search."""
    if name in OF_AGENTS:
        value = value.flatten(3).sum(-1).where(getattr(rollout, OF_AGENTS[name]), 0)
    return value.sum().isfinite()


def _nonfinite(rollout: Rollout, name: str, value: Tensor) -> Tensor:
    """Return where a field is not finite; observations of absent agents do not count."""
    nonfinite = ~value.isfinite()
    if name not in OF_AGENTS:
        return nonfinite
    return nonfinite & append_axes(getattr(rollout, OF_AGENTS[name]), nonfinite.ndim)
