"""Neural networks: from observations to the parameters of an action distribution, or to a value."""
