"""Trained policies, loaded or exported for use alone."""
