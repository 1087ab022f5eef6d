"""How environments are cut into slices, and which seed each begins with."""

from typing import Any

import numpy as np


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
    """The two parts in which environments may be stepped in turn; one environment has no half."""
    return (slice(0, num_envs // 2), slice(num_envs // 2, num_envs)) if num_envs > 1 else (slice(0, num_envs),)
