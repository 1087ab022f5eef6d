"""Derivation of independent random seeds from the seed of a run."""

import numpy as np


def derive_seed(*path: int) -> int:
    """Return an independent seed for a purpose of a run. The path is (run seed, purpose, ...)."""
    return int(np.random.SeedSequence(path).generate_state(1)[0])
