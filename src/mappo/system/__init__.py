"""The operating system: files, streams, signals, hardware."""
