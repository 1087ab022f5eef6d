"""Benchmarks, sweeps, reproductions."""
