"""Checks of an environment and of its values, shared by training and `mappo check`. Loads no torch.

Each function returns the broken rule as a `Finding`, or None. All of them run at each step, and are kept cheap.
"""

import inspect
import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from mappo.core.observations import ObsPart
from mappo.envs.vector.rules import Finding, broken

METHODS = ("observation_space", "action_space", "reset", "step")
MOST_PIXELS = 20_000  # of an image; 84 x 84 is usual
_RETURN_SIZES = {"reset": 2, "step": 5}


def check_api(env: Any) -> Finding | None:
    """Check an object for the attributes of an environment of PettingZoo's Parallel API."""
    if env is None:
        return broken("none")
    if hasattr(env, "agent_iter"):
        return broken("turn-based")
    missing = [name for name in ("possible_agents", *METHODS) if not hasattr(env, name)]
    missing += [f"method {name}" for name in METHODS if name not in missing and not callable(getattr(env, name))]
    if missing:
        return broken("missing", names=", no ".join(missing))
    signature = needed_arguments(getattr(env, "state", None))
    problem = broken("state-arguments", signature=signature) if signature else None
    return check_possible(env.possible_agents) or problem


def check_possible(possible: Any) -> Finding | None:
    """Check `possible_agents` for names that tell the agents apart, in other processes and as text in files too."""
    if not isinstance(possible, Iterable):
        return broken("agents", agents=short(possible), problem="this is no list")
    agents = list(cast("Iterable[Any]", possible))
    problem = "there is no agent" if not agents else _name_problem(agents)
    return broken("agents", agents=short(agents), problem=problem) if problem else None


def _name_problem(agents: list[Any]) -> str:
    try:
        is_ambiguous = len(set(agents)) < len(agents)
    except TypeError:
        return "names must be keys of a dict"
    if any(type(a).__str__ is object.__str__ and type(a).__repr__ is object.__repr__ for a in agents):
        return "an object is no name, for another process has other objects"
    texts = list(map(str, agents))
    twin = next((text for text in texts if texts.count(text) > 1), None)
    if twin is not None:
        return f"two agents are {twin} as text"
    return "two names are equal, and one key of a dict" if is_ambiguous else ""


def needed_arguments(method: Any) -> str:
    """Return the signature of a method that cannot be called without arguments; "" for any other object."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # not callable, or compiled
        return ""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    is_needed = any(p.default is p.empty and p.kind not in variadic for p in signature.parameters.values())
    return str(signature) if is_needed else ""


def check_space(what: str, space: Any, agent: Any) -> Finding | None:
    """Check the result of `observation_space` or `action_space`, called `what`, for a space of gymnasium."""
    if isinstance(space, spaces.Space):
        return None
    is_old = any(kind.__module__.partition(".")[0] == "gym" for kind in type(space).__mro__)
    return broken("old-gym" if is_old else "no-space", agent, what=what, space=short(space))


def check_seed(error: BaseException) -> Finding | None:
    """Check an error of `reset(seed=...)` for the complaint about `seed`."""
    is_seedless = isinstance(error, TypeError) and "'seed'" in str(error)
    return broken("reset-seed", error=error) if is_seedless else None


def check_return(call: str, result: Any) -> Finding | None:
    """Check the result of `reset` for two dicts by agent, or the result of `step` for five; infos may be None."""
    if isinstance(result, tuple):
        values = cast("tuple[Any, ...]", result)
        if len(values) == _RETURN_SIZES[call] and set(map(type, values)) == {dict}:
            return None  # the common case, without the slow `isinstance`
        dicts = values[:-1] if values and values[-1] is None else values
        if len(values) == _RETURN_SIZES[call] and all(isinstance(x, Mapping) for x in dicts):
            return None
        return broken(f"{call}-return", kinds=f"({', '.join(type(x).__name__ for x in values)})")
    return broken(f"{call}-return", kinds=type(result).__name__)


def check_names(what: str, names: Mapping[Any, Any], possible: Mapping[Any, Any]) -> Finding | None:
    """Check the names in a dict called `what` against `possible`, the names of `possible_agents` in order."""
    if names.keys() <= possible.keys():
        return None
    stranger = next(name for name in names if name not in possible)
    return broken("unknown-agent", stranger, what=what, possible=", ".join(map(str, possible)))


def check_same_agents(possible: Any, names: Mapping[Any, Any]) -> Finding | None:
    """Check `possible_agents` after a reset against `names`, those at the start."""
    agents = list(possible)
    return None if set(names) == set(agents) else broken("possible-agents-changed", agents=agents)


def check_shared(rewards: list[float]) -> Finding | None:
    """Check finite rewards of the agents that acted for a single number, where `shared_reward` is True."""
    if not math.isfinite(sum(rewards)) or not rewards or max(rewards) - min(rewards) <= 1e-6 * max(map(abs, rewards)):
        return None
    return broken("not-shared", rewards=", ".join(f"{r:g}" for r in sorted(set(rewards))))


def check_reward(agent: Any, reward: Any) -> float | Finding:
    """Return a reward as a number, infinite and NaN included; or the finding for anything but a number."""
    if isinstance(reward, int | float):
        try:
            return float(reward)
        except OverflowError:
            return broken("reward-number", agent, reward=short(reward))
    x = as_numbers(reward)
    return broken("reward-number", agent, reward=short(reward)) if x is None or x.size != 1 else float(x.item())


def check_flag(agent: Any, flag: Any, what: str) -> bool | Finding:
    """Return an agent's termination or truncation; or the finding for anything but a truth value."""
    x = as_numbers(flag)
    if x is None or x.size != 1 or x.item() not in (0, 1):
        return broken("flag-value", agent, what=what, flag=short(flag))
    return bool(x.item())


def as_numbers(value: Any) -> np.ndarray | None:
    """Return a value as an array of numbers, tensors included; None for anything else."""
    if type(value) is not np.ndarray:
        try:
            value = np.asarray(_plain_tensor(value) if hasattr(value, "detach") else value)
        except (TypeError, ValueError, RuntimeError):
            return None
    return value if value.dtype.kind in "biuf" else None


def _plain_tensor(value: Any) -> Any:
    """Return a tensor of torch that numpy can read: on the CPU, without gradients, and not of bfloat16."""
    tensor = value.detach().cpu()
    return tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor


def check_array(
    what: str, x: np.ndarray, shape: tuple[int, ...], dtype: Any, agent: Any = "", code: str = "obs-shape"
) -> Finding | None:
    """Check shape and kind of an array against its space.

    Args:
        what: the array, for the message.
        x: the array.
        shape: shape of the space.
        dtype: dtype to keep the array in; integers cannot keep fractions.
        agent: the agent with this observation.
        code: the rule for the shape.
    """
    if x.shape != shape:
        return broken(code, agent, what=what, shape=x.shape, expected=shape)
    if x.dtype.kind == "f" and dtype.kind != "f":
        return broken("obs-kind", agent, what=what, dtype=x.dtype, expected=dtype)
    return None


def check_image_size(agent: Any, parts: Iterable[ObsPart], code: str = "large-image") -> Finding | None:
    """Check the images among the parts of an observation or state for more pixels than training bears well.

    Args:
        agent: the agent with this observation.
        parts: the parts.
        code: the rule, `large-image` or `large-state`.
    """
    large = [part.shape for part in parts if part.is_image and math.prod(sorted(part.shape)[-2:]) > MOST_PIXELS]
    return broken(code, agent, shape=" x ".join(map(str, large[0]))) if large else None


def check_bounds(what: str, x: np.ndarray, low: Any, high: Any, agent: Any = "") -> Finding | None:
    """Check an array against the bounds of its space, numbers or arrays of the same shape."""
    outside = (x < low) | (x > high)
    if not outside.any():
        return None
    value, low, high = (np.broadcast_to(bound, x.shape)[outside][0] for bound in (x, low, high))
    return broken("obs-bounds", agent, what=what, value=value, low=low, high=high)


def check_mask(agent: Any, heads: tuple[int, ...], mask: Any) -> np.ndarray | Finding:
    """Return an action mask as bool `(sum of heads,)`, or the finding for a mask of another size or other values.

    Args:
        agent: the agent's name.
        heads: sizes of the agent's categorical heads.
        mask: the mask as the environment returned it, flat or head by head.
    """
    if type(mask) is np.ndarray and mask.shape == (sum(heads),):
        joined = mask
    else:
        pieces = mask_pieces(mask)
        sizes = tuple(map(len, pieces))
        if sizes not in (heads, (sum(heads),)):
            by_head = f" or, head by head, {heads}" if len(heads) > 1 else ""
            return broken("mask-size", agent, shape=sizes, expected=f"({sum(heads)},){by_head}")
        joined = np.concatenate(pieces)
    if joined.dtype.kind not in "biuf":
        return broken("mask-values", agent, value=short(mask))
    legal = joined.astype(bool, copy=False)
    if legal is not joined and np.count_nonzero(is_other := legal != joined):
        return broken("mask-values", agent, value=f"{float(joined[is_other][0]):g}")
    head_is_legal = np.logical_or.reduceat(legal, _head_starts(heads)) if heads else legal
    if np.count_nonzero(head_is_legal) < len(heads):
        where = f" for head {head_is_legal.argmin() + 1} of {len(heads)}" if len(heads) > 1 else ""
        return broken("mask-empty", agent, where=where)
    return legal


def mask_pieces(mask: Any) -> list[np.ndarray]:
    """Return the innermost arrays of a nested mask, in order, each with an axis or more."""
    if not isinstance(mask, list | tuple):
        x = as_numbers(mask)
        mask = np.asarray(mask) if x is None else x
    is_nested = mask.ndim > 1 if isinstance(mask, np.ndarray) else any(map(_has_length, cast(Any, mask)))
    if is_nested:
        return [piece for nested in cast(Any, mask) for piece in mask_pieces(nested)]
    return [np.atleast_1d(np.asarray(cast(Any, mask)))]


def _has_length(piece: Any) -> bool:
    return isinstance(piece, list | tuple) or getattr(piece, "ndim", 0) > 0


@cache
def _head_starts(heads: tuple[int, ...]) -> list[int]:
    return [sum(heads[:k]) for k in range(len(heads))]


def short(x: Any) -> str:
    """Return a value as text of at most 60 characters, for a message."""
    text = " ".join(repr(x).split())
    return text if len(text) <= 60 else text[:57] + "..."
