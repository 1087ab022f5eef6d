"""The operating system: files, streams, shutdown, hardware."""
