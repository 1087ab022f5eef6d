"""The command line: commands, messages, exit codes."""
