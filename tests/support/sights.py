"""Small games of PettingZoo's Parallel API whose agents must read pictures, bytes and numbers. Loads no torch."""

from typing import Any

import numpy as np
from gymnasium import spaces


class Sights:
    """Each agent is shown a number from 0 to 3 in its own way, and is paid for naming it. Ten steps."""

    possible_agents = ("a", "b")

    def observation_space(self, agent: str) -> Any:
        raise NotImplementedError

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(4)

    def show(self, agent: str, number: int) -> Any:
        raise NotImplementedError

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.rng, self.clock, self.agents = np.random.default_rng(seed), 0, list(self.possible_agents)
        return self._look(), {}

    def step(self, actions: dict[str, Any]) -> Any:
        self.clock += 1
        reward = {a: float(x == self.number[a]) for a, x in actions.items()}
        acted, cut = list(actions), self.clock == 10
        self.agents = [] if cut else self.agents
        return self._look(), reward, dict.fromkeys(acted, False), dict.fromkeys(acted, cut), {}

    def _look(self) -> dict[str, Any]:
        self.number = {a: int(self.rng.integers(4)) for a in self.possible_agents}
        return {a: self.show(a, n) for a, n in self.number.items()}


class Bytes(Sights):
    """Memory of a console: two of twelve bytes hold the number."""

    shape: tuple[int, ...] = (12,)

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(0, 255, self.shape, np.uint8)

    def show(self, agent: str, number: int) -> Any:
        x = self.rng.integers(0, 256, 12).astype(np.uint8)
        x[3], x[8] = 255 * (number // 2), 255 * (number % 2)
        return x.reshape(self.shape)


def quadrant(number: int, size: int = 6) -> np.ndarray:
    """A grey image with one bright quarter."""
    image = np.zeros((size, size), np.uint8)
    half = size // 2
    rows, columns = half * (number // 2), half * (number % 2)
    image[rows : rows + half, columns : columns + half] = 255
    return image


class Robots(Sights):
    """A robot with a camera and a switch, and a robot with numbers alone. The switch adds one to the number."""

    possible_agents = ("camera", "sensor")

    def observation_space(self, agent: str) -> Any:
        if agent == "sensor":
            return spaces.Box(0, 1, (4,), np.float32)
        return spaces.Dict(view=spaces.Box(0, 255, (6, 6, 1), np.uint8), switch=spaces.Discrete(2))

    def show(self, agent: str, number: int) -> Any:
        if agent == "sensor":
            return np.eye(4, dtype=np.float32)[number]
        switch = int(self.rng.integers(2))
        return {"view": quadrant((number - switch) % 4)[..., None], "switch": switch}
