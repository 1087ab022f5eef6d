"""`mappo check`."""
