"""Padded arrays for all agents of an environment of PettingZoo's Parallel API. Loads no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from mappo.core.spec import Spec, is_channels_first
from mappo.envs.vector.agent_spaces import AgentSpaces, Flattener
from mappo.envs.vector.api_checks import check_api, check_names, check_space, check_state_order, short
from mappo.envs.vector.rules import Finding, RuleError, broken


@dataclass
class TeamRow:
    """Observations of an environment, agents in order: `(A, *obs_shape)`, `(*S)`, `(A, N)`, `(A,)`."""

    obs: np.ndarray
    state: np.ndarray | None
    mask: np.ndarray
    active: np.ndarray


class TeamLayout:
    """Reader of the dicts of equal environments into rows, in the order of `possible_agents`.

    Agents may differ in their spaces: see `Spec` for the padding. Masks are read from `obs["action_mask"]`, else from
    `info["action_mask"]`: flat, or an array for each head.

    Args:
        env: any of the environments; it is reset if it has a `state()` without a space.
        shared_reward: True if all agents receive the team's reward; it is then not summed over agents. An attribute
            of this name with a true value says the same.

    Raises:
        UserError: the environment has another API, or an unsupported space.
    """

    def __init__(self, env: Any, shared_reward: bool = False) -> None:
        raise_finding(env, check_api(env))
        possible: Any = env.possible_agents
        self.agents: list[str] = list(possible)
        if isinstance(possible, set | frozenset):  # another order in another process
            self.agents.sort(key=str)
        self.agent_spaces = [_agent_spaces(env, agent) for agent in self.agents]
        space = state_space(env)
        self._state = None if space is None else Flattener("state()", space, "state-shape")
        self._is_shared = shared_reward or bool(getattr(env, "shared_reward", False))
        # Bytes stay bytes in images only.
        is_image = self._state is not None and len(self._state.space.shape) == 3
        self.state_dtype: Any = np.uint8 if is_image and cast(Any, space).dtype == np.uint8 else np.float32
        self.arrange(())

    def arrange(self, order: Sequence[str]) -> None:
        """Put the agents in the order of a run, given by their names as text; other names change nothing."""
        places = {name: place for place, name in enumerate(order)}
        if places.keys() == set(map(str, self.agents)):
            self.agents.sort(key=lambda agent: places[str(agent)])
            self.agent_spaces.sort(key=lambda agent_spaces: places[str(agent_spaces.name)])
        self.spec = Spec(
            agents=tuple(map(str, self.agents)),
            obs_spaces=tuple(agent.flattener.space for agent in self.agent_spaces),
            action_heads=tuple(agent.heads for agent in self.agent_spaces),
            state_shape=None if self._state is None else _channels_last_shape(self._state.space.shape),
            shared_reward=self._is_shared,
        )
        for j, agent in enumerate(self.agent_spaces):
            agent.set_columns(self.spec, j)
        self.names = dict.fromkeys(self.agents)
        self._obs_shape = (len(self.agents), *self.spec.obs_shape)  # (A, *obs_shape)
        self.obs_dtype: Any = np.uint8 if self.spec.observes_bytes else np.float32

    def read(self, env: Any, observations: Mapping[str, Any], infos: Mapping[str, Any] | None) -> tuple[TeamRow, int]:
        """Read an environment's observations and masks; a missing observation is zeros, and infos may be None.

        Returns:
            The row, and the number of an agent with a mask, counted from 1; 0 if no agent has a mask.

        Raises:
            UserError: an active agent has no observation, or a value breaks a rule.
        """
        obs = np.zeros(self._obs_shape, dtype=self.obs_dtype)
        obs_vectors = obs.reshape(len(self.agents), -1)  # (A, O)
        mask = self.spec.static_mask.copy()
        masked_agent = 0
        infos = {} if infos is None else infos
        active_names = listed_agents(env)  # read once: slow behind wrappers
        active = np.array([a in active_names for a in self.agents])
        for j, agent in enumerate(self.agents):
            if agent not in observations:
                if active[j]:
                    raise_finding(env, broken("no-observation", agent, names=", ".join(map(str, observations))))
                continue
            agent_spaces = self.agent_spaces[j]
            value = observations[agent]
            obs_vectors[j, : agent_spaces.size] = agent_spaces.read_obs(value)
            own_mask = find_mask(value, infos.get(agent))
            if own_mask is not None and active[j]:
                legal = agent_spaces.read_mask(own_mask)
                mask[j, agent_spaces.choices] = legal
                masked_agent = masked_agent or (j + 1 if legal.size else 0)
        raise_finding(env, check_names("observations", observations, self.names))
        state = None if self._state is None else self._read_state(env.state(), self._state)
        return TeamRow(obs, state, mask, active), masked_agent

    def _read_state(self, value: Any, flattener: Flattener) -> np.ndarray:
        if value is None:
            raise RuleError(broken("state-value", value=value))
        state = flattener.read(value).reshape(flattener.space.shape)
        state = np.moveaxis(state, 0, -1) if state.ndim == 3 and is_channels_first(state.shape) else state
        # A copy: the environment may go on writing into its own array.
        return state.astype(self.state_dtype)

    def matches(self, other: "TeamLayout") -> bool:
        """Return True if states and observations have the same shapes and dtypes, and rewards the same meaning."""
        mine, theirs = ((x.spec.state_shape, x.spec.shared_reward, x.obs_dtype, x.state_dtype) for x in (self, other))
        return mine == theirs

    def order_warning(self, row: TeamRow) -> str:
        """Return a warning if state() orders the agents otherwise than `possible_agents`, else "".

        An environment with another order in its state is likely to mix up agents elsewhere.
        """
        if row.state is None:
            return ""
        parts = [x.reshape(-1)[: agent.size] for x, agent in zip(row.obs, self.agent_spaces, strict=True)]
        return str(check_state_order(self.agents, parts, row.state) or "")


def raise_finding(env: Any, finding: Finding | None) -> None:
    """Raise a UserError for a broken rule, with the kind of the environment."""
    if finding is not None:
        raise RuleError(finding, f"{type(env).__name__}: ")


def listed_agents(env: Any) -> set[Any]:
    """Return the names in `env.agents`, a list or any other collection.

    Raises:
        UserError: there is no collection of this name.
    """
    try:
        return set(env.agents)
    except (AttributeError, TypeError):
        missing = broken("missing", names="agents after reset, a list of the agents that act")
        raise RuleError(missing, f"{type(env).__name__}: ") from None


def _agent_spaces(env: Any, agent: Any) -> AgentSpaces:
    obs_space = env.observation_space(agent)
    raise_finding(env, check_space("observation_space", obs_space, agent))
    action_space = env.action_space(agent)
    raise_finding(env, check_space("action_space", action_space, agent))
    return AgentSpaces(agent, obs_space, action_space)


def find_mask(observation: Any, info: Any) -> Any:
    """Return an agent's action mask as the environment returned it, or None."""
    if isinstance(observation, Mapping) and "action_mask" in observation:
        return cast(Any, observation)["action_mask"]
    # `type(info) is dict` spares dicts the slow `isinstance`.
    return cast(Any, info).get("action_mask") if type(info) is dict or isinstance(info, Mapping) else None


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
    try:
        state = env.state()
    except NotImplementedError:  # PettingZoo's base class has the method, and no state
        return None
    if state is None:
        return None
    try:
        array = np.asarray(state)
    except (TypeError, ValueError, RuntimeError):  # such as rows of unequal length
        array = None
    if array is None or array.dtype.kind not in "biuf":
        raise RuleError(broken("state-value", value=short(state)))
    if array.dtype == np.uint8:
        return spaces.Box(0, 255, array.shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, array.shape, np.float32)


def needs_reset(env: Any) -> bool:
    """Return True if the shape of the environment's state is known after a reset alone.

    A `state_space` that is no space, such as a number or a method, says nothing. Nor does a space of no numbers.
    """
    space = getattr(env, "state_space", None)
    is_declared = isinstance(space, spaces.Space) and not (isinstance(space, spaces.Box) and 0 in space.shape)
    return callable(getattr(env, "state", None)) and not is_declared


def _channels_last_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a state; of an image, with the channels last."""
    return (*shape[1:], shape[0]) if len(shape) == 3 and is_channels_first(shape) else shape
