"""Neural networks: from observations to numbers."""
