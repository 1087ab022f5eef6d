"""One environment of PettingZoo's Parallel API, stepped and reset; what it shows, in arrays. Loads no torch."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from mappo.envs.vector.team_layout import TeamLayout, TeamRow
from mappo.errors import UserError


class EnvSlot:
    """One environment, whose next episode starts where one ended.

    Who is not in `env.agents` is inactive: it observes zeros, gets 0 and its action is not sent.

    Args:
        rows: where it shows itself; see `Buffers.rows`.
    """

    def __init__(self, env: Any, layout: TeamLayout, rows: dict[str, np.ndarray]) -> None:
        self.env, self.layout, self.rows = env, layout, rows
        self.warnings: list[str] = []
        self._is_over = set[str]()  # who was over at the last step, while others went on
        self._checked = False

    def reset(self, check_order: bool = False) -> None:
        """The episode that `seed` and `episode` name, as after a reset of all."""
        self.rows["masked"][...] = 0
        row = self._start()
        self._is_over.clear()
        if check_order and (told := self.layout.order_warning(row)):
            self.warnings.append(told)
        self._write(row, "next_")
        for name in ("reward", "terminated", "ended"):
            self.rows[name][...] = 0

    def step(self, actions: Mapping[str, Any]) -> None:
        """One step, by every agent's action in its own space; those of the inactive are not sent.

        Raises:
            UserError: the environment breaks the rules of its API.
        """
        rows, agents, shared = self.rows, self.layout.agents, self.layout.spec.shared_reward
        before = rows["active"].copy()
        acting = {a: actions[a] for j, a in enumerate(agents) if before[j]}
        obs, rewards, ends, cuts, infos = self._stepped(acting)
        row, masked = self.layout.read(self.env, obs, infos)
        over = {a for a in acting if ends.get(a) or cuts.get(a)}
        reward = np.array([_number(a, rewards.get(a, 0.0)) if a in acting else 0.0 for a in agents])
        # The absent get the team's number too.
        rows["reward"][...] = reward[int(before.argmax())] if shared else reward
        terminated = np.array([a in acting and bool(ends.get(a, False)) for a in agents])
        gone = np.array([a in over for a in agents])
        # PettingZoo takes who is over off `env.agents`; who is still on it, among others, began another life.
        if again := self._is_over & over:
            self._warn_of_lives(again.pop())
        rows["masked"][...] = rows["masked"] or masked
        rows["ended"][...] = ended = not (row.active & ~gone).any()
        if ended:
            there = before & ~terminated
            for j in there.nonzero()[0]:
                if agents[j] not in obs:
                    raise UserError(
                        f"{agents[j]} was cut off by a time limit and observed nothing: the last observation "
                        f"is needed, for the value of what was reached"
                    )
            # Ended by itself only where no agent was cut off by a time limit.
            rows["terminated"][...] = terminated | (not any(cuts.get(a) and not ends.get(a) for a in acting))
            self._write(TeamRow(row.obs, row.state, row.mask, there), "next_")
            rows["episode"][...] += 1
            self._start()
        else:
            # A life cut off while others go on: nothing follows it in this episode.
            rows["terminated"][...] = terminated | gone
            row.obs[~row.active] = 0
            self._write(row, "next_")
            self._write(row)
            rows["is_first"][...] = row.active & (~before | gone)
        self._is_over = set[str]() if ended else over

    def _start(self) -> TeamRow:
        """First episodes start from the seeds themselves, later ones from what derives from (seed, episode)."""
        seed, episode = int(self.rows["seed"]), int(self.rows["episode"])
        if episode:
            seed = int(np.random.SeedSequence([seed, episode]).generate_state(1)[0])
        kind = type(self.env).__name__
        try:
            started: Any = self.env.reset(seed=seed)
        except TypeError as error:
            if "'seed'" not in str(error):
                raise
            raise UserError(f"{kind}.reset must take seed=..., as in PettingZoo: {error}") from None
        if not (isinstance(started, tuple) and len(cast(Any, started)) == 2):
            raise UserError(f"{kind}.reset must return observations and infos, two dicts by agent")
        row, masked = self.layout.read(self.env, *cast(Any, started))
        row.obs[~row.active] = 0
        if not row.active.any():
            raise UserError(f"{kind}.reset left nobody in env.agents: {self.env.agents!r}")
        self.rows["masked"][...] = self.rows["masked"] or masked
        self._write(row)
        self.rows["is_first"][...] = True
        return row

    def _stepped(self, acting: dict[str, Any]) -> Any:
        kind, result = type(self.env).__name__, self.env.step(acting)
        if not (isinstance(result, tuple) and len(cast(Any, result)) == 5):
            raise UserError(f"{kind}.step must return observations, rewards, terminations, truncations and infos")
        for agent in acting:
            if agent not in result[1]:
                raise UserError(f"{kind}.step gave no reward to {agent}, who acted")
        for what, given in zip(("reward", "termination", "truncation"), cast(Any, result)[1:4], strict=True):
            self.layout.check_names(self.env, what, given)
        return cast(Any, result)

    def _write(self, row: TeamRow, when: str = "") -> None:
        self.rows[when + "obs"][...] = row.obs
        self.rows[when + "active"][...] = row.active
        if row.state is not None:
            self.rows[when + "state"][...] = row.state
        if not when:
            self.rows["mask"][...] = row.mask

    def _warn_of_lives(self, agent: str) -> None:
        if not self._checked:
            self.warnings.append(
                f"{agent} ended at two steps in a row and is still in env.agents: each such step counts as a life "
                f"of its own; take agents that are over off env.agents"
            )
        self._checked = True


def _number(agent: str, reward: Any) -> float:
    try:
        return float(reward) if isinstance(reward, int | float) else float(np.asarray(reward).item())
    except (TypeError, ValueError):
        raise UserError(f"{agent} was given the reward {reward!r}, which is not one number") from None
