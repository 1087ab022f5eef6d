"""The command line: commands, messages and exit codes."""
