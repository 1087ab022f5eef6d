"""An environment that steps all of its copies at once, for the collector."""

from torch import Tensor

from mappo.backend.process_settings import EnvSettings
from mappo.core.protocols import Environment
from mappo.core.timestep import TimeStep


class Unsplit:
    """An environment without slices, in the form of a `SplitEnvironment` with a single slice."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._settings = EnvSettings()
        self.slices = (slice(0, env.num_envs),)

    def send(self, index: int, action: Tensor) -> None:
        self._action = action

    def receive(self, index: int) -> TimeStep:
        with self._settings:
            return self._env.step(self._action)
