"""Environments and policy stepped together."""
