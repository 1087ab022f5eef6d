"""Several batched environments as one: those of each seed keep their own random numbers."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from mappo.core.protocols import Environment
from mappo.core.timestep import TimeStep, concat_steps


class ConcatEnv:
    """An `Environment` of S x E games, the first E of which are the first's.

    Args:
        envs: alike, E games each.
    """

    def __init__(self, envs: Sequence[Environment]) -> None:
        self.joined_envs, self.spec, self.device = list(envs), envs[0].spec, torch.device(envs[0].device)
        self.size = envs[0].num_envs
        self.num_envs = len(envs) * self.size

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Starts all anew; from seeds, one for each game, or s, s + 1, ..."""
        if seed is None:
            return concat_steps([env.reset() for env in self.joined_envs])
        seeds = range(seed, seed + self.num_envs) if isinstance(seed, int) else seed
        return concat_steps([env.reset(seeds[part]) for env, part in zip(self.joined_envs, self._slices, strict=True)])

    def step(self, action: Tensor) -> TimeStep:
        """Actions `(S E, A, D)`."""
        return concat_steps([env.step(action[part]) for env, part in zip(self.joined_envs, self._slices, strict=True)])

    def seed_env(self, seed: int) -> Environment:
        """Those of one seed."""
        return self.joined_envs[seed]

    def close(self) -> None:
        """Closes each."""
        with ExitStack() as stack:
            for env in self.joined_envs:
                stack.callback(env.close)

    @property
    def _slices(self) -> list[slice]:
        return [slice(k * self.size, (k + 1) * self.size) for k in range(len(self.joined_envs))]
