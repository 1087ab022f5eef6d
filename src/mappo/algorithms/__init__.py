"""Centralised training: from a rollout to a better policy."""
