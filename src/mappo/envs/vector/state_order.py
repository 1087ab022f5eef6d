"""Order of the agents within a state made of their observations. Loads no torch."""

from typing import Any

import numpy as np

from mappo.envs.vector.rules import Finding, broken


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
