"""Adapter from gymnasium environments with `Tuple` spaces, an entry per agent, to PettingZoo's Parallel API.

Level-based foraging (`lbf`) and the robotic warehouse (`rware`) derive from `TupleEnv`. Loads no torch: workers import
this module.
"""

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from mappo.errors import UserError


class TupleEnv:
    """An environment with tuples of spaces, observations, actions and rewards, presented as dicts by agent.

    All agents live until the end. Both packages report a time limit as a termination; `_finished` tells the two apart.

    Args:
        env: the bare environment, because gymnasium's wrappers would only cost time.
    """

    shared_reward = False
    viewer_name = "viewer"  # attribute of the package's environment with its window, None before the first picture

    def __init__(self, env: Any) -> None:
        self.env = env
        self.possible_agents = [f"agent_{i}" for i in range(len(env.action_space))]
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> Any:
        return self.env.observation_space[self.possible_agents.index(agent)]

    def action_space(self, agent: str) -> Any:
        return self.env.action_space[self.possible_agents.index(agent)]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode from the seed; without a seed, the stream of random numbers continues."""
        obs, _ = self.env.reset(seed=seed)
        self.agents = self.possible_agents.copy()
        return dict(zip(self.agents, obs, strict=True)), self._infos()

    def step(self, actions: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Return observations, rewards, terminations, truncations and infos; after the end, five empty dicts."""
        names = self.agents
        if not names:
            return {}, {}, {}, {}, {}
        obs, rewards, terminated, truncated, _ = self.env.step([actions[agent] for agent in names])
        over = bool(terminated or truncated)
        finished = over and self._finished()
        if over:
            self.agents = []
        return (
            dict(zip(names, obs, strict=True)),
            dict(zip(names, map(float, rewards), strict=True)),
            dict.fromkeys(names, finished),
            dict.fromkeys(names, over and not finished),
            self._infos(),
        )

    def render(self) -> np.ndarray:
        """Render the environment: uint8 `(H, W, 3)`.

        Raises:
            UserError: this machine cannot render.
        """
        viewer = getattr(self.env, self.viewer_name)
        if viewer is not None:
            # Rendering first clears the current window, which may belong to another environment.
            viewer.window.switch_to()
            return np.ascontiguousarray(self.env.render(mode="rgb_array"))
        try:
            render_without_display()
            return np.ascontiguousarray(self.env.render(mode="rgb_array"))
        except Exception as error:  # pyglet's own classes of errors need a display to be imported
            raise UserError(
                f"{type(self.env).__name__} cannot be rendered here ({error}): pictures need EGL, on Debian and Ubuntu "
                "apt-get install libegl1 libgl1 libglu1-mesa"
            ) from error

    def close(self) -> None:
        self.env.close()

    def _finished(self) -> bool:
        """Return True if the episode ended by itself, and False if a time limit ended it."""
        return False

    def _infos(self) -> dict[str, Any]:
        return {agent: {} for agent in self.possible_agents}


def render_without_display() -> None:
    """Let pyglet render without a display, which only Linux can, through EGL.

    pyglet decides at the first import of `pyglet.gl`: a later call has no effect.
    """
    if "pyglet.gl" not in sys.modules:
        importlib.import_module("pyglet").options["headless"] = sys.platform == "linux"
