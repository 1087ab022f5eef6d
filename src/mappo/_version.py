"""The version of mappo."""

__version__ = "0.1.0"
