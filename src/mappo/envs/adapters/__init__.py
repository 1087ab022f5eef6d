"""Environments of other packages behind one interface."""
