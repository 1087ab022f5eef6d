"""All agents of one environment of PettingZoo's Parallel API, side by side. Loads no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from mappo.core.spec import Spec, is_channels_first
from mappo.envs.vector.agent_spaces import AgentSpaces, Flattener
from mappo.errors import UserError


@dataclass
class TeamRow:
    """What one environment shows, agents in order: `(A, *obs_shape)`, `(*S)`, `(A, N)`, `(A,)`."""

    obs: np.ndarray
    state: np.ndarray | None
    mask: np.ndarray
    active: np.ndarray


class TeamLayout:
    """Reads what environments alike give into rows, by their agents' names.

    Agents keep the order of `possible_agents` and may differ in their spaces: see `Spec` for how they are padded.
    Masks are read from `obs["action_mask"]`, else `info["action_mask"]`: flat, or one for each head.

    Args:
        env: one of them; spaces are asked for, and if there is a `state()` without a space, it is reset.
        shared_reward: all agents are given one number, the team's, which is not to be summed over them; also where
            the environment has an attribute of this name that is true.

    Raises:
        UserError: the environment has not this API, or spaces that cannot be used.
    """

    def __init__(self, env: Any, shared_reward: bool = False) -> None:
        kind = type(env).__name__
        needed = ("possible_agents", "observation_space", "action_space", "reset", "step")
        missing = [n for n in needed if not hasattr(env, n)]
        if hasattr(env, "agent_iter"):
            raise UserError(f"{kind} is turn-based (AEC): make it by parallel_env in place of env")
        if missing:
            raise UserError(
                f"{kind} is not an environment of PettingZoo's Parallel API: it has no {', '.join(missing)}; "
                f"give a function that makes a ParallelEnv"
            )
        self.agents: list[str] = list(env.possible_agents)
        self.agent_spaces = [AgentSpaces(a, env.observation_space(a), env.action_space(a)) for a in self.agents]
        space = state_space(env)
        self._state = Flattener("state() gave", space) if space is not None else None
        self.spec = Spec(
            agents=tuple(map(str, self.agents)),
            obs_spaces=tuple(seat.flat.space for seat in self.agent_spaces),
            action_heads=tuple(seat.heads for seat in self.agent_spaces),
            state_shape=_last(self._state.space.shape) if self._state is not None else None,
            shared_reward=shared_reward or bool(getattr(env, "shared_reward", False)),
        )
        for j, seat in enumerate(self.agent_spaces):
            seat.set_columns(self.spec, j)
        self._names, self._size = set(self.agents), math.prod(self.spec.obs_shape)
        self.obs_dtype: Any = np.uint8 if self.spec.observes_bytes else np.float32
        # Bytes stay bytes in images only.
        image = self._state is not None and len(self._state.space.shape) == 3
        self.state_dtype: Any = np.uint8 if image and cast(Any, space).dtype == np.uint8 else np.float32

    def read(self, env: Any, obs: Mapping[str, Any], infos: Mapping[str, Any]) -> tuple[TeamRow, int]:
        """One environment's observations, zeros where one is missing.

        Returns:
            The row, and which agent, counted from 1, was given a mask; 0 if nobody was.
        """
        seen = np.zeros((len(self.agents), self._size), dtype=self.obs_dtype)
        mask, masked = self.spec.static_mask.copy(), 0
        living = set(env.agents)  # asked once: behind wrappers it is dear
        active = np.array([a in living for a in self.agents])
        for j, agent in enumerate(self.agents):
            if agent not in obs:
                if active[j]:
                    there = ", ".join(map(str, obs))
                    raise UserError(f"{agent} is in env.agents and observed nothing; there is: {there}")
                continue
            seat, own = self.agent_spaces[j], obs[agent]
            seen[j, : seat.size] = seat.read_obs(own)
            info: Any = infos.get(agent) or {}
            given: Any = info.get("action_mask")
            if isinstance(own, Mapping):
                given = cast(Any, own).get("action_mask", given)
            if given is not None and active[j]:
                mask[j, seat.choices] = own_mask = seat.read_mask(given)
                masked = masked or (j + 1 if own_mask.size else 0)
        self.check_names(env, "observation", obs)
        state = None
        if self._state is not None:
            state = self._state.read(env.state()).reshape(self._state.space.shape)
            state = np.moveaxis(state, 0, -1) if state.ndim == 3 and is_channels_first(state.shape) else state
            # A copy: the environment may go on writing into its own.
            state = state.astype(self.state_dtype)
        return TeamRow(seen.reshape(len(self.agents), *self.spec.obs_shape), state, mask, active), masked

    def matches(self, other: "TeamLayout") -> bool:
        """Its arrays have the same shapes and dtypes, and its rewards the same meaning."""
        mine, theirs = self.spec, other.spec
        return (mine.state_shape, mine.shared_reward, self.obs_dtype, self.state_dtype) == (
            *(theirs.state_shape, theirs.shared_reward, other.obs_dtype, other.state_dtype),
        )

    def check_names(self, env: Any, what: str, given: Mapping[str, Any]) -> None:
        if not self._names.issuperset(given):
            stranger = next(name for name in given if name not in self._names)
            raise UserError(
                f"{type(env).__name__} gave {stranger} a {what}, who is not in possible_agents: "
                f"{', '.join(map(str, self.agents))}"
            )

    def order_warning(self, row: TeamRow) -> str:
        """Who concatenates observations in another order than that of `possible_agents` mixes agents up elsewhere."""
        if row.state is None:
            return ""
        parts = [x.reshape(-1)[: seat.size] for x, seat in zip(row.obs, self.agent_spaces, strict=True)]
        order = order_of(parts, row.state)
        if order is None or order == sorted(order):
            return ""
        return (
            f"state() holds the observations in the order {', '.join(self.agents[j] for j in order)}, but "
            f"possible_agents is {', '.join(self.agents)}: see that each agent gets its own observation and reward"
        )


def state_space(env: Any) -> Any:
    """That of an environment's `state()`: its own, else from what there is after a reset; None without a state."""
    space = getattr(env, "state_space", None)
    if not needs_reset(env):
        return space
    env.reset(seed=0)
    try:
        state = env.state()
    except NotImplementedError:  # PettingZoo's base class
        return None
    if state is None:
        return None
    state = np.asarray(state)
    if state.dtype == np.uint8:
        return spaces.Box(0, 255, state.shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, state.shape, np.float32)


def needs_reset(env: Any) -> bool:
    """What its `state()` looks like can be seen after a reset alone."""
    return getattr(env, "state_space", None) is None and callable(getattr(env, "state", None))


def order_of(parts: list[np.ndarray], whole: np.ndarray) -> list[int] | None:
    """In which order the parts, side by side, make the whole; None where they do not, or several orders might."""
    order, rest = list[int](), whole.reshape(-1)
    if rest.size != sum(p.size for p in parts):
        return None
    while len(order) < len(parts):
        fits = [j for j, p in enumerate(parts) if j not in order and np.array_equal(rest[: p.size], p)]
        if len(fits) != 1:
            return None
        order += fits
        rest = rest[parts[fits[0]].size :]
    return order


def _last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a state: images have their channels last."""
    return (*shape[1:], shape[0]) if len(shape) == 3 and is_channels_first(shape) else shape
