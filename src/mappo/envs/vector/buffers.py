"""Arrays of many environments in a block of memory for one or several processes. Loads no torch."""

import math
from typing import Any

import numpy as np

from mappo.envs.vector.team_layout import TeamLayout

# Fields side by side in one array, along its first axis: written and copied at once.
BLOCKS = {
    "both_obs": ("obs", "next_obs"),
    "both_state": ("state", "next_state"),
    "flags": ("active", "next_active", "terminated", "is_first"),
}


class Buffers:
    """A `TimeStep` of E environments as arrays, the next actions, and the progress of each environment.

    `masked` is 0, or 1 + the index of an agent with a mask. `seed` and `episode` determine an episode's random seed.
    `busy` is True while an environment is at work, and stays True where its process dies of the work.

    Args:
        layout: shapes and dtypes.
        num_envs: number of environments (E).
        memory: a buffer of at least `size(...)` bytes, shared with other processes; by default private memory.
    """

    def __init__(self, layout: TeamLayout, num_envs: int, memory: Any = None) -> None:
        memory = bytearray(self.size(layout, num_envs)) if memory is None else memory
        self.fields: dict[str, np.ndarray] = {}
        start = 0
        for name, (shape, dtype) in _fields(layout, num_envs).items():
            count = math.prod(shape)
            self.fields[name] = np.frombuffer(memory, dtype, count, start).reshape(shape)
            self.fields.update(zip(BLOCKS.get(name, ()), self.fields[name], strict=False))
            start += _aligned(count * np.dtype(dtype).itemsize)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.fields[name]

    def rows(self, index: int) -> dict[str, np.ndarray]:
        """Return views of an environment's rows, by field or block."""
        return {
            name: x[:, index] if name in BLOCKS else x[index : index + 1].reshape(x.shape[1:])
            for name, x in self.fields.items()
        }

    @staticmethod
    def size(layout: TeamLayout, num_envs: int) -> int:
        """Return the size of all arrays in bytes."""
        fields = _fields(layout, num_envs).values()
        return sum(_aligned(math.prod(shape) * np.dtype(dtype).itemsize) for shape, dtype in fields)


def _fields(layout: TeamLayout, num_envs: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and dtype of each array, `(E, ...)`, or of a block, `(fields, E, ...)`."""
    spec = layout.spec
    team = (num_envs, spec.num_agents)
    fields: dict[str, tuple[tuple[int, ...], Any]] = {
        "both_obs": ((2, *team, *spec.obs_shape), layout.obs_dtype),
        "mask": ((*team, sum(spec.heads)), np.bool_),
        "reward": (team, np.float32),
        "flags": ((len(BLOCKS["flags"]), *team), np.bool_),
        "ended": ((num_envs,), np.bool_),
        "action": ((*team, spec.action_size), np.float64 if spec.continuous else np.int64),
        "masked": ((num_envs,), np.int64),
        "seed": ((num_envs,), np.int64),
        "episode": ((num_envs,), np.int64),
        "busy": ((num_envs,), np.bool_),
    }
    if spec.state_shape is not None:
        fields["both_state"] = ((2, num_envs, *spec.state_shape), layout.state_dtype)
    return fields


def _aligned(size: int) -> int:
    # A cache line is 64 bytes: two workers must not write into the same line.
    return -(-size // 64) * 64
