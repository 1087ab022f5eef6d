"""Environments without slices, in the form of a `SplitEnvironment`."""

from torch import Tensor

from mappo.core.protocols import Environment
from mappo.core.timestep import TimeStep


class Unsplit:
    """An environment in the form of a single slice."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self.slices = (slice(0, env.num_envs),)

    def send(self, index: int, action: Tensor) -> None:
        self._action = action

    def receive(self, index: int) -> TimeStep:
        return self._env.step(self._action)
