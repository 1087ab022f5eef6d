"""A small game of PettingZoo's Parallel API with everything in it. Loads no torch: workers import it."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

Act = Callable[[dict[str, Any]], None]


class Game:
    """Agents observe seed, step and what they last did; `left` dies in a step that the seed decides, and comes back."""

    possible_agents = ("left", "right")

    def __init__(self, horizon: int = 7, act: Act | None = None, masks: bool = True, state: bool = True) -> None:
        self.horizon, self.act, self.masks = horizon, act, masks
        self.agents: list[str] = []
        self.episodes = 0
        if state:
            self.state_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
            self.state = lambda: np.array([self.seed % 1000, self.clock, 1], np.float32)

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(-np.inf, np.inf, (4 if agent == "left" else 3,), np.float32)

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(3) if agent == "left" else spaces.Box(-2.0, 3.0, (2,), np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.seed, self.clock, self.last, self.episodes = seed or 0, 0, 0.0, self.episodes + 1
        self.agents = list(self.possible_agents)
        return self._look(self.agents)

    def step(self, actions: dict[str, Any]) -> Any:
        if self.act is not None:
            self.act({"seed": self.seed, "clock": self.clock, "episodes": self.episodes})
        self.clock += 1
        self.last = float(sum(np.sum(a) for a in actions.values()))
        acted, cut, over = list(actions), self.clock == self.horizon, self.seed % 3 == 0 and self.clock == 5
        dies = {a: over or (a == "left" and self.clock == 2 + self.seed % 3) for a in acted}
        self.agents = [a for a in self.possible_agents if not (cut or over or dies.get(a))]
        if self.clock < 4 and "left" not in acted and not over:
            self.agents = [a for a in self.agents if a != "left"]
        obs, infos = self._look({*acted, *self.agents})
        return obs, {a: self.last + i for i, a in enumerate(acted)}, dies, dict.fromkeys(acted, cut), infos

    def _look(self, agents: Any) -> Any:
        obs = {
            a: np.array([self.seed % 997, self.clock, self.last, 1][: 4 if a == "left" else 3], np.float32)
            for a in agents
        }
        mask = {"action_mask": np.array([True, self.clock % 2 == 0, True])}
        return obs, {a: mask if a == "left" and self.masks else {} for a in agents}

    def close(self) -> None:
        pass


# Of the first episodes: later ones start from other seeds.


def die(now: dict[str, Any]) -> None:
    if now["seed"] == 13 and now["clock"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def hang(now: dict[str, Any]) -> None:
    if now["seed"] == 13 and now["clock"] == 1:
        time.sleep(100)


def die_late(path: Path, now: dict[str, Any]) -> None:
    """In the third episode that a process plays of a game; once, and leaves a file behind."""
    if now["episodes"] == 3 and now["clock"] == 1 and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def die_once(path: Path, now: dict[str, Any]) -> None:
    """As `die`; once, and leaves a file behind."""
    if now["seed"] == 13 and now["clock"] == 1 and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def made_at(places: set[int], path: Path, how: Callable[[], Any]) -> Any:
    """A game; at the times that `places` counts, over all processes, what `how` makes."""
    with open(path, "a") as file:
        count = file.tell()
        file.write("x")
    return how() if count in places else Game()


def leave() -> None:
    os._exit(3)


def fail() -> None:
    raise RuntimeError("the port is taken")
