"""Adapters to environments of other packages, in PettingZoo's Parallel API or batched."""
