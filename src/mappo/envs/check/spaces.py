"""Checks of observations and masks against an agent's spaces, beyond the checks of training. Loads no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from mappo.envs.vector.agent_spaces import AgentSpaces
from mappo.envs.vector.api_checks import as_numbers, check_bounds
from mappo.envs.vector.rules import Finding, RuleError, broken


def check_observation(agent_spaces: AgentSpaces, value: Any) -> Iterator[Finding]:
    """Find broken rules in an observation: those of training, then numbers that are odd in their Box."""
    agent = str(agent_spaces.name)
    try:
        agent_spaces.read_obs(value)
    except RuleError as error:
        yield replace(error.finding, agent=agent)
    else:
        flattener = agent_spaces.flattener
        yield from agent_spaces.check_keys(value)
        yield from _check_boxes(agent, flattener.own_space, agent_spaces.unwrapped(value), flattener.what)


def _check_boxes(agent: str, space: Any, value: Any, what: str) -> Iterator[Finding]:
    """Check the numbers of each Box in a space, which holds the value."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        nested = cast(Any, space).spaces
        for key, subspace in nested.items() if isinstance(space, spaces.Dict) else enumerate(nested):
            yield from _check_boxes(agent, subspace, value[key], f"{key!r} in {what}")
    elif isinstance(space, spaces.Box):
        x = cast(Any, as_numbers(value))
        if finding := check_finite(what, x, agent):
            yield finding
            return
        if x.dtype != space.dtype:
            yield broken("obs-dtype", agent, what=what, dtype=x.dtype, expected=space.dtype)
        if finding := check_bounds(what, x, space.low, space.high, agent):
            yield finding


def check_finite(what: str, x: np.ndarray, agent: str = "") -> Finding | None:
    """Check an array for numbers that are not finite in float32, in which they are kept."""
    with np.errstate(over="ignore"):
        is_finite = np.isfinite(x.astype(np.float32))
    return None if is_finite.all() else broken("not-finite", agent, what=what, value=x[~is_finite][0])


def leaves(x: Any) -> list[np.ndarray]:
    """Return all arrays within a nested value, in order and without copies."""
    if isinstance(x, Mapping):
        x = list(cast(Any, x).values())
    if isinstance(x, list | tuple):
        return [leaf for part in cast(Any, x) for leaf in leaves(part)]
    array = as_numbers(x)
    return [np.asarray(x) if array is None else array]
