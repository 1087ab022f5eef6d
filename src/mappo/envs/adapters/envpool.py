"""The package envpool: its Jumanji family, in C++, batched on the CPU.

`envpool/LevelBasedForaging-v0` and `envpool/Cleaner-v0` are envpool's own versions of Jumanji's environments. They
follow lbforaging and others only loosely, with other rules and rewards: their returns cannot be compared.
In envpool 1.2.5:

- LevelBasedForaging: 2 agents, 2 food items, 8 x 8. All episodes start from the same state for every seed: a policy
  learns a single level. The options `lbf_agents` and `lbf_food` select another level.
- Cleaner: 3 agents from the same corner, with random walls. An illegal move ends the episode. In about two of a
  hundred episodes walls close the corner: no action is legal, and the mask offers all.
- RobotWarehouse is a placeholder without shelves. Its reward is 0, or -1 for a collision, and a collision ends the
  episode. mappo refuses it.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.core.seeding import expand_seeds
from mappo.core.spec import ActionHeads, Spec
from mappo.core.timestep import TimeStep
from mappo.envs.adapters.packages import construction, refuse_options
from mappo.envs.batched.base import time_step_of_team
from mappo.envs.names import require, unknown
from mappo.errors import UserError
from mappo.system.packages import install_command

# For each environment, the keys of observations per agent, and of observations common to all agents.
_OBS_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "LevelBasedForaging-v0": (("agents_view",), ()),
    "Cleaner-v0": (("agents_locations",), ("agents_locations", "grid")),
}
_RESERVED = (
    *("num_envs", "batch_size", "seed", "env_seed", "max_num_players", "max_episode_steps"),
    "gym_reset_return_info",
)


class EnvPool:
    """E copies of one environment of envpool: an `Environment` on the CPU, without a saved state.

    All agents receive the team's reward. The environment's own end terminates an episode. The time limit truncates it,
    even if envpool reports a termination: 100 steps, the most that envpool allows. An end at exactly the last step
    counts as truncated.

    Args:
        env_name: its name in envpool, without `Jumanji/`.
        num_envs: E.
        max_steps: an earlier time limit.
        num_threads: threads of envpool; useful for some hundreds of environments and more.
        options: options of the environment in envpool.

    Raises:
        UserError: envpool is not installed, or the environment, an option or a value is invalid.
    """

    def __init__(
        self, env_name: str, num_envs: int, max_steps: int | None = None, num_threads: int = 1, **options: Any
    ) -> None:
        self._name = f"envpool/{env_name}"
        self._envpool = _load(env_name)
        if num_envs < 1 or num_threads < 1:
            raise UserError(f"{self._name} needs at least one environment and thread: {num_envs}, {num_threads}")
        refuse_options(self._name, options, _RESERVED, "there are max_steps and num_threads")
        self.env_name = env_name
        self.num_envs = num_envs
        self.device = torch.device("cpu")
        self._options = {**options, "num_threads": num_threads}
        self._pool: Any = self._build(range(num_envs))
        limit: int = self._pool.config["max_episode_steps"]
        self._max_steps = limit if max_steps is None else max_steps
        if not 1 <= self._max_steps <= limit:
            raise UserError(f"{self._name} has 1 to {limit} steps, got max_steps {max_steps}")
        self._warn_of_constant_start()
        obs = self._pool.reset()[0]
        agents, choices = obs["action_mask"].shape[1:]
        obs_space = spaces.Box(-np.inf, np.inf, self._join_obs(obs).shape[2:], np.float32)
        self.spec = Spec(
            agents=tuple(f"agent_{i}" for i in range(agents)),
            obs_spaces=(obs_space,) * agents,
            action_heads=(ActionHeads((choices,)),) * agents,
            groups=(0,) * agents,
            shared_reward=True,
        )
        self._everyone = torch.ones(num_envs, agents, dtype=torch.bool)

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Reset all environments; the seeds start the first episodes, later ones continue their random streams."""
        if seed is not None:
            seeds = expand_seeds("envpool", seed, self.num_envs)
            # envpool accepts seeds only at construction.
            self._pool.close()
            self._pool = self._build(seeds)
        first = self._pool.reset()[0]
        obs = self._join_obs(first)
        nobody = ~self._everyone
        return time_step_of_team(
            self._everyone,
            obs=obs,
            next_obs=obs,
            mask=_legal_actions(first),
            reward=nobody.float(),
            terminated=nobody,
            ended=nobody[:, 0],
            is_first=self._everyone,
        )

    def step(self, action: Tensor) -> TimeStep:
        """Step all environments by actions `(E, A, 1)`."""
        raw, reward, terminated, truncated, info = self._pool.step(action[..., 0].cpu().numpy().astype(np.int32))
        is_last = info["elapsed_step"] >= self._max_steps
        ended = terminated | truncated | is_last
        next_obs = obs = self._join_obs(raw)
        mask = _legal_actions(raw)
        if ended.any():
            # Without this reset, envpool would reset at the next step, and ignore its action.
            indices = ended.nonzero()[0].astype(np.int32)
            first = self._pool.reset(indices)[0]
            obs = next_obs.clone()
            obs[indices] = self._join_obs(first)
            mask[indices] = _legal_actions(first)
        return time_step_of_team(
            self._everyone,
            obs=obs,
            next_obs=next_obs,
            mask=mask,
            reward=torch.tensor(reward).unsqueeze(1).repeat(1, self.spec.num_agents),
            terminated=torch.as_tensor(ended & ~is_last).unsqueeze(1) & self._everyone,
            ended=torch.as_tensor(ended),
            is_first=torch.as_tensor(ended).unsqueeze(1) & self._everyone,
        )

    def close(self) -> None:
        self._pool.close()

    def _build(self, seeds: Sequence[int]) -> Any:
        """Build one environment of envpool for each seed."""
        folded = [seed % 2**31 for seed in seeds]
        with construction(self._name, self._options):
            return self._envpool.make_gymnasium(
                f"Jumanji/{self.env_name}", num_envs=len(folded), seed=folded, **self._options
            )

    def _warn_of_constant_start(self) -> None:
        pool = self._build(range(8))
        starts = self._join_obs(pool.reset()[0])
        pool.close()
        if (starts == starts[0]).all():
            warnings.warn(
                f"{self._name} starts every episode from the same state, whatever the seed: training and scores hold "
                f"for that one level",
                stacklevel=4,
            )

    def _join_obs(self, obs: Mapping[str, np.ndarray]) -> Tensor:
        """Return the observations: float32 `(E, A, O)`; a copy, because envpool reuses its memory."""
        agent_keys, common_keys = _OBS_KEYS[self.env_name]
        envs, agents = obs["action_mask"].shape[:2]
        parts = [obs[key].reshape(envs, agents, -1) for key in agent_keys]
        parts += [np.repeat(obs[key].reshape(envs, 1, -1), agents, 1) for key in common_keys]
        return torch.as_tensor(np.concatenate(parts, -1).astype(np.float32))


def make(name: str, num_envs: int, device: torch.device | str, options: Mapping[str, Any]) -> EnvPool:
    """Build `num_envs` copies of `name`, on the CPU wherever the policy is; see `EnvPool` for options and errors."""
    return EnvPool(name, num_envs, **options)


def names(_family: str) -> list[str]:
    """Return the names of all supported environments."""
    return list(_OBS_KEYS)


def _load(env_name: str) -> Any:
    """Import the package, if this adapter supports the environment."""
    if env_name.startswith("RobotWarehouse"):
        raise UserError(
            f"envpool/{env_name} is no warehouse: in envpool 1.2.5 it has no shelves, and no reward above 0; "
            f"use rware/..."
        )
    if env_name not in _OBS_KEYS:
        raise unknown("envpool", env_name, _OBS_KEYS)
    return require("envpool", "envpool", install_command("envpool"))


def _legal_actions(obs: Mapping[str, np.ndarray]) -> Tensor:
    """Return the mask, bool `(E, A, N)`; all True where no action is legal, because an agent must choose."""
    mask = torch.tensor(obs["action_mask"])
    return mask | ~mask.any(-1, keepdim=True)
