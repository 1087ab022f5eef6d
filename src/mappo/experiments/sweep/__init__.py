"""`mappo sweep`: many runs of an environment in search of its best settings, on Optuna, by any number of processes."""
