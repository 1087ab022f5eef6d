"""What goes wrong, told apart by who can mend it."""

import warnings
from pathlib import Path
from typing import Any


class UserError(ValueError):
    """The user can mend it: the command line prints the message alone and exits with code 2."""


class StopTraining(Exception):
    """Raised by a callback to end a run early: the run is saved, and can be resumed."""


def warn_in_one_line() -> None:
    """From here on the program's own warnings are shown without the line of code that Python prints beside them."""
    others, here = warnings.formatwarning, Path(__file__).parent

    def shown(message: Any, category: Any, filename: str, *rest: Any) -> str:
        own = category is UserWarning and Path(filename).is_relative_to(here)
        return f"mappo: {message}\n" if own else others(message, category, filename, *rest)

    warnings.formatwarning = shown
