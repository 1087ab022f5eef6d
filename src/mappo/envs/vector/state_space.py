"""The space of an environment's `state()`, and the order of the agents within it. Loads no torch."""

from typing import Any

import numpy as np
from gymnasium import spaces

from mappo.envs.vector.api_checks import short
from mappo.envs.vector.rules import Finding, RuleError, broken


def state_space(env: Any) -> Any:
    """Return the space of `state()`: declared, or derived from a state after a reset; None without a state.

    Raises:
        UserError: the state is no array of numbers.
    """
    if not callable(getattr(env, "state", None)):
        return None
    if not needs_reset(env):
        return env.state_space
    env.reset(seed=0)
    state = first_state(env)
    if state is None:
        return None
    try:
        array = np.asarray(state)
    except (TypeError, ValueError, RuntimeError):  # such as rows of unequal length
        array = None
    if array is None or array.dtype.kind not in "biuf":
        raise RuleError(broken("state-value", value=short(state)))
    if array.dtype == np.uint8 and array.ndim == 3:  # an image; the bounds of other bytes are unknown
        return spaces.Box(0, 255, array.shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, array.shape, np.float32)


def first_state(env: Any) -> Any:
    """Return the state after a reset; None if there is only the method of PettingZoo's base class."""
    try:
        return env.state()
    except NotImplementedError:
        return None
    except TypeError:
        if callable(getattr(getattr(env, "unwrapped", env), "state", None)):
            raise
        return None  # behind a wrapper, another attribute of this name hides the method


def needs_reset(env: Any) -> bool:
    """Return True if the shape of the environment's state is known after a reset alone.

    A `state_space` that is no space, such as a number or a method, says nothing. Nor does a space of no numbers.
    """
    try:
        space = getattr(env, "state_space", None)
    except NotImplementedError:
        space = None
    is_declared = isinstance(space, spaces.Space) and not (isinstance(space, spaces.Box) and 0 in space.shape)
    return callable(getattr(env, "state", None)) and not is_declared


def check_state_order(agents: list[Any], observations: list[np.ndarray], state: np.ndarray) -> Finding | None:
    """Check the order of the observations in a state made of all of them.

    Args:
        agents: `possible_agents`.
        observations: a vector `(O_i,)` for each agent.
        state: the state `(S,)`.
    """
    order = find_order(observations, state)
    if order is None or order == sorted(order):
        return None
    names = list(map(str, agents))
    return broken("state-order", order=", ".join(names[j] for j in order), possible=", ".join(names))


def find_order(parts: list[np.ndarray], whole: np.ndarray) -> list[int] | None:
    """Return the order of the parts, side by side, in the whole; None if there is no order, or several."""
    rest = whole.reshape(-1)
    if rest.size != sum(p.size for p in parts):
        return None
    order = list[int]()
    while len(order) < len(parts):
        fits = [j for j, p in enumerate(parts) if j not in order and np.array_equal(rest[: p.size], p)]
        if len(fits) != 1:
            return None
        order += fits
        rest = rest[parts[fits[0]].size :]
    return order
