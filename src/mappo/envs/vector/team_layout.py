"""Padded arrays for all agents of an environment of PettingZoo's Parallel API. Loads no torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import numpy as np

from mappo.core.observations import channels_last
from mappo.core.spec import Spec
from mappo.envs.vector.agent_spaces import AgentSpaces, Flattener
from mappo.envs.vector.api_checks import check_api, check_names, check_space
from mappo.envs.vector.mask_reader import MaskReader
from mappo.envs.vector.rules import Finding, RuleError, broken
from mappo.envs.vector.state_space import check_state_order, state_space
from mappo.errors import UserError


@dataclass
class TeamRow:
    """Views of the observations and the state of an environment.

    Args:
        obs: the padded observations `(*B, A, *obs_shape)`.
        parts: the own part of each agent in it, in the shape that its observation is read.
        state: the state `(*B, ...)` in the shape it is read, if there is one.
    """

    obs: np.ndarray
    parts: list[np.ndarray]
    state: np.ndarray | None


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
        self.agents = ordered_agents(env.possible_agents)
        self.agent_spaces = [_agent_spaces(env, agent) for agent in self.agents]
        space = state_space(env)
        self._state = None if space is None else Flattener("state()", space, "state-shape")
        largest = max((agent.flattener for agent in self.agent_spaces), key=lambda flattener: flattener.size)
        for flattener in filter(None, (largest, self._state)):
            if not flattener.size:
                raise UserError(
                    f"{flattener.what} has the space {flattener.own_space}, which holds no number: use a Box of at "
                    f"least one number"
                )
        self.late_rewards = True  # see `EnvOptions`
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
            state_shape=None if self._state is None else channels_last(self._state.space.shape),
            shared_reward=self._is_shared,
            obs_parts=tuple(agent.flattener.parts for agent in self.agent_spaces),
            state_parts=() if self._state is None else self._state.parts,
            obs_inputs=tuple(agent.flattener.inputs for agent in self.agent_spaces),
        )
        for j, agent in enumerate(self.agent_spaces):
            agent.set_columns(self.spec, j)
        self.names = dict.fromkeys(self.agents)
        starts = [agent.heads.start if agent.heads.shape == () else None for agent in self.agent_spaces]
        # The first choice of each agent, if each makes a single one.
        self._starts = None if None in starts or self.spec.continuous else np.array(starts)[:, 0]
        self.masks = MaskReader(self.agent_spaces, self.spec)
        self.obs_dtype: Any = np.uint8 if self.spec.observes_bytes else np.float32

    def row(self, obs: np.ndarray, state: np.ndarray | None) -> TeamRow:
        """Return the views of padded observations `(*B, A, *obs_shape)` and a state `(*B, *S)`."""
        by_agent = np.moveaxis(obs, -1 - len(self.spec.obs_shape), 0)
        parts = [agent.flattener.own_part(x) for agent, x in zip(self.agent_spaces, by_agent, strict=True)]
        return TeamRow(obs, parts, None if state is None else cast(Flattener, self._state).own_part(state))

    def to_env_actions(self, action: np.ndarray) -> Iterable[Sequence[Any]]:
        """Return the padded actions `(E, A, D)` for each environment: an action of each agent, in its own space."""
        if self._starts is not None:
            return (action[..., 0] + self._starts).tolist()
        return zip(*(agent.to_env_action(action[:, j]) for j, agent in enumerate(self.agent_spaces)), strict=True)

    def read_active(self, env: Any) -> list[bool]:
        """Return for each agent True if it is in `env.agents`.

        Raises:
            UserError: `env.agents` holds another name.
        """
        if (getattr(env, "agents", None) == self.agents) is True:  # often so
            return [True] * len(self.agents)
        active_names = dict.fromkeys(listed_agents(env))
        raise_finding(env, check_names("agents", active_names, self.names))
        return [a in active_names for a in self.agents]

    def read_obs(
        self, env: Any, observations: Mapping[str, Any], needed: Sequence[bool], row: TeamRow, others: bool = False
    ) -> None:
        """Read an environment's observations and its state into a row.

        Args:
            env: the environment.
            observations: observations by agent.
            needed: for each agent, True if its observation is needed.
            row: the row to write.
            others: True to read the observations of other agents too, where they are given; else they are zeros.

        Raises:
            UserError: a needed observation is missing, or a value breaks a rule.
        """
        if not all(needed):
            row.obs[...] = 0
        for agent_spaces, part, is_needed in zip(self.agent_spaces, row.parts, needed, strict=True):
            value = observations.get(agent_spaces.name)
            if is_needed or (others and value is not None):
                if value is None and agent_spaces.name not in observations:
                    names = ", ".join(map(str, observations))
                    refuse(env, broken("no-observation", agent_spaces.name, names=names))
                # An array is no dict with the observation in it.
                part[...] = (agent_spaces.flattener.read if type(value) is np.ndarray else agent_spaces.read_obs)(value)
        if row.state is not None:
            row.state[...] = self.read_state(env.state())

    def read_state(self, value: Any) -> np.ndarray:
        """Return the state in the shape of its Box, or as a vector.

        Raises:
            RuleError: the value is not in the space.
        """
        if value is None:
            raise RuleError(broken("state-value", value=value))
        return cast(Flattener, self._state).read(value)

    def matches(self, other: "TeamLayout") -> bool:
        """Return True if states and observations have the same shapes and dtypes, and rewards the same meaning."""
        mine, theirs = ((x.spec.state_shape, x.spec.shared_reward, x.obs_dtype, x.state_dtype) for x in (self, other))
        return mine == theirs

    def first_warnings(self, observations: Mapping[Any, Any], row: TeamRow) -> list[str]:
        """Return warnings of the first reset, of its observations and their row.

        Keys that a space does not declare are not read. An environment with another order of agents in its state is
        likely to mix up agents elsewhere.
        """
        known = (agent for agent in self.agent_spaces if agent.name in observations)
        findings = [finding for agent in known for finding in agent.check_keys(observations[agent.name])][:1]
        order = None
        if row.state is not None:
            order = check_state_order(self.agents, [x.reshape(-1) for x in row.parts], row.state)
        return [str(finding) for finding in (*findings, order) if finding]


def ordered_agents(possible: Any) -> list[Any]:
    """Return `possible_agents` as a list; a set, with another order in each process, in the order of its text."""
    return sorted(possible, key=str) if isinstance(possible, set | frozenset) else list(possible)  # pyright: ignore


def raise_finding(env: Any, finding: Finding | None) -> None:
    """Raise a UserError for a broken rule, with the kind of the environment."""
    if finding is not None:
        refuse(env, finding)


def refuse(env: Any, finding: Finding) -> NoReturn:
    """Raise the error for a broken rule, with the kind of the environment."""
    raise RuleError(finding, f"{type(env).__name__}: ")


def listed_agents(env: Any) -> set[Any]:
    """Return the names in `env.agents`, a list or any other collection.

    Raises:
        UserError: there is no collection of this name.
    """
    try:
        return set(env.agents)
    except (AttributeError, TypeError):
        refuse(env, broken("missing", names="agents after reset, a list of the agents that act"))


def _agent_spaces(env: Any, agent: Any) -> AgentSpaces:
    obs_space = env.observation_space(agent)
    raise_finding(env, check_space("observation_space", obs_space, agent))
    action_space = env.action_space(agent)
    raise_finding(env, check_space("action_space", action_space, agent))
    return AgentSpaces(agent, obs_space, action_space)
