"""Decentralised execution: an agent's own observation in, its action out."""
