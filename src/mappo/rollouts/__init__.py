"""Environments and policies stepped together: the only code that steps a training environment."""
