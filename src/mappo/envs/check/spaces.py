"""Checks of observations and masks against an agent's spaces, beyond the checks of training. Loads no torch."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from mappo.envs.vector.api_checks import as_numbers, check_array, check_bounds, short
from mappo.envs.vector.rules import Finding, broken


def check_observation(agent: str, space: Any, value: Any, what: str = "") -> Iterator[Finding]:
    """Find broken rules in an observation; a `Dict` is checked space by space.

    Args:
        agent: the agent's name.
        space: the observation space.
        value: the observation.
        what: the observation, for messages.
    """
    what = what or f"the observation of {agent}"
    if isinstance(space, spaces.Dict):
        subspaces: dict[str, Any] = {k: s for k, s in cast(Any, space.spaces).items() if k != "action_mask"}
        if set(subspaces) != {"observation"} or isinstance(value, Mapping):
            if not isinstance(value, Mapping) or any(k not in value for k in subspaces):
                keys = f"a dict of {', '.join(subspaces)}"
                yield broken("obs-space", agent, what=what, value=short(value), space=keys)
                return
            for key, subspace in subspaces.items():
                yield from check_observation(agent, subspace, value[key], f"{key!r} in {what}")
            return
        space = subspaces["observation"]
    elif isinstance(value, Mapping) and "observation" in value:
        value = cast(Any, value)["observation"]
    if isinstance(space, spaces.Box):
        yield from _check_box(agent, cast(Any, space), value, what)
    elif not _contains(space, value):
        yield broken("obs-space", agent, what=what, value=short(value), space=space)


def _check_box(agent: str, space: Any, value: Any, what: str) -> Iterator[Finding]:
    x = as_numbers(value)
    if x is None:
        yield broken("obs-space", agent, what=what, value=short(value), space="numbers")
    elif finding := check_array(what, x, space.shape, space.dtype, agent):
        yield finding
    elif not np.isfinite(x).all():
        yield broken("not-finite", agent, what=what, value=x[~np.isfinite(x)][0])
    else:
        if x.dtype != space.dtype:
            yield broken("obs-dtype", agent, what=what, dtype=x.dtype, expected=space.dtype)
        if finding := check_bounds(what, x, space.low, space.high, agent):
            yield finding


def leaves(x: Any) -> list[np.ndarray]:
    """Return all arrays within a nested value, in order and without copies."""
    if isinstance(x, Mapping):
        x = list(cast(Any, x).values())
    if isinstance(x, list | tuple):
        return [leaf for part in cast(Any, x) for leaf in leaves(part)]
    array = as_numbers(x)
    return [np.asarray(x) if array is None else array]


def _contains(space: Any, x: Any) -> bool:
    try:
        return bool(space.contains(x))
    except Exception:  # the observation may be anything, and so may the error
        return False
