"""An environment of PettingZoo's Parallel API: resets, steps, and their results as arrays. Loads no torch."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mappo.envs.vector.api_checks import check_names, check_return, check_reward, check_seed
from mappo.envs.vector.rules import Finding, broken
from mappo.envs.vector.team_layout import TeamLayout, TeamRow, raise_finding


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
        self.warnings: list[str] = []
        self._ended_before = set[str]()  # agents with an end at the last step, if others went on
        self._has_warned = False

    def reset(self, check_order: bool = False) -> None:
        """Start the episode determined by `seed` and `episode`, as after a reset of all environments."""
        self.rows["masked"][...] = 0
        row = self._start_episode()
        self._ended_before.clear()
        if check_order and (warning := self.layout.order_warning(row)):
            self.warnings.append(warning)
        self._write(row, "next_")
        for name in ("reward", "terminated", "ended"):
            self.rows[name][...] = 0

    def step(self, actions: Mapping[str, Any]) -> None:
        """Step the environment, and write the results.

        Args:
            actions: an action of each agent, in its own space; actions of inactive agents are not sent.

        Raises:
            UserError: the environment breaks a rule of its API.
        """
        agents = self.layout.agents
        was_active = self.rows["active"].copy()  # (A,)
        acting = {a: actions[a] for j, a in enumerate(agents) if was_active[j]}
        observations, rewards, terminations, truncations, infos = self._call_step(acting)
        row, masked = self.layout.read(self.env, observations, infos)
        over = {a for a in acting if terminations.get(a) or truncations.get(a)}
        is_over = np.array([a in over for a in agents])
        terminated = np.array([a in acting and bool(terminations.get(a, False)) for a in agents])
        self._write_rewards(rewards, acting, was_active)
        self._check_relisted(over)
        self.rows["masked"][...] = self.rows["masked"] or masked
        has_ended = not (row.active & ~is_over).any()
        self.rows["ended"][...] = has_ended
        if has_ended:
            cut = any(truncations.get(a) and not terminations.get(a) for a in acting)
            # The episode ended by itself only if no agent was cut off by a time limit.
            self.rows["terminated"][...] = terminated | (not cut)
            self._end_episode(row, was_active & ~terminated, observations)
        else:
            # A truncated life, while others go on: nothing follows the life in this episode.
            self.rows["terminated"][...] = terminated | is_over
            row.obs[~row.active] = 0
            self._write(row, "next_")
            self._write(row)
            # An agent over, and still in env.agents, has respawned.
            self.rows["is_first"][...] = row.active & (~was_active | is_over)
        self._ended_before = set[str]() if has_ended else over

    def _end_episode(self, row: TeamRow, next_active: np.ndarray, observations: Collection[str]) -> None:
        """Write the last observations `(A, O)` of an episode, then start the next episode."""
        for j in next_active.nonzero()[0]:
            if self.layout.agents[j] not in observations:
                raise_finding(self.env, broken("no-final-observation", self.layout.agents[j]))
        self._write(TeamRow(row.obs, row.state, row.mask, next_active), "next_")
        self.rows["episode"][...] += 1
        self._start_episode()

    def _start_episode(self) -> TeamRow:
        """Reset the environment: with the seed itself at first, then with seeds derived from (seed, episode)."""
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
        row, masked = self.layout.read(self.env, *result)
        row.obs[~row.active] = 0
        if not row.active.any():
            raise_finding(self.env, broken("nobody", agents=repr(self.env.agents)))
        self.rows["masked"][...] = self.rows["masked"] or masked
        self._write(row)
        self.rows["is_first"][...] = True
        return row

    def _call_step(self, acting: dict[str, Any]) -> Any:
        result = self.env.step(acting)
        raise_finding(self.env, check_return("step", result))
        for agent in acting:
            if agent not in result[1]:
                raise_finding(self.env, broken("no-reward", agent))
        for what, values in zip(("rewards", "terminations", "truncations"), result[1:4], strict=True):
            raise_finding(self.env, check_names(what, values, self.layout.names))
        return result

    def _write_rewards(self, rewards: Mapping[str, Any], acting: Collection[str], was_active: np.ndarray) -> None:
        values = [check_reward(a, rewards[a]) if a in acting else 0.0 for a in self.layout.agents]
        for value in values:
            if isinstance(value, Finding):
                raise_finding(self.env, value)
        reward = np.array(values)
        # A reward shared by the team goes to absent agents too.
        is_shared = self.layout.spec.shared_reward
        self.rows["reward"][...] = reward[int(was_active.argmax())] if is_shared else reward

    def _write(self, row: TeamRow, prefix: str = "") -> None:
        self.rows[prefix + "obs"][...] = row.obs
        self.rows[prefix + "active"][...] = row.active
        if row.state is not None:
            self.rows[prefix + "state"][...] = row.state
        if not prefix:
            self.rows["mask"][...] = row.mask

    def _check_relisted(self, over: Collection[str]) -> None:
        """Warn, once, of an agent with an end at two steps in a row: it was probably meant to be dead."""
        again = self._ended_before.intersection(over)
        if again and not self._has_warned:
            self.warnings.append(str(broken("over-but-listed", min(again), when=" at two steps in a row")))
            self._has_warned = True
