"""Environments in Python, stepped side by side in one or more processes."""
