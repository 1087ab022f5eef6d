"""Evaluation of a policy: scores, confidence intervals, learning curves and replays."""
