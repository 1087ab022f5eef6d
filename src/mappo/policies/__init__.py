"""Decentralised execution: own observation in, action out."""
