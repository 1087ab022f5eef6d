"""Comparison of runs: groups by setting, statistics over seeds, a figure and tables."""
