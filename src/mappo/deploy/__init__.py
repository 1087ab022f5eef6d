"""A trained policy without its training."""
