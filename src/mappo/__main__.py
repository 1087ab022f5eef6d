"""Entry point of the commands `mappo` and `python -m mappo`."""

import sys


def entry() -> None:
    """Run the `mappo` command line."""
    try:
        from mappo.cli.main import entry
    except KeyboardInterrupt:  # Ctrl-C during the imports, which take some tenths of a second
        sys.exit(130)
    entry()


if __name__ == "__main__":
    entry()
