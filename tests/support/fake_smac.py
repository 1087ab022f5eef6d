"""The interface of SMAC without StarCraft: small battles by the same rules, the same for the same seed.

Allies stand in a row and fire at enemies in range; enemies fire at the ally whom chance picks. What SMAC asserts is
asserted here too.
"""

from typing import Any

import numpy as np

NO_OP, STOP, NORTH, SOUTH, EAST, WEST = range(6)
RANGE, FIELD = 3, 8


class FakeSmac:
    """SMAC's `StarCraft2Env`.

    Args:
        damage: of each enemy's shot. medics: allies who cannot fight: with only them left, the battle is lost.
        crash_at: the step, counted over all battles, at which StarCraft crashes.
        retries: `reset` answers nothing, as in SMACv2 when it has to try twice.
        loud: an episode limit shows in the info, as with SMAC's `continuing_episode`.
    """

    def __init__(
        self,
        seed: int = 0,
        n_agents: int = 3,
        n_enemies: int = 2,
        episode_limit: int = 12,
        *,
        health: int = 4,
        damage: int = 2,
        medics: tuple[int, ...] = (),
        crash_at: int | None = None,
        retries: bool = False,
        loud: bool = False,
    ) -> None:
        self.n_agents, self.n_enemies, self.episode_limit = n_agents, n_enemies, episode_limit
        self.n_actions = 6 + n_enemies
        self.rng = np.random.default_rng(seed)
        self.health, self.damage, self.medics = health, damage, medics
        self.crash_at, self.retries, self.loud = crash_at, retries, loud
        self.max_reward = n_enemies * (health + 10) + 200
        self.running, self.most_running = 0, 0  # processes of StarCraft
        self.fought = 0
        self.crashed = False
        self.sent: list[list[int]] = []
        self._episode_count = 0

    def get_env_info(self) -> dict[str, Any]:
        return {
            "state_shape": 3 * (self.n_agents + self.n_enemies),
            "obs_shape": 3 + 2 * self.n_enemies,
            "n_actions": self.n_actions,
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
        }

    def reset(self) -> Any:
        if self._episode_count == 0:
            self._launch()
        self.crashed, self.defeat_counted, self.steps = False, False, 0
        self.allies, self.enemies = np.full(self.n_agents, self.health), np.full(self.n_enemies, self.health)
        self.places = np.stack([np.zeros(self.n_agents, int), np.arange(self.n_agents)], 1)
        self.goals = np.stack([np.full(self.n_enemies, 4), self.rng.integers(0, 4, self.n_enemies)], 1)
        return None if self.retries else (self.get_obs(), self.get_state())

    def step(self, actions: list[int]) -> tuple[float, bool, dict[str, Any]]:
        assert len(actions) == self.n_agents
        assert all(type(a) is int for a in actions), "SMAClite wants ints of Python's own"
        for ally, action in enumerate(actions):
            assert self.get_avail_actions()[ally][action] == 1, f"Agent {ally} cannot perform action {action}"
            assert action != NO_OP or self.allies[ally] == 0, "No-op only available for dead agents."
        self.sent.append(actions)
        self.fought += 1
        if self.fought == self.crash_at:
            self.close()
            self._launch()
            self.crashed = True
            return 0, True, {}
        self.steps += 1
        before, there = self.enemies.sum(), (self.enemies > 0).sum()
        for ally, action in enumerate(actions):
            if action >= 6:
                self.enemies[action - 6] = max(0, self.enemies[action - 6] - 1)
            elif action >= NORTH:
                self.places[ally] += ((0, 1), (0, -1), (1, 0), (-1, 0))[action - NORTH]
        for _ in self.enemies.nonzero()[0]:
            target = self.rng.integers(self.n_agents)
            self.allies[target] = max(0, self.allies[target] - self.damage)
        reward = before - self.enemies.sum() + 10.0 * (there - (self.enemies > 0).sum())
        info: dict[str, Any] = {"battle_won": not self.enemies.any()}
        info |= {"dead_allies": int((self.allies == 0).sum()), "dead_enemies": int((self.enemies == 0).sum())}
        fighters = [i for i in range(self.n_agents) if i not in self.medics]
        over = True
        if info["battle_won"]:
            reward += 200
        elif not self.allies[fighters].any():
            self.defeat_counted = True
        elif self.steps >= self.episode_limit:
            if self.loud:
                info["episode_limit"] = True
        else:
            over = False
        self._episode_count += over
        return reward * 20 / self.max_reward, over, info

    def get_obs(self) -> list[np.ndarray]:
        """Of the dead zeros; else the own place and health, and where enemies in range are."""
        assert not self.crashed, "there is nothing to see"
        seen = []
        for place, health in zip(self.places, self.allies, strict=True):
            near = np.where(self._near(place)[:, None], self.goals - place, 0)
            own = np.concatenate([place, [health], near.ravel()]).astype(np.float32)
            seen.append(own * (health > 0))
        return seen

    def get_state(self) -> np.ndarray:
        units = [
            np.concatenate([p, h[:, None]], 1) for p, h in ((self.places, self.allies), (self.goals, self.enemies))
        ]
        return np.concatenate(units).ravel().astype(np.float32)

    def get_avail_actions(self) -> list[list[int]]:
        return [self._available(ally) for ally in range(self.n_agents)]

    def render(self, mode: str = "human") -> np.ndarray:
        assert mode == "rgb_array"
        return np.full((4, 6, 3), self.steps, dtype=np.uint8)

    def close(self) -> None:
        self.running = max(0, self.running - 1)

    def _launch(self) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)

    def _near(self, place: np.ndarray) -> np.ndarray:
        return (np.abs(self.goals - place).max(1) <= RANGE) & (self.enemies > 0)

    def _available(self, ally: int) -> list[int]:
        if self.allies[ally] == 0:
            return [1] + [0] * (self.n_actions - 1)
        x, y = self.places[ally]
        targets = self._near(self.places[ally]) & (ally not in self.medics)
        return [0, 1, int(y + 1 < FIELD), int(y > 0), int(x + 1 < FIELD), int(x > 0), *targets.astype(int).tolist()]


class FakeLite:
    """SMAClite's environment: gymnasium's interface around the same battles, without a step limit."""

    def __init__(self, map_info: Any = None, map_file: str | None = None, seed: Any = None, **settings: Any) -> None:
        print("Using the numpy RVO2 port")
        self.game = FakeSmac(episode_limit=10**9, health=map_info or 4)
        self.render_mode = settings["render_mode"]
        info = self.game.get_env_info()
        self.n_agents, self.n_actions = self.game.n_agents, self.game.n_actions
        self.obs_size, self.state_size = info["obs_shape"], info["state_shape"] + self.n_agents
        self.last_actions = np.zeros(self.n_agents)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.game.rng = np.random.default_rng(seed)
        self.game.reset()
        return self.get_obs(), {}

    def step(self, actions: list[int]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward, terminated, info = self.game.step(actions)
        self.last_actions = np.array(actions, dtype=float)
        return self.get_obs(), reward, terminated, False, {"battle_won": info["battle_won"]}

    def get_obs(self) -> tuple[np.ndarray, ...]:
        return tuple(self.game.get_obs())

    def get_state(self) -> np.ndarray:
        return np.concatenate([self.game.get_state(), self.last_actions])

    def get_avail_actions(self) -> list[np.ndarray]:
        return [np.array(a, dtype=float) for a in self.game.get_avail_actions()]

    def render(self) -> Any:
        return self.game.render(self.render_mode)

    def close(self) -> None:
        self.game.close()
