"""Environments of PettingZoo's Parallel API in a plain loop: the reference for every faster way."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from mappo.backend.process_settings import EnvSettings
from mappo.config.settings import EnvOptions
from mappo.core.timestep import TimeStep
from mappo.envs.vector.buffers import Buffers
from mappo.envs.vector.env_group import EnvGroup
from mappo.envs.vector.slices import half_slices
from mappo.envs.vector.timesteps import TimeStepReader
from mappo.errors import UserError


class SerialEnvs:
    """`num_envs` environments of PettingZoo's Parallel API, stepped in a loop; an `Environment` on the CPU.

    `TeamLayout` reads the dicts of the agents, `EnvSlot` defines the end of an episode. Continuous actions are clipped
    to their bounds.

    Args:
        make: called once for each environment.
        num_envs: number of environments (E).
        env_options: the time limit, the order of the agents and `late_rewards` apply.
        shared_reward: True if all agents receive the team's reward; it is then not summed over agents.

    Raises:
        UserError: `make` returns no environment of this API, or an unsupported space.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        num_envs: int,
        env_options: EnvOptions | None = None,
        shared_reward: bool = False,
    ) -> None:
        self.slices = half_slices(num_envs)
        env_options = env_options or EnvOptions()
        ranges = [range(s.start, s.stop) for s in self.slices]
        self._settings = EnvSettings()
        with self._settings:
            self.group = EnvGroup(make, ranges, shared_reward, env_options.time_limit, env_options.late_rewards)
        self.group.layout.arrange(env_options.agents)
        self.envs = self.group.envs
        self.spec = self.group.layout.spec
        self.num_envs = num_envs
        self.device = torch.device("cpu")
        self.reader = TimeStepReader(self.group.layout, Buffers(self.group.layout, num_envs))
        self.group.attach(self.reader.arrays)

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Start all episodes anew: first episodes from the seeds themselves, later ones from (seed, episode)."""
        check_order = self.reader.write_seeds(seed)
        with self._settings:
            self.group.reset(check_order)
        return self._time_step(slice(0, self.num_envs), is_reset=True)

    def step(self, action: Tensor) -> TimeStep:
        """Step all environments by actions `(E, A, D)`."""
        self.reader.write_action(action, slice(0, self.num_envs))
        with self._settings:
            for index in range(len(self.slices)):
                self.group.step(index)
        return self._time_step(slice(0, self.num_envs))

    def send(self, index: int, action: Tensor) -> None:
        """Step the environments of `slices[index]` by actions `(e, A, D)`."""
        self.reader.write_action(action, self.slices[index])
        with self._settings:
            self.group.step(index)

    def receive(self, index: int) -> TimeStep:
        """Return the time step of `slices[index]`."""
        return self._time_step(self.slices[index])

    def _time_step(self, envs: slice, is_reset: bool = False) -> TimeStep:
        for text in self.group.take_warnings():
            warnings.warn(text, stacklevel=3)
        return self.reader.time_step(envs, is_reset)

    def close(self) -> None:
        """Close all environments."""
        with self._settings:
            self.group.close()

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Return `metadata` of the environment and of the environments inside; of equal keys the outermost counts."""
        env = self.envs[0]
        merged: dict[str, Any] = {}
        for _ in range(10):  # wrappers inside wrappers
            metadata = getattr(env, "metadata", None)
            if isinstance(metadata, Mapping):
                merged = {**cast("Mapping[str, Any]", metadata), **merged}
            env = getattr(env, "env", None)
        return merged

    @property
    def render_fps(self) -> Any:
        """Return `metadata["render_fps"]`; None without."""
        return self.metadata.get("render_fps")

    def render(self, index: int) -> np.ndarray:
        """Return a picture `(H, W, 3)` of environment `index`, made with `render_mode="rgb_array"`.

        Raises:
            UserError: the environment gives no picture.
        """
        with self._settings:
            picture = self.group.render(index)
        if picture is None:
            raise UserError("the environment gives no picture: make it with render_mode='rgb_array'")
        return np.asarray(picture)
