"""Several batched environments as one `Environment`: the environments of each seed keep their own generators.

`envs.create` joins the environments of many seeds in this way, where a package samples all its random numbers from a
single stream.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from mappo.core.protocols import Environment
from mappo.core.seeding import expand_seeds
from mappo.core.slices import equal_slices
from mappo.core.timestep import TimeStep, concat_steps


class ConcatEnv:
    """An `Environment` of S x E environments: the first E belong to the first of the joined ones, and so on.

    Args:
        envs: S batched environments of equal spec, with E environments each.
    """

    def __init__(self, envs: Sequence[Environment]) -> None:
        self.joined_envs = list(envs)
        self.spec = envs[0].spec
        self.device = torch.device(envs[0].device)
        self.num_envs = len(envs) * envs[0].num_envs
        self.seed_slices = equal_slices(self.num_envs, len(envs))

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Reset all environments, optionally from one seed each; an int s stands for s, s + 1, ..."""
        if seed is None:
            return concat_steps([env.reset() for env in self.joined_envs])
        seeds = expand_seeds("concatenated environments", seed, self.num_envs)
        return concat_steps([self.joined_envs[k].reset(seeds[envs]) for k, envs in enumerate(self.seed_slices)])

    def step(self, action: Tensor) -> TimeStep:
        """Step all environments by actions `(S * E, A, D)`."""
        return concat_steps([self.joined_envs[k].step(action[envs]) for k, envs in enumerate(self.seed_slices)])

    def seed_env(self, seed: int) -> Environment:
        """Return the environments of seed number `seed`."""
        return self.joined_envs[seed]

    def close(self) -> None:
        """Close every joined environment, even if one of them fails to close."""
        with ExitStack() as stack:
            for env in self.joined_envs:
                stack.callback(env.close)
