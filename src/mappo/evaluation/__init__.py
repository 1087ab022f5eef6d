"""Scores of a policy, learning curves and replays."""
