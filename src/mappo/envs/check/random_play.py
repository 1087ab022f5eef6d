"""Episodes of random legal actions, with a check of all values against the rules. Loads no torch."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from mappo.core.spec import UNBOUNDED, ActionHeads
from mappo.envs.check.determinism import Trace, digest, digests
from mappo.envs.check.recorder import Recorder
from mappo.envs.check.rules import check_absent, check_agents, check_flags, check_step, reward_number
from mappo.envs.check.spaces import check_finite, check_observation, leaves
from mappo.envs.opponents import Play
from mappo.envs.vector.api_checks import check_mask, check_same_agents, check_shared
from mappo.envs.vector.mask_reader import find_mask
from mappo.envs.vector.rules import Finding, RuleError, broken
from mappo.envs.vector.state_space import check_state_order
from mappo.envs.vector.team_layout import TeamLayout

_NUM_REPLAYED = 100  # steps of the first episode, to be replayed


class EpisodeStats(NamedTuple):
    """Length of an episode, and True if any agent's observation, or the state, changed."""

    num_steps: int
    has_new_obs: bool
    has_new_state: bool


class RandomPlayer:
    """Random policy of all agents of an environment, with the checks of each step.

    Args:
        recorder: takes the findings.
        env: the environment.
        layout: reader of the agents' values.
        action_spaces: action spaces by agent.
        seed: seed of the actions.
    """

    def __init__(
        self,
        recorder: Recorder,
        env: Any,
        layout: TeamLayout,
        action_spaces: dict[str, Any],
        seed: int,
    ) -> None:
        self.recorder = recorder
        self.env = env
        self.layout = layout
        self.agent_spaces = {agent.name: agent for agent in layout.agent_spaces}
        self.action_spaces = action_spaces
        self.has_state = layout.spec.state_shape is not None
        self.possible = list(self.agent_spaces)
        self.heads = {a: ActionHeads.from_space(space) for a, space in action_spaces.items()}
        self.rng = np.random.default_rng(seed)
        self.trace = Trace(seed)
        self.episode_stats: list[EpisodeStats] = []
        self.plays: list[Play] = []  # a play for each episode
        self.masks: dict[str, np.ndarray] = {}
        self._had_mask: dict[str, bool] = {}  # by agent, from its first time in the environment
        self._returned: list[tuple[str, np.ndarray, np.ndarray]] = []  # arrays, and copies from when they were returned

    def play(self, seed: int, max_steps: int) -> None:
        """Play an episode.

        Args:
            seed: seed of the reset.
            max_steps: an episode of more steps never ends.
        """
        recorder = self.recorder
        recorder.step = 0
        obs, infos = recorder.reset(self.env, seed)
        self._check_unchanged()
        agents = self._check_observations(obs, infos)
        if recorder.episode == 1:
            self.trace.start = digests(obs)
        self._obs_digests = {a: {x} for a, x in digests(obs).items()}
        self._state_digests = {self._check_state(obs, agents)}
        self._rewards: list[list[float]] = []
        self._deaths: list[list[bool]] = []
        ending = ""
        while not ending and recorder.step < max_steps:
            recorder.step += 1
            agents, ending = self._step(agents)
        has_new_obs = any(len(values) > 1 for values in self._obs_digests.values())
        self.plays.append(Play(np.array(self._rewards), np.array(self._deaths)))
        self.episode_stats.append(EpisodeStats(recorder.step, has_new_obs, len(self._state_digests) > 1))
        if ending:
            recorder.report.endings[ending] += 1
            recorder.report.lengths.append(recorder.step)
        else:
            recorder.add(broken("never-ends", steps=max_steps))
        recorder.stop_if(check_same_agents(self.env.possible_agents, self.agent_spaces))

    def _step(self, acting: list[str]) -> tuple[list[str], str]:
        """Play a step; return the agents after it, and the ending of the episode, "" if it goes on."""
        recorder = self.recorder
        report = recorder.report
        actions = {a: self._sample_action(a) for a in acting}
        sent = copy.deepcopy(actions)
        obs, rewards, terminations, truncations, infos = recorder.step_env(self.env, actions)
        report.steps += 1
        if actions.keys() != sent.keys() or digest(actions) != digest(sent):
            recorder.add(broken("action-changed"))
        self._check_unchanged()
        if recorder.episode == 1 and len(self.trace.steps) < _NUM_REPLAYED:
            self.trace.steps.append((sent, digests(obs, rewards, terminations, truncations)))
        recorder.stop_if(check_flags(acting, terminations=terminations, truncations=truncations))
        over = [a for a in acting if terminations.get(a) or truncations.get(a)]
        has_ended = all(a in over for a in self.env.agents)
        flags = {"rewards": rewards, "terminations": terminations, "truncations": truncations}
        agents = self._check_observations(obs, infos, self.possible if has_ended else over, **flags)
        recorder.add(*check_step(acting, agents, obs, rewards, terminations, truncations, report.shared_reward))
        absent = [a for a in self.possible if a not in acting and a not in agents]
        recorder.add(*check_absent(absent, report.shared_reward, observations=obs, **flags))
        self._check_rewards([reward_number(a, rewards[a]) for a in acting if a in rewards])
        self._rewards.append([reward_number(a, rewards.get(a, 0)) for a in self.possible])
        self._deaths.append([not has_ended and a in acting and a not in agents for a in self.possible])
        report.arrivals |= not has_ended and any(a not in acting or a in over for a in agents)
        report.deaths |= not has_ended and any(a not in agents for a in acting)
        for agent, x in digests(obs).items():
            self._obs_digests.setdefault(agent, set()).add(x)
        self._state_digests.add(self._check_state(obs, agents))
        is_cut = any(truncations.get(a) and not terminations.get(a) for a in over)
        ending = "truncated" if is_cut else "terminated"
        return agents, ending if has_ended else ""

    def _check_observations(self, obs: Any, infos: Any, over: Sequence[Any] = (), **dicts: Any) -> list[str]:
        """Check names, observations and masks; return the agents in `env.agents`. Masks of agents `over` may be bad."""
        listed = self.env.agents
        agents = [a for a in self.possible if a in listed]  # the order of the actions in training
        self.recorder.add(*check_agents(self.possible, listed, observations=obs, **dicts))
        self.masks = {}
        for agent in self.possible:
            if agent in obs:
                self.recorder.add(*check_observation(self.agent_spaces[agent], obs[agent]))
            elif agent in agents:
                self.recorder.add(broken("no-observation", agent, names=", ".join(map(str, obs))))
            if agent in agents:
                is_over = agent in over
                try:
                    mask = find_mask(agent, obs.get(agent), infos.get(agent), is_over)
                except RuleError as error:
                    self.recorder.stop_if(error.finding)
                else:
                    self._check_mask(agent, mask, is_over)
        self._keep_copies("an observation", obs)
        return agents

    def _check_mask(self, agent: str, mask: Any, is_over: bool) -> None:
        has_mask = mask is not None
        if is_over:
            legal = check_mask(agent, self.heads[agent].categorical, mask) if has_mask else None
            if isinstance(legal, np.ndarray):
                self.masks[agent] = legal
            return
        has_changed = self._had_mask.setdefault(agent, has_mask) != has_mask
        if has_changed and self.recorder.report.masks and "mask-late" not in self.recorder.found:
            self.recorder.add(broken("mask-missing", agent))
        if mask is None:
            return
        if self.trace.start and not self.recorder.report.masks:  # the first reset is over
            change = "an action mask, and no agent had a mask at the reset"
            self.recorder.add(broken("mask-late", agent, change=change))
        self.recorder.report.masks = True
        self._keep_copies("a mask", mask)
        legal = check_mask(agent, self.heads[agent].categorical, mask)
        if isinstance(legal, Finding):
            self.recorder.add(legal)
            return
        self.masks[agent] = legal
        if (dtype := leaves(mask)[0].dtype).kind == "f":
            self.recorder.add(broken("mask-dtype", agent, dtype=dtype))

    def _check_state(self, obs: Any, agents: list[str]) -> bytes:
        """Check the state; return its digest."""
        if not self.has_state:
            return b""
        value = self.recorder.call("state", self.env.state)
        self._keep_copies("a state", value)
        try:
            state = self.layout.read_state(value)
        except RuleError as error:
            self.recorder.add(error.finding)
            return digest(value)
        self.recorder.add(check_finite("state()", state))
        if not self.recorder.step and agents == self.possible and all(a in obs for a in agents):
            parts = [np.concatenate([leaf.ravel() for leaf in leaves(obs[a])]).astype(np.float32) for a in agents]
            self.recorder.add(check_state_order(agents, parts, state.astype(np.float32)))
        return digest(value)

    def _sample_action(self, agent: str) -> Any:
        """Return a random legal action of the agent's space."""
        heads = self.heads[agent]
        mask = self.masks.get(agent)
        space = self.action_spaces[agent]
        columns = list[float]()
        start = 0
        for size in heads.categorical:
            legal = np.arange(size) if mask is None else mask[start : start + size].nonzero()[0]
            columns.append(int(self.rng.choice(legal)))
            start += size
        for low, high in zip(heads.low, heads.high, strict=True):
            columns.append(self._sample_number(low, high))
        action: Any = heads.to_space_action(np.array(columns))
        if isinstance(space, spaces.Discrete):
            return action.item()
        action = action.astype(space.dtype)
        return action.clip(space.low, space.high) if isinstance(space, spaces.Box) else action

    def _sample_number(self, low: float, high: float) -> float:
        """Return a number within bounds, or near the only bound: as in training, see `ActionDistribution`."""
        if high - low < UNBOUNDED:
            return self.rng.uniform(low, high)
        center = low + 1 if low > -UNBOUNDED else high - 1 if high < UNBOUNDED else 0.0
        return float(np.clip(center + self.rng.normal(), low, high))

    def _keep_copies(self, what: str, value: Any) -> None:
        self._returned += [(what, leaf, leaf.copy()) for leaf in leaves(value) if _owns_memory(leaf)]

    def _check_unchanged(self) -> None:
        """Compare the arrays returned last time with their copies."""
        for what, array, old in self._returned:
            if not np.array_equal(array, old, equal_nan=array.dtype.kind == "f"):
                self.recorder.add(broken("aliasing", what=what))
        self._returned = []

    def _check_rewards(self, rewards: list[float]) -> None:
        report = self.recorder.report
        distinct = sorted(set(rewards))
        report.paid |= any(rewards)
        report.equal_rewards &= len(distinct) < 2
        if report.shared_reward:
            self.recorder.add(check_shared(rewards))


def _owns_memory(x: Any) -> bool:
    """Return True if an array's memory is numpy's own.

    A view into other memory, such as a pygame surface, may lock the memory for as long as the view lives.
    """
    while isinstance(x, np.ndarray):
        x = x.base
    return x is None
