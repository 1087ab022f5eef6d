"""Experiments over many trainings: benchmarks of speed, sweeps, reproductions."""
