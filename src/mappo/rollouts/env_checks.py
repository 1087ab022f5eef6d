"""What an environment gives, held against its Spec and against NaN, before anything learns from it."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, cast

import torch
from torch import Tensor

from mappo.core.protocols import Environment
from mappo.core.timestep import Rollout, TimeStep
from mappo.errors import UserError


def check_first_step(step: Any, env: Environment) -> TimeStep:
    """What the environment shows at its reset, held against its Spec: nothing wrong gets as far as to broadcast."""
    if not isinstance(step, TimeStep):
        raise UserError(f"the environment must answer a TimeStep, got {type(step).__name__}")
    spec, envs = env.spec, env.num_envs
    team = (envs, spec.num_agents)
    state = None if spec.state_shape is None else (envs, *spec.state_shape)
    shapes = dict.fromkeys(("active", "is_first", "reward", "terminated", "next_active"), team)
    shapes |= dict.fromkeys(("obs", "next_obs"), (*team, *spec.obs_shape)) | {"ended": (envs,)}
    for field in fields(step):
        name, value = field.name, getattr(step, field.name)
        expected = state if name in ("state", "next_state") else shapes.get(name, (*team, sum(spec.heads)))
        if value is None and (name == "mask" or expected is None):
            continue
        if not isinstance(value, Tensor):
            raise UserError(
                f"the environment's {name} must be a tensor of shape {expected}, got {type(value).__name__}"
            )
        if tuple(value.shape) != expected:
            raise UserError(f"the environment's {name} must be {expected}, by its Spec, got {tuple(value.shape)}")
        flag = name in ("active", "is_first", "terminated", "ended", "next_active", "mask")
        if flag and value.dtype != torch.bool:
            raise UserError(f"the environment's {name} must be boolean, got {value.dtype}")
    if not step.reward.is_floating_point():
        raise UserError(f"the environment's reward must be floating point, got {step.reward.dtype}")
    return step


def find_nonfinite(rollout: Rollout, env: Environment, seed_slices: Sequence[slice]) -> list[str]:
    """Of each share of the environments the first reward, observation or state that is not finite; "" where all are.

    One question to the device for each rollout; the source is looked for only where the answer is no.
    """
    # What the action reached stands before what came of it a step later, so that the action named is to blame.
    order = ("reward", "next_obs", "next_state", "obs", "state")
    kept = {name: cast(Tensor | None, getattr(rollout, name)) for name in order}
    broken = {
        name: _has_nonfinite(rollout, name) for name, x in kept.items() if x is not None and x.is_floating_point()
    }
    told = [""] * len(seed_slices)
    if not torch.stack([x.any() for x in broken.values()]).any():
        return told
    for k, share in enumerate(seed_slices):
        for name, where in broken.items():
            if told[k] or not where[:, share].any():
                continue
            value = getattr(rollout, name)
            t, e, *rest = cast(list[int], where[:, share].nonzero()[0].tolist())
            e += share.start
            whose = f" of {env.spec.agents[rest[0]]}" if "state" not in name else ""
            told[k] = (
                f"the environment's {name}{whose} is {value[(t, e, *rest)].item()}, in environment {e} of "
                f"{env.num_envs}, at step {t} of the rollout, after action {rollout.action[t, e].tolist()}: "
                f"mend the environment, or clip what it gives"
            )
    return told


def _has_nonfinite(rollout: Rollout, name: str) -> Tensor:
    """Where a field is not finite; what an absent agent sees does not count."""
    broken = ~getattr(rollout, name).isfinite()
    if name not in ("obs", "next_obs"):
        return broken
    there = rollout.active if name == "obs" else rollout.next_active
    return broken & there.reshape(there.shape + (1,) * (broken.ndim - there.ndim))
