"""Environments of PettingZoo's Parallel API, one after another: the plain loop that faster ones are held against."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mappo.core.timestep import TimeStep
from mappo.envs.vector.buffers import Buffers
from mappo.envs.vector.env_group import EnvGroup
from mappo.envs.vector.slices import half_slices
from mappo.envs.vector.timesteps import TimeStepReader
from mappo.errors import UserError


class SerialEnvs:
    """`num_envs` environments of PettingZoo's Parallel API, stepped in a loop; an `Environment` on the CPU.

    How their agents are read is said by `TeamLayout`, how an episode ends by `EnvSlot`. Numbers of an action are
    clipped to their bounds.

    Args:
        make: called once for each environment.
        num_envs: E.
        shared_reward: all agents are given one number, the team's, which is not to be summed over them.
        time_limit: the step at which an episode is cut off, and at which an end counts as that.

    Raises:
        UserError: what `make` gives has not this API, or spaces that cannot be used.
    """

    def __init__(
        self, make: Callable[[], Any], num_envs: int, shared_reward: bool = False, time_limit: int | None = None
    ) -> None:
        self.slices = half_slices(num_envs)
        self.group = EnvGroup(make, [range(p.start, p.stop) for p in self.slices], shared_reward, time_limit)
        self.envs, self.spec = self.group.envs, self.group.layout.spec
        self.num_envs, self.device = num_envs, torch.device("cpu")
        self.reader = TimeStepReader(self.group.layout, Buffers(self.group.layout, num_envs))
        self.group.attach(self.reader.arrays)

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """First episodes start from the seeds themselves, later ones from what derives from (seed, episode)."""
        check_order = self.reader.write_seeds(seed)
        self.group.reset(check_order)
        return self._answer(slice(0, self.num_envs), begun=True)

    def step(self, action: Tensor) -> TimeStep:
        for index, part in enumerate(self.slices):
            self.send(index, action[part])
        return self._answer(slice(0, self.num_envs))

    def send(self, part: int, action: Tensor) -> None:
        self.reader.write_action(action, self.slices[part])
        self.group.step(part)

    def receive(self, part: int) -> TimeStep:
        return self._answer(self.slices[part])

    def _answer(self, part: slice, begun: bool = False) -> TimeStep:
        for text in self.group.warnings():
            warnings.warn(text, stacklevel=3)
        return self.reader.time_step(part, begun)

    def close(self) -> None:
        self.group.close()

    def render(self, index: int) -> np.ndarray:
        """The picture of the environment itself: it must have been made with `render_mode="rgb_array"`."""
        picture = self.group.render(index)
        if picture is None:
            raise UserError("the environment gives no picture: make it with render_mode='rgb_array'")
        return np.asarray(picture)
