"""PettingZoo's Parallel API, one environment after another: the plain loop that faster ones are held against.

Also the way to step an original package, such as mpe2, and a user's own environment.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from mappo.envs.layout import Flat, Seat, order_of, state_space
from mappo.errors import UserError
from mappo.spec import Spec, channels_first
from mappo.types import TimeStep


class ParallelEnvs:
    """`num_envs` environments of PettingZoo's Parallel API, stepped in a loop; an `Environment` on the CPU.

    Agents keep the order of `possible_agents` and may differ in their spaces: see `Spec` for how they are padded.
    One that is not in `env.agents` is inactive: it observes zeros, gets 0 and its action is not sent. Masks are read
    from `obs["action_mask"]`, else `info["action_mask"]`: flat, or one for each head. Numbers of an action are
    clipped to their bounds.

    Args:
        make: called once for each environment.
        num_envs: E.
        shared_reward: all agents are given one number, the team's, which is not to be summed over them.

    Raises:
        UserError: what `make` gives has not this API, or spaces that cannot be used.
    """

    def __init__(self, make: Callable[[], Any], num_envs: int, shared_reward: bool = False) -> None:
        self.envs = [make() for _ in range(num_envs)]
        self.num_envs, self.device = num_envs, torch.device("cpu")
        first = self.envs[0]
        if len({id(env) for env in self.envs}) < num_envs:
            raise UserError(f"the function gave one {type(first).__name__} several times: make one at each call")
        needed = ("possible_agents", "observation_space", "action_space", "reset", "step")
        missing = [n for n in needed if not hasattr(first, n)]
        if hasattr(first, "agent_iter"):
            raise UserError(f"{type(first).__name__} is turn-based (AEC): make it by parallel_env in place of env")
        if missing:
            raise UserError(
                f"{type(first).__name__} is not an environment of PettingZoo's Parallel API: it has no "
                f"{', '.join(missing)}; give a function that makes a ParallelEnv"
            )
        self.agents: list[str] = list(first.possible_agents)
        self._seats = [Seat(a, first.observation_space(a), first.action_space(a)) for a in self.agents]
        space = state_space(first)
        self._state = Flat("state() gave", space) if space is not None else None
        self.spec = Spec(
            agents=tuple(map(str, self.agents)),
            obs_spaces=tuple(seat.flat.space for seat in self._seats),
            action_heads=tuple(seat.heads for seat in self._seats),
            state_shape=_last(self._state.space.shape) if self._state is not None else None,
            shared_reward=shared_reward or bool(getattr(first, "shared_reward", False)),
        )
        for j, seat in enumerate(self._seats):
            seat.place(self.spec, j)
        self._names, self._legal = set(self.agents), self.spec.legal.numpy()
        self._obs_shape, self._obs_size = self.spec.obs_shape, math.prod(self.spec.obs_shape)
        self._obs_dtype = np.uint8 if self.spec.obs_dtype == torch.uint8 else np.float32
        self._order_seen = False
        self._seeds: list[int] = [0] * num_envs
        self._episodes = [0] * num_envs
        self._rows: list[Row] = []
        self._over: list[set[str]] = []  # who was over at the last step, while others went on
        self._warned = False
        self._masked = False

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """First episodes start from the seeds themselves, later ones from what derives from (seed, episode)."""
        if seed is None:
            self._episodes = [n + 1 for n in self._episodes]
        else:
            self._seeds = list(range(seed, seed + self.num_envs)) if isinstance(seed, int) else list(seed)
            self._episodes = [0] * self.num_envs
        if len(self._seeds) != self.num_envs:
            raise ValueError(f"{len(self._seeds)} seeds for {self.num_envs} environments")
        self._masked, self._rows, self._over = False, [], [set[str]() for _ in self.envs]
        self._rows = [self._start(i) for i in range(self.num_envs)]
        if not self._order_seen:
            self._order_seen = True
            self._check_order(self._rows[0])
        nothing = np.zeros((self.num_envs, len(self.agents)))
        return self._time_step(self._rows, nothing, nothing > 0, nothing[:, 0] > 0, nothing == 0)

    def step(self, action: Tensor) -> TimeStep:
        chosen = action.cpu().numpy()
        own = [seat.act(chosen[:, j]) for j, seat in enumerate(self._seats)]
        shape = (self.num_envs, len(self.agents))
        reward, terminated = np.zeros(shape), np.zeros(shape, dtype=bool)
        ended, reached = np.zeros(self.num_envs, dtype=bool), list[Row]()
        is_first = np.zeros(shape, dtype=bool)
        for i, env in enumerate(self.envs):
            before = self._rows[i].active
            acting = {a: own[j][i] for j, a in enumerate(self.agents) if before[j]}
            obs, rewards, ends, cuts, infos = self._stepped(env, acting)
            row = self._row(env, obs, infos)
            over = [a for a in acting if ends.get(a) or cuts.get(a)]
            for j, a in enumerate(self.agents):
                reward[i, j] = _number(a, rewards.get(a, 0.0)) if before[j] else 0.0
                terminated[i, j] = bool(ends.get(a, False)) and before[j]
            if self.spec.shared_reward:  # the absent get the team's number too
                reward[i] = reward[i, int(before.argmax())]
            gone = np.array([a in over for a in self.agents])
            # PettingZoo takes who is over off `env.agents`; who is still on it, among others, began another life.
            if again := self._over[i].intersection(over):
                self._warn_of_lives(again.pop())
            ended[i] = not (row.active & ~gone).any()
            if ended[i]:
                there = before & ~terminated[i]
                for j in there.nonzero()[0]:
                    if self.agents[j] not in obs:
                        raise UserError(
                            f"{self.agents[j]} was cut off by a time limit and observed nothing: the last observation "
                            f"is needed, for the value of what was reached"
                        )
                # Ended by itself only where no agent was cut off by a time limit.
                if not any(cuts.get(a) and not ends.get(a) for a in acting):
                    terminated[i] = True
                self._episodes[i] += 1
                reached.append(Row(row.obs, row.state, row.mask, there))
                row = self._start(i)
                is_first[i] = True
            else:
                # A life cut off while others go on: nothing follows it in this episode.
                terminated[i] |= gone
                row.obs[~row.active] = 0
                is_first[i] = row.active & (~before | gone)
                reached.append(row)
            self._rows[i], self._over[i] = row, set[str]() if ended[i] else set(over)
        return self._time_step(reached, reward, terminated, ended, is_first)

    def close(self) -> None:
        for env in self.envs:
            env.close()

    def render(self, index: int) -> np.ndarray:
        """The picture of the environment itself: it must have been made with `render_mode="rgb_array"`."""
        picture = self.envs[index].render()
        if picture is None:
            raise UserError("the environment gives no picture: make it with render_mode='rgb_array'")
        return np.asarray(picture)

    def _warn_of_lives(self, agent: str) -> None:
        if not self._warned:
            warnings.warn(
                f"{agent} ended at two steps in a row and is still in env.agents: each such step counts as a life "
                f"of its own; take agents that are over off env.agents",
                stacklevel=3,
            )
        self._warned = True

    def _start(self, index: int) -> "Row":
        seed, episode = self._seeds[index], self._episodes[index]
        if episode:
            seed = int(np.random.SeedSequence([seed, episode]).generate_state(1)[0])
        env = self.envs[index]
        try:
            started = env.reset(seed=seed)
        except TypeError as error:
            if "'seed'" not in str(error):
                raise
            raise UserError(f"{type(env).__name__}.reset must take seed=..., as in PettingZoo: {error}") from None
        if not (isinstance(started, tuple) and len(cast(Any, started)) == 2):
            raise UserError(f"{type(env).__name__}.reset must return observations and infos, two dicts by agent")
        row = self._row(env, *cast(Any, started))
        if not row.active.any():
            raise UserError(f"{type(env).__name__}.reset left nobody in env.agents: {env.agents!r}")
        return row

    def _stepped(self, env: Any, acting: dict[str, Any]) -> Any:
        result: Any = env.step(acting)
        if not (isinstance(result, tuple) and len(cast(Any, result)) == 5):
            raise UserError(
                f"{type(env).__name__}.step must return observations, rewards, terminations, truncations and infos"
            )
        for agent in acting:
            if agent not in result[1]:
                raise UserError(f"{type(env).__name__}.step gave no reward to {agent}, who acted")
        for what, given in zip(("reward", "termination", "truncation"), cast(Any, result)[1:4], strict=True):
            self._check_names(env, what, given)
        return cast(Any, result)

    def _row(self, env: Any, obs: Mapping[str, Any], infos: Mapping[str, Any]) -> "Row":
        """One environment's observations in the order of the agents, zeros where one is missing."""
        seen = np.zeros((len(self.agents), self._obs_size), dtype=self._obs_dtype)
        mask, active = self._legal.copy(), np.array([a in env.agents for a in self.agents])
        for j, agent in enumerate(self.agents):
            if agent not in obs:
                if active[j]:
                    there = ", ".join(map(str, obs))
                    raise UserError(f"{agent} is in env.agents and observed nothing; there is: {there}")
                continue
            seat, own = self._seats[j], obs[agent]
            seen[j, : seat.size] = seat.see(own)
            info: Any = infos.get(agent) or {}
            given: Any = info.get("action_mask")
            if isinstance(own, Mapping):
                given = cast(Any, own).get("action_mask", given)
            if given is not None and active[j]:
                mask[j, seat.choices] = self._in_time(agent, seat.may(given))
        self._check_names(env, "observation", obs)
        state = None
        if self._state is not None:
            space, state = self._state.space, self._state.read(env.state()).reshape(self._state.space.shape)
            # Bytes stay bytes in images only. A copy: the environment may go on writing into its own.
            state = np.moveaxis(state, 0, -1) if state.ndim == 3 and channels_first(state.shape) else state
            state = state.astype(np.uint8 if space.dtype == np.uint8 and len(space.shape) == 3 else np.float32)
        return Row(seen.reshape(len(self.agents), *self._obs_shape), state, mask, active)

    def _in_time(self, agent: str, mask: np.ndarray) -> np.ndarray:
        if self._rows and not self._masked and mask.size:
            raise UserError(f"{agent} was given an action mask, but nobody was at the reset: give masks from there on")
        self._masked |= mask.size > 0
        return mask

    def _check_names(self, env: Any, what: str, given: Mapping[str, Any]) -> None:
        if not self._names.issuperset(given):
            stranger = next(name for name in given if name not in self._names)
            raise UserError(
                f"{type(env).__name__} gave {stranger} a {what}, who is not in possible_agents: "
                f"{', '.join(map(str, self.agents))}"
            )

    def _check_order(self, row: "Row") -> None:
        """Who concatenates observations in another order than that of `possible_agents` mixes agents up elsewhere."""
        if row.state is None:
            return
        parts = [x.reshape(-1)[: seat.size] for x, seat in zip(row.obs, self._seats, strict=True)]
        order = order_of(parts, row.state)
        if order is not None and order != sorted(order):
            warnings.warn(
                f"state() holds the observations in the order {', '.join(self.agents[j] for j in order)}, but "
                f"possible_agents is {', '.join(self.agents)}: see that each agent gets its own observation and reward",
                stacklevel=3,
            )

    def _time_step(
        self,
        reached: "list[Row]",
        reward: np.ndarray,
        terminated: np.ndarray,
        ended: np.ndarray,
        is_first: np.ndarray,
    ) -> TimeStep:
        now = self._rows
        has_state = self.spec.state_shape is not None
        return TimeStep(
            obs=_stack([r.obs for r in now]),
            state=_stack([cast(np.ndarray, r.state) for r in now]) if has_state else None,
            mask=_stack([r.mask for r in now]) if self._masked else None,
            active=_stack([r.active for r in now]),
            is_first=torch.as_tensor(is_first),
            reward=torch.as_tensor(reward, dtype=torch.float32),
            terminated=torch.as_tensor(terminated),
            ended=torch.as_tensor(ended),
            next_obs=_stack([r.obs for r in reached]),
            next_state=_stack([cast(np.ndarray, r.state) for r in reached]) if has_state else None,
            next_active=_stack([r.active for r in reached]),
        )


def _last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a state: images have their channels last."""
    return (*shape[1:], shape[0]) if len(shape) == 3 and channels_first(shape) else shape


def _number(agent: str, reward: Any) -> float:
    try:
        return float(reward) if isinstance(reward, int | float) else float(np.asarray(reward).item())
    except (TypeError, ValueError):
        raise UserError(f"{agent} was given the reward {reward!r}, which is not one number") from None


class Row:
    """What one environment shows, agents in order."""

    def __init__(self, obs: np.ndarray, state: np.ndarray | None, mask: np.ndarray, active: np.ndarray) -> None:
        self.obs, self.state, self.mask, self.active = obs, state, mask, active


def _stack(rows: list[np.ndarray]) -> Tensor:
    return torch.as_tensor(np.stack(rows))
