"""The operating system: files, standard streams, shutdown, hardware. Imports no torch."""
