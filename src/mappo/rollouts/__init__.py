"""Environments and policies together: only this room steps a training environment."""
