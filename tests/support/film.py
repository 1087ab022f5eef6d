"""A long game with pictures. Loads no torch: workers import it."""

from typing import Any

import numpy as np
from gymnasium import spaces


class Film:
    """Agent `x` is paid its action in an episode of `horizon` steps; in a picture a white point stands at the step."""

    possible_agents = ("x",)
    metadata: Any = {}  # noqa: RUF012

    def __init__(self, horizon: int = 25, size: tuple[int, int] = (40, 40)) -> None:
        self.horizon = horizon
        self.size = size
        self.agents: list[str] = []
        self.rendered: list[int] = []

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(0, 1, (1,), np.float32)

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.clock = 0
        self.agents = ["x"]
        return {"x": np.zeros(1, np.float32)}, {"x": {}}

    def step(self, actions: Any) -> Any:
        self.clock += 1
        over = self.clock == self.horizon
        self.agents = [] if over else self.agents
        return {"x": np.zeros(1, np.float32)}, {"x": float(actions["x"])}, {"x": over}, {"x": False}, {"x": {}}

    def render(self) -> Any:
        self.rendered.append(self.clock)
        picture = np.zeros((*self.size, 3), np.uint8)
        pixels = picture.reshape(-1, 3)
        pixels[self.clock % len(pixels)] = 255
        return picture
