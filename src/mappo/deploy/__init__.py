"""Trained policies, loaded without the learner."""
