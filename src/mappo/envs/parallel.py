"""PettingZoo's Parallel API, one environment after another: the plain loop that faster ones are held against.

Also the way to step an original package, such as mpe2, and a user's own environment.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.errors import UserError
from mappo.types import ActionHeads, Spec, TimeStep


class ParallelEnvs:
    """`num_envs` environments of PettingZoo's Parallel API, stepped in a loop; an `Environment` on the CPU.

    Agents keep the order of `possible_agents`. One that is not in `env.agents` is inactive: it observes zeros,
    gets 0 and its action is not sent. Masks are read from `obs["action_mask"]`, else `info["action_mask"]`.

    Args:
        make: called once for each environment.
        num_envs: E.

    Raises:
        UserError: what `make` gives has not this API, or its agents' spaces differ.
    """

    def __init__(self, make: Callable[[], Any], num_envs: int) -> None:
        self.envs = [make() for _ in range(num_envs)]
        self.num_envs, self.device = num_envs, torch.device("cpu")
        first = self.envs[0]
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
        self._first_spaces = [first.observation_space(a) for a in self.agents]
        self.spec = self._read_spec(first)
        self._seeds: list[int] = [0] * num_envs
        self._episodes = [0] * num_envs
        self._rows: list[Row] = []
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
        self._masked, self._rows = False, []
        self._rows = [self._start(i) for i in range(self.num_envs)]
        nothing = np.zeros((self.num_envs, len(self.agents)))
        return self._time_step(self._rows, nothing, nothing > 0, nothing[:, 0] > 0, nothing == 0)

    def step(self, action: Tensor) -> TimeStep:
        chosen = action.cpu().numpy()
        shape = (self.num_envs, len(self.agents))
        reward, terminated = np.zeros(shape), np.zeros(shape, dtype=bool)
        ended, reached = np.zeros(self.num_envs, dtype=bool), list[Row]()
        is_first = np.zeros(shape, dtype=bool)
        for i, env in enumerate(self.envs):
            before = self._rows[i].active
            acting = {a: self._send(j, chosen[i, j]) for j, a in enumerate(self.agents) if before[j]}
            obs, rewards, ends, cuts, infos = self._stepped(env, acting)
            row = self._row(env, obs, infos)
            over = [a for a in acting if ends.get(a) or cuts.get(a)]
            for j, a in enumerate(self.agents):
                reward[i, j] = rewards.get(a, 0.0) if before[j] else 0.0
                terminated[i, j] = bool(ends.get(a, False)) and before[j]
            gone = np.array([a in over for a in self.agents])
            # PettingZoo takes who is over off `env.agents`; who is still on it, among others, began another life.
            ended[i] = not (row.active & ~gone).any()
            if ended[i]:
                there = before & ~terminated[i]
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
            self._rows[i] = row
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

    def _start(self, index: int) -> "Row":
        seed, episode = self._seeds[index], self._episodes[index]
        if episode:
            seed = int(np.random.SeedSequence([seed, episode]).generate_state(1)[0])
        env = self.envs[index]
        started = env.reset(seed=seed)
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
        return cast(Any, result)

    def _row(self, env: Any, obs: Mapping[str, Any], infos: Mapping[str, Any]) -> "Row":
        """One environment's observations in the order of the agents, zeros where one is missing."""
        shape = cast(tuple[int, ...], self.spec.obs_spaces[0].shape)
        seen = np.zeros((len(self.agents), *shape), dtype=self._dtype)
        mask = np.ones((len(self.agents), sum(self.spec.action_heads[0].categorical)), dtype=bool)
        for j, agent in enumerate(self.agents):
            if agent not in obs:
                if agent in env.agents:
                    raise UserError(f"{agent} is in env.agents and observed nothing; there is: {', '.join(obs)}")
                continue
            own: Any = obs[agent]
            given = infos.get(agent, {}).get("action_mask")
            if isinstance(own, Mapping):
                given = cast(Any, own).get("action_mask", given)
                own = cast(Any, own)["observation"]
            own = np.asarray(own)
            if own.shape != shape:
                raise UserError(f"{agent} observed an array of shape {own.shape}; its space says {shape}")
            seen[j] = own
            if given is not None:
                mask[j] = self._checked_mask(agent, np.asarray(given, dtype=bool), mask[j].shape)
        state = np.asarray(env.state(), dtype=np.float32) if self.spec.state_shape is not None else None
        active = np.array([a in env.agents for a in self.agents])
        return Row(seen, state, mask, active)

    def _checked_mask(self, agent: str, mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if mask.shape != shape:
            raise UserError(f"{agent} was given an action mask of shape {mask.shape}; its actions need {shape}")
        if not mask.any():
            raise UserError(f"{agent} was given an action mask in which nothing is legal")
        if self._rows and not self._masked:
            raise UserError(f"{agent} was given an action mask, but nobody was at the reset: give masks from there on")
        self._masked = True
        return mask

    def _send(self, agent: int, action: np.ndarray) -> Any:
        start = self._starts[agent]
        return int(action[0]) + start if isinstance(start, int) else action + start

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

    def _read_spec(self, env: Any) -> Spec:
        observed = [s["observation"] if isinstance(s, spaces.Dict) else s for s in self._first_spaces]
        acted = [env.action_space(a) for a in self.agents]
        kinds = [_heads(a, space) for a, space in zip(self.agents, acted, strict=True)]
        if len({s.shape for s in observed}) > 1 or len(set(kinds)) > 1:
            each = zip(self.agents, observed, acted, strict=True)
            told = "; ".join(f"{agent} sees {seen.shape} and acts in {act}" for agent, seen, act in each)
            raise UserError(f"agents with different spaces are not supported yet: {told}")
        if any(s.shape is None or len(s.shape) != 1 for s in observed):
            raise UserError(f"only vector observations are supported yet, got {observed[0]}")
        self._starts = [_starts(space) for space in acted]
        self._dtype = np.uint8 if observed[0].dtype == np.uint8 else np.float32
        space = getattr(env, "state_space", None)
        return Spec(
            agents=tuple(self.agents),
            obs_spaces=tuple(observed),
            action_heads=tuple(kinds),
            groups=(0,) * len(self.agents),
            state_shape=space.shape if space is not None else None,
        )


class Row:
    """What one environment shows, agents in order."""

    def __init__(self, obs: np.ndarray, state: np.ndarray | None, mask: np.ndarray, active: np.ndarray) -> None:
        self.obs, self.state, self.mask, self.active = obs, state, mask, active


def _heads(agent: str, space: Any) -> ActionHeads:
    if isinstance(space, spaces.Discrete):
        return ActionHeads((int(cast(Any, space).n),))
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return ActionHeads(tuple(cast(list[int], space.nvec.tolist())))
    raise UserError(f"{agent} acts in {space}: only Discrete and MultiDiscrete are supported yet")


def _starts(space: Any) -> int | np.ndarray:
    start: Any = space.start
    return int(start) if isinstance(space, spaces.Discrete) else np.asarray(start)


def _stack(rows: list[np.ndarray]) -> Tensor:
    return torch.as_tensor(np.stack(rows))
