"""From a rollout to a better policy."""
