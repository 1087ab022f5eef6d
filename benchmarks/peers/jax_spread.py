"""simple_spread of mpe2 in JAX: N agents cover N landmarks. All environments are at the same step of their episodes.

The environments are the last axis of every array: XLA vectorises the last axis, and the others are 2 or N long.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

AGENTS = 3
HORIZON = 25
ACTIONS = 5
OBS = 6 * AGENTS
DT, DAMPING, SENSITIVITY = 0.1, 0.25, 5.0
CONTACT_FORCE, CONTACT_MARGIN, TOUCH = 100.0, 1e-3, 0.3
PAIRS = tuple((i, j) for i in range(AGENTS) for j in range(i + 1, AGENTS))
MOVES = ((0.0, -1.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, -1.0, 1.0))  # of actions 0 to 4 along x and y


class State(NamedTuple):
    """Positions and velocities of the agents `(2, N, E)`, positions of the landmarks `(2, N, E)`."""

    agents: Array
    velocity: Array
    landmarks: Array


def reset(key: Array, envs: int) -> State:
    """Sample the starts of E episodes."""
    places = jax.random.uniform(key, (2, 2 * AGENTS, envs), minval=-1.0, maxval=1.0)
    return State(places[:, :AGENTS], jnp.zeros((2, AGENTS, envs)), places[:, AGENTS:])


def step(state: State, action: Array) -> tuple[State, Array]:
    """Move all agents by actions `(N, E)`; return the new state and the rewards of the agents `(N, E)`."""
    moves = jnp.asarray(MOVES, state.agents.dtype) * SENSITIVITY
    force = jnp.take(moves, action, axis=1) + _contact(state.agents)
    agents = state.agents + state.velocity * DT
    state = State(agents, state.velocity * (1 - DAMPING) + force * DT, state.landmarks)
    distance = jnp.sqrt(jnp.sum((state.landmarks[:, :, None] - agents[:, None]) ** 2, 0))  # (landmark, agent, E)
    common = -distance.min(1).sum(0)
    touching = jnp.zeros(agents.shape[1:], agents.dtype)
    for i, j in PAIRS:
        touches = _apart(agents, i, j) < TOUCH
        touching = touching.at[i].add(touches).at[j].add(touches)
    return state, 0.5 * common - 0.5 * touching


def observe(state: State) -> Array:
    """Return the observations `(E, N, 6 N)`: velocity, position, landmarks, other agents, and their silent messages."""
    silence = jnp.zeros((2 * (AGENTS - 1), state.agents.shape[-1]), state.agents.dtype)
    rows: list[Array] = []
    for i in range(AGENTS):
        here = state.agents[:, i]
        parts = [state.velocity[:, i], here]
        parts += [state.landmarks[:, j] - here for j in range(AGENTS)]
        parts += [state.agents[:, j] - here for j in range(AGENTS) if j != i]
        rows.append(jnp.concatenate([*parts, silence]))
    return jnp.stack(rows).transpose(2, 0, 1)


def _apart(agents: Array, i: int, j: int) -> Array:
    return jnp.sqrt(jnp.sum((agents[:, i] - agents[:, j]) ** 2, 0))


def _contact(agents: Array) -> Array:
    """Return the soft contact forces between agents `(2, N, E)`, from the positions before the move."""
    force = jnp.zeros_like(agents)
    for i, j in PAIRS:
        apart = _apart(agents, i, j)
        depth = jnp.logaddexp(0.0, (TOUCH - apart) / CONTACT_MARGIN) * CONTACT_MARGIN
        push = CONTACT_FORCE * depth / apart * (agents[:, i] - agents[:, j])
        force = force.at[:, i].add(push).at[:, j].add(-push)
    return force
