"""An environment of PettingZoo's Parallel API: resets, steps, and their results as arrays. Loads no torch."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mappo.envs.vector.api_checks import (
    check_flag,
    check_names,
    check_return,
    check_reward,
    check_same_agents,
    check_seed,
    check_shared,
)
from mappo.envs.vector.rules import Finding, broken
from mappo.envs.vector.team_layout import TeamLayout, TeamRow, raise_finding, refuse

_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_TRUTH_TYPES = frozenset([bool, np.bool_])


class EnvSlot:
    """An environment with automatic reset: the last step of an episode starts the next episode.

    An agent outside `env.agents` is inactive: it observes zeros, gets reward 0, and its action is not sent.

    Args:
        env: the environment.
        layout: reader of its dicts.
        rows: arrays for its results; see `Buffers.rows`.
    """

    def __init__(self, env: Any, layout: TeamLayout, rows: dict[str, np.ndarray]) -> None:
        self.env = env
        self.layout = layout
        self.rows = rows
        self.present = layout.row(rows["obs"], rows.get("state"))
        self.reached = layout.row(rows["next_obs"], rows.get("next_state"))
        self.both = layout.row(rows["both_obs"], rows.get("both_state"))
        rows["mask"][...] = layout.spec.static_mask
        self.warnings: list[str] = []
        self._active: list[bool] = []
        self._quiet_flags = rows["flags"].copy()  # (4, A), as long as nobody comes or goes
        self._ended_before = set[Any]()  # agents with an end at the last step, if others went on
        self._has_warned = False
        self._is_shared_checked = False

    def reset(self, check_order: bool = False) -> None:
        """Start the episode determined by `seed` and `episode`, as after a reset of all environments."""
        self.rows["masked"][...] = 0
        observations = self._start_episode(self.both)
        if check_order:
            self.warnings += self.layout.first_warnings(observations, self.present)
        self.rows["next_active"][...] = self._active
        for name in ("reward", "terminated", "ended"):
            self.rows[name][...] = 0

    def step(self, actions: Sequence[Any]) -> None:
        """Step the environment, and write the results.

        Args:
            actions: an action of each agent, in its own space; actions of inactive agents are not sent.

        Raises:
            UserError: the environment breaks a rule of its API.
        """
        agents = self.layout.agents
        was_active = self._active
        acting = {a: x for a, x, acts in zip(agents, actions, was_active, strict=True) if acts}
        observations, rewards, terminations, truncations, infos = self._call_step(acting)
        terminated = self._read_flags(terminations, acting, "terminations")
        truncated = self._read_flags(truncations, acting, "truncations")
        over = terminated | truncated
        active = self.layout.read_active(self.env)
        self._write_rewards(rewards, acting)
        is_quiet = not over and active == was_active
        if not is_quiet and not any(x and a not in over for a, x in zip(agents, active, strict=True)):
            self._end_episode(observations, terminated, truncated)
            return
        self.layout.read_obs(self.env, observations, active, self.both)
        self._read_masks(observations, infos, active, over)
        self.rows["ended"][...] = False
        self.rows["flags"][...] = self._quiet_flags
        if not is_quiet:
            self._change_lives(active, over)
        self._ended_before = over

    def _change_lives(self, active: list[bool], over: Collection[Any]) -> None:
        """Write the flags of a step at which agents ended, left or came, while others go on."""
        was_active = np.array(self._active)
        self._set_active(active)
        flags = self.rows["flags"]
        flags[...] = self._quiet_flags
        # A truncated life, while others go on: nothing follows the life in this episode.
        flags[2] = [a in over for a in self.layout.agents] | (was_active & ~flags[0])
        # An agent over, and still in env.agents, has respawned.
        flags[3] = flags[0] & (flags[2] | ~was_active)
        self._check_relisted(over)

    def _end_episode(self, observations: Mapping[Any, Any], terminated: set[Any], truncated: set[Any]) -> None:
        """Write the last observations of an episode, then start the next episode."""
        agents = self.layout.agents
        # The episode ended by itself only if no agent was cut off by a time limit.
        is_cut = not truncated <= terminated
        reached_active = [
            x and a not in terminated and (is_cut or a in observations)
            for a, x in zip(agents, self._active, strict=True)
        ]
        for agent, is_needed in zip(agents, reached_active, strict=True):
            if is_needed and agent not in observations:
                refuse(self.env, broken("no-final-observation", agent))
        self.layout.read_obs(self.env, observations, reached_active, self.reached, others=True)
        rows = self.rows
        rows["next_active"][...] = reached_active
        rows["terminated"][...] = [not is_cut or a in terminated for a in agents]
        rows["ended"][...] = True
        rows["episode"][...] += 1
        self._start_episode(self.present)

    def _start_episode(self, row: TeamRow) -> Mapping[Any, Any]:
        """Reset the environment: with the seed itself at first, then with seeds derived from (seed, episode).

        Returns:
            The observations by agent.
        """
        seed = int(self.rows["seed"])
        episode = int(self.rows["episode"])
        if episode:
            seed = int(np.random.SeedSequence([seed, episode]).generate_state(1)[0])
        try:
            result: Any = self.env.reset(seed=seed % 2**31)  # many environments keep their seed in an int32
        except TypeError as error:
            raise_finding(self.env, check_seed(error))
            raise
        raise_finding(self.env, check_return("reset", result))
        observations, infos = result
        raise_finding(self.env, check_names("observations", observations, self.layout.names))
        raise_finding(self.env, check_same_agents(self.env.possible_agents, self.layout.names))
        active = self.layout.read_active(self.env)
        if not any(active):
            refuse(self.env, broken("nobody", agents=repr(self.env.agents)))
        self.layout.read_obs(self.env, observations, active, row)
        self._read_masks(observations, infos, active)
        self._set_active(active)
        self.rows["active"][...] = active
        self.rows["is_first"][...] = True
        self._ended_before = set[Any]()
        return observations

    def _set_active(self, active: list[bool]) -> None:
        self._active = active
        nobody = [False] * len(active)
        self._quiet_flags[...] = [active, active, nobody, nobody]

    def _call_step(self, acting: dict[Any, Any]) -> Any:
        result = self.env.step(acting)
        raise_finding(self.env, check_return("step", result))
        names = self.layout.names
        if not (result[0].keys() == result[1].keys() == result[2].keys() == result[3].keys() == names.keys()):
            whats = ("observations", "rewards", "terminations", "truncations")
            for what, values in zip(whats, result[:4], strict=True):
                raise_finding(self.env, check_names(what, values, names))
        return result

    def _read_flags(self, flags: Mapping[Any, Any], acting: Collection[Any], what: str) -> set[Any]:
        """Return the agents with a flag, of those that acted."""
        flagged = set[Any]()
        if _TRUTH_TYPES.issuperset(map(type, flags.values())) and not any(flags.values()):
            return flagged
        for agent in acting:
            flag = flags.get(agent)
            value = flag is not None and check_flag(agent, flag, what)
            if isinstance(value, Finding):
                refuse(self.env, value)
            if value:
                flagged.add(agent)
        return flagged

    def _write_rewards(self, rewards: Mapping[Any, Any], acting: Collection[Any]) -> None:
        if not self.layout.late_rewards:
            rewards = {a: x for a, x in rewards.items() if a in acting}
        values = [
            reward if type(reward := rewards.get(a)) is float else self._read_reward(a, rewards, acting)
            for a in self.layout.agents
        ]
        if max(map(abs, values)) > _MAX_FLOAT32:
            values = [math.copysign(math.inf, x) if abs(x) > _MAX_FLOAT32 else x for x in values]
        # A reward shared by the team goes to absent agents too.
        is_shared = self.layout.spec.shared_reward
        if is_shared and not self._is_shared_checked:
            finding = check_shared([x for a, x in zip(self.layout.agents, values, strict=True) if a in acting])
            self.warnings += [str(finding)] if finding else []
            self._is_shared_checked = finding is not None
        self.rows["reward"][...] = values[self._active.index(True)] if is_shared else values
        if is_shared and not math.isfinite(sum(values)):  # no agent's NaN hides behind the reward of the first
            for index, reward in enumerate(values):
                if self._active[index] and not math.isfinite(reward):
                    self.rows["reward"][index] = reward

    def _read_reward(self, agent: Any, rewards: Mapping[Any, Any], acting: Collection[Any]) -> float:
        """Return an agent's reward. A reward of an absent agent, such as a dead agent, is paid to the team."""
        reward = rewards.get(agent)
        if reward is None and agent not in acting:
            return 0.0
        value = check_reward(agent, reward) if agent in rewards else broken("no-reward", agent)
        return refuse(self.env, value) if isinstance(value, Finding) else value

    def _read_masks(
        self, observations: Mapping[Any, Any], infos: Any, active: list[bool], over: Collection[Any] = ()
    ) -> None:
        """Read the masks; infos may be None."""
        masked_agent = self.layout.masks.read(observations, infos or {}, active, over, self.rows["mask"])
        if masked_agent:
            self.rows["masked"][...] = masked_agent

    def _check_relisted(self, over: Collection[Any]) -> None:
        """Warn, once, of an agent with an end at two steps in a row: it was probably meant to be dead."""
        again = self._ended_before.intersection(over)
        if again and not self._has_warned:
            self.warnings.append(str(broken("over-but-listed", min(again), when=" at two steps in a row")))
            self._has_warned = True
