"""Neural networks: layers, encoders, actors and critics."""
