"""The checks of `mappo check` on a new environment."""
