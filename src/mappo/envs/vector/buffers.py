"""The arrays of many environments in one block of memory, which processes may share."""

import math
from typing import Any

import numpy as np

from mappo.envs.vector.team_layout import TeamLayout


class Buffers:
    """A `TimeStep` of E environments as arrays, the actions that bring the next, and where each game is.

    `masked` is 0, or 1 + an agent that was given a mask; `seed` and `episode` tell what an episode was drawn from;
    `busy` is True while an environment is at work, and stays so where its process dies of it.

    Args:
        memory: a buffer of at least `size(...)` bytes, shared with other processes; by default memory of its own.
    """

    def __init__(self, layout: TeamLayout, num_envs: int, memory: Any = None) -> None:
        memory = bytearray(self.size(layout, num_envs)) if memory is None else memory
        self.fields: dict[str, np.ndarray] = {}
        start = 0
        for name, (shape, dtype) in _fields(layout, num_envs).items():
            count = math.prod(shape)
            self.fields[name] = np.frombuffer(memory, dtype, count, start).reshape(shape)
            start += _aligned(count * np.dtype(dtype).itemsize)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.fields[name]

    def rows(self, index: int) -> dict[str, np.ndarray]:
        """Views of one environment's part."""
        return {name: x[index : index + 1].reshape(x.shape[1:]) for name, x in self.fields.items()}

    @staticmethod
    def size(layout: TeamLayout, num_envs: int) -> int:
        """Bytes."""
        fields = _fields(layout, num_envs).values()
        return sum(_aligned(math.prod(shape) * np.dtype(dtype).itemsize) for shape, dtype in fields)


def _fields(layout: TeamLayout, num_envs: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    spec, team = layout.spec, (num_envs, layout.spec.num_agents)
    fields: dict[str, tuple[tuple[int, ...], Any]] = {
        "mask": ((*team, sum(spec.heads)), np.bool_),
        "reward": (team, np.float32),
        "terminated": (team, np.bool_),
        "is_first": (team, np.bool_),
        "ended": ((num_envs,), np.bool_),
        "action": ((*team, spec.action_size), np.float64 if spec.continuous else np.int64),
        "masked": ((num_envs,), np.int64),
        "seed": ((num_envs,), np.int64),
        "episode": ((num_envs,), np.int64),
        "busy": ((num_envs,), np.bool_),
    }
    for when in ("", "next_"):
        fields[when + "obs"] = ((*team, *spec.obs_shape), layout.obs_dtype)
        fields[when + "active"] = (team, np.bool_)
        if spec.state_shape is not None:
            fields[when + "state"] = ((num_envs, *spec.state_shape), layout.state_dtype)
    return fields


def _aligned(size: int) -> int:
    return -(-size // 64) * 64  # a cache line: workers that write side by side do not share one
