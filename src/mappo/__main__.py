"""`python -m mappo` is `mappo`."""

from mappo.cli import entry

if __name__ == "__main__":
    entry()
