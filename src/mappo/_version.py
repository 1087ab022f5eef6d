"""The version of mappo."""

__version__ = "0.2.0"
