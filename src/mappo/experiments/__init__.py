"""Comparisons and sweeps of runs, and benchmarks."""
