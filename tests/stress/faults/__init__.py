"""Faults put into real runs: kills, disks that are full or refuse, damaged files."""
