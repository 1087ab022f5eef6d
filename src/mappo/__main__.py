"""`mappo` and `python -m mappo`."""

import sys


def entry() -> None:
    """The `mappo` program."""
    try:
        from mappo.cli.main import entry
    except KeyboardInterrupt:  # imports take some tenths of a second
        sys.exit(130)
    entry()


if __name__ == "__main__":
    entry()
