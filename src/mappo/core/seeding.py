"""Seeds of random numbers: independent seeds from the seed of a run, and the seeds of a reset."""

from collections.abc import Sequence

import numpy as np


def derive_seed(*path: int) -> int:
    """Return an independent seed for a purpose of a run. The path is (run seed, purpose, ...)."""
    return int(np.random.SeedSequence(path).generate_state(1)[0])


def expand_seeds(name: str, seed: int | Sequence[int], num_envs: int) -> Sequence[int]:
    """Return a seed for each environment; an int s stands for s, s + 1, ...

    Args:
        name: name of the environments, for the error message.
        seed: one seed, or a sequence of E seeds.
        num_envs: E.

    Raises:
        ValueError: the number of seeds is not E.
    """
    seeds = range(seed, seed + num_envs) if isinstance(seed, int) else seed
    if len(seeds) != num_envs:
        raise ValueError(f"{name}: {len(seeds)} seeds for {num_envs} environments")
    return seeds
