"""How environments are cut into slices, and which seed each begins with."""

from typing import Any

import numpy as np

from mappo.core.slices import equal_slices


def reset_seeds(seed: Any, count: int) -> np.ndarray:
    """One seed for each environment: of an int s they are s, s + 1, ...

    Raises:
        ValueError: another number of seeds.
    """
    seeds = list(range(seed, seed + count)) if isinstance(seed, int) else list(seed)
    if len(seeds) != count:
        raise ValueError(f"{len(seeds)} seeds for {count} environments")
    return np.array(seeds, dtype=np.int64)


def half_slices(num_envs: int) -> tuple[slice, ...]:
    """Return the two halves in which environments may be stepped in turn; a single environment has no half."""
    return equal_slices(num_envs, min(num_envs, 2))
