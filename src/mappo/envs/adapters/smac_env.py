"""A game with SMAC's interface, in PettingZoo's Parallel API. Imports no torch: workers run it."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from mappo.errors import UserError


class SmacEnv:
    """One game with SMAC's interface.

    The reward is the team's: all are given the same number. Who died is off `agents`, and does nothing from then on.
    An episode that ends at its step limit with the battle undecided is truncated, and so is one in which StarCraft
    crashed, which shows again what was seen before; SMAC calls both terminated. Infos hold `action_mask`, and what the
    game tells, such as `battle_won`.

    Args:
        game: has `reset()`, `get_obs()`, `get_state()`, `get_avail_actions()`, `step(list[int])`, which answers reward,
            terminated and info, `get_env_info()` and `close()`. An info is empty at an end only where it crashed.
        episode_limit: steps, if the game itself has no limit or a later one.

    Raises:
        UserError: there is no limit of at least one step.
    """

    shared_reward = True

    def __init__(self, game: Any, episode_limit: int | None = None) -> None:
        info: dict[str, Any] = game.get_env_info()
        limits = [limit for limit in (episode_limit, info.get("episode_limit")) if limit is not None]
        if not limits or min(limits) < 1:
            raise UserError(f"{type(game).__name__} has no step limit: give an episode_limit of 1 or more")
        self.game, self.episode_limit = game, min(limits)
        self.possible_agents = [f"agent_{i}" for i in range(info["n_agents"])]
        self.agents: list[str] = []
        self.state_space = spaces.Box(-np.inf, np.inf, (int(info["state_shape"]),), np.float32)
        self._observed = spaces.Box(-np.inf, np.inf, (int(info["obs_shape"]),), np.float32)
        self._acted = spaces.Discrete(int(info["n_actions"]))
        self._takes_seed = "seed" in inspect.signature(game.reset).parameters
        self._launched, self._steps = False, 0

    def observation_space(self, agent: str) -> spaces.Box:
        return self._observed

    def action_space(self, agent: str) -> spaces.Discrete:
        return self._acted

    def state(self) -> np.ndarray:
        """What the game told last of all units, float32 `(S,)`."""
        return self._state

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts a battle; StarCraft II draws as it likes, whatever the seed."""
        if self._launched and getattr(self.game, "_episode_count", None) == 0:
            self.game.close()  # with no battle fought to its end, it would start another StarCraft beside the first
        # What it returns is nothing in SMACv2, if it had to try twice.
        self.game.reset(seed=seed) if self._takes_seed else self.game.reset()
        self._launched, self._steps = True, 0
        self._look()
        self.agents = self._alive()
        return self._of(self.agents, self._obs), self._infos(self.agents, {})

    def step(self, actions: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Observations, rewards, terminations, truncations and infos of who acted; after the end five empty dicts."""
        acted = self.agents
        if not acted:
            return {}, {}, {}, {}, {}
        # The dead must send the no-op, which is for nobody else; and ints that are not Python's own are refused.
        reward, terminated, info = self.game.step([int(actions[a]) if a in acted else 0 for a in self.possible_agents])
        self._steps += 1
        crashed = bool(terminated) and not info
        if not crashed:
            self._look()
        alive = self._alive()
        late = self._steps >= self.episode_limit
        decided = info.get("battle_won") or getattr(self.game, "defeat_counted", False)
        cut = crashed or (late and not decided)
        over = bool(terminated or late or not alive)
        self.agents = [] if over else [a for a in acted if a in alive]
        return (
            self._of(acted, self._obs),
            dict.fromkeys(acted, float(reward)),
            {a: (over and not cut) or a not in alive for a in acted},
            {a: cut and a in alive for a in acted},
            self._infos(acted, info),
        )

    def render(self) -> np.ndarray:
        """The battle as it stands, uint8 `(H, W, 3)`.

        Raises:
            UserError: the game draws nothing.
        """
        draw = getattr(self.game, "render", None)
        if draw is None:
            raise UserError(f"{type(self.game).__name__} cannot be drawn: it has no render")
        return np.ascontiguousarray(draw(mode="rgb_array"))

    def close(self) -> None:
        self.game.close()

    def _look(self) -> None:
        self._obs = np.array(self.game.get_obs(), dtype=np.float32)
        self._state = np.array(self.game.get_state(), dtype=np.float32)
        self._masks = np.array(self.game.get_avail_actions()).astype(bool)

    def _alive(self) -> list[str]:
        # Whoever lives may stop at least.
        return [a for a, mask in zip(self.possible_agents, self._masks, strict=True) if mask[1:].any()]

    def _of(self, agents: list[str], rows: np.ndarray) -> dict[str, Any]:
        return {a: row for a, row in zip(self.possible_agents, rows, strict=True) if a in agents}

    def _infos(self, agents: list[str], told: Mapping[str, Any]) -> dict[str, Any]:
        return {a: {**told, "action_mask": mask} for a, mask in self._of(agents, self._masks).items()}
