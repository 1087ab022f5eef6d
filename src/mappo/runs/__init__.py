"""The files of a run: settings, logs, checkpoints."""
