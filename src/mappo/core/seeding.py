"""Independent random seeds, derived from one."""

import numpy as np


def derive_seed(*path: int) -> int:
    """An independent seed for each purpose of each run: (run seed, purpose, ...)."""
    return int(np.random.SeedSequence(path).generate_state(1)[0])
