"""A policy as a C file without dependencies: `layers.c` and `actions.c` hold the functions, `source.py` the writer."""
