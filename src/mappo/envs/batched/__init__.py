"""Environments in torch that step many episodes at once."""
