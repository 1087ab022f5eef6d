"""Adapter from SMAC's interface to PettingZoo's Parallel API. Loads no torch: workers import this module."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from mappo.errors import UserError


class SmacEnv:
    """An environment with SMAC's interface, as a PettingZoo environment.

    The reward belongs to the team, and all agents receive the same number. A dead agent leaves `agents` and does
    nothing more. An episode is truncated if it reaches the step limit with the battle undecided. It is also truncated
    if StarCraft crashes; the last observations are then repeated. SMAC reports both as terminated. The infos hold
    `action_mask`, and SMAC's own entries such as `battle_won`.

    Args:
        env: an object with `reset()`, `get_obs()`, `get_state()`, `get_avail_actions()`, `get_env_info()`, `close()`
            and `step(list[int])`, with reward, terminated and info as its result. Only after a crash info is empty.
        episode_limit: steps of an episode, if `env` has no limit or a later one.

    Raises:
        UserError: there is no limit of at least one step.
    """

    shared_reward = True

    def __init__(self, env: Any, episode_limit: int | None = None) -> None:
        info: dict[str, Any] = env.get_env_info()
        limits = [limit for limit in (episode_limit, info.get("episode_limit")) if limit is not None]
        if not limits or min(limits) < 1:
            raise UserError(f"{type(env).__name__} has no step limit: use an episode_limit of 1 or more")
        self.env = env
        self.episode_limit = min(limits)
        self.possible_agents = [f"agent_{i}" for i in range(info["n_agents"])]
        self.agents: list[str] = []
        self.state_space = spaces.Box(-np.inf, np.inf, (int(info["state_shape"]),), np.float32)
        self._obs_space = spaces.Box(-np.inf, np.inf, (int(info["obs_shape"]),), np.float32)
        self._action_space = spaces.Discrete(int(info["n_actions"]))
        self._takes_seed = "seed" in inspect.signature(env.reset).parameters
        self._is_launched = False
        self._steps = 0

    def observation_space(self, agent: str) -> spaces.Box:
        return self._obs_space

    def action_space(self, agent: str) -> spaces.Discrete:
        return self._action_space

    def state(self) -> np.ndarray:
        """Return the last state of all units, float32 `(S,)`."""
        return self._state

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start a battle; StarCraft II ignores the seed and samples as it likes."""
        if self._is_launched and getattr(self.env, "_episode_count", None) == 0:
            self.env.close()  # before the end of its first battle, a reset would start a second StarCraft
        # The return value is ignored, because SMACv2 returns None if it had to try twice.
        self.env.reset(seed=seed) if self._takes_seed else self.env.reset()
        self._is_launched = True
        self._steps = 0
        self._read()
        self.agents = self._alive()
        return self._by_agent(self.agents, self._obs), self._infos(self.agents, {})

    def step(self, actions: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Return observations, rewards, terminations, truncations and infos of the acting agents.

        After the end, all five are empty dicts.
        """
        acted = self.agents
        if not acted:
            return {}, {}, {}, {}, {}
        # The dead must send the no-op, illegal for the living. SMAC refuses numpy's ints.
        reward, terminated, info = self.env.step([int(actions[a]) if a in acted else 0 for a in self.possible_agents])
        self._steps += 1
        crashed = bool(terminated) and not info
        if not crashed:
            self._read()
        alive = self._alive()
        is_last = self._steps >= self.episode_limit
        is_decided = info.get("battle_won") or getattr(self.env, "defeat_counted", False)
        cut = crashed or (is_last and not is_decided)
        over = bool(terminated or is_last or not alive)
        self.agents = [] if over else [a for a in acted if a in alive]
        return (
            self._by_agent(acted, self._obs),
            dict.fromkeys(acted, float(reward)),
            {a: (over and not cut) or a not in alive for a in acted},
            {a: cut and a in alive for a in acted},
            self._infos(acted, info),
        )

    def render(self) -> np.ndarray:
        """Render the battle, uint8 `(H, W, 3)`.

        Raises:
            UserError: the environment has no `render`.
        """
        render = getattr(self.env, "render", None)
        if render is None:
            raise UserError(f"{type(self.env).__name__} cannot be rendered: it has no render")
        return np.ascontiguousarray(render(mode="rgb_array"))

    def close(self) -> None:
        self.env.close()

    def _read(self) -> None:
        """Copy observations, state and masks."""
        self._obs = np.array(self.env.get_obs(), dtype=np.float32)
        self._state = np.array(self.env.get_state(), dtype=np.float32)
        self._masks = np.array(self.env.get_avail_actions()).astype(bool)

    def _alive(self) -> list[str]:
        # A living agent may at least stop.
        return [a for a, mask in zip(self.possible_agents, self._masks, strict=True) if mask[1:].any()]

    def _by_agent(self, agents: list[str], values: np.ndarray) -> dict[str, Any]:
        return {a: value for a, value in zip(self.possible_agents, values, strict=True) if a in agents}

    def _infos(self, agents: list[str], info: Mapping[str, Any]) -> dict[str, Any]:
        return {a: {**info, "action_mask": mask} for a, mask in self._by_agent(agents, self._masks).items()}
