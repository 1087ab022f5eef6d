"""Construction of environments of optional packages, and the errors for wrong names. Loads no torch: workers import it.

Every adapter imports its package by `require`, checks names by `unknown` and options by `check_options` (all three in
`envs/names.py`), and constructs the environment within `construction`.
"""

import contextlib
import inspect
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

from mappo.envs.names import check_options
from mappo.errors import UserError

_NOT_OPTIONS = ("kwargs", "map_info", "map_name", "render_mode")  # the name and the way of rendering decide them


def refuse_options(name: str, options: Iterable[str], reserved: Iterable[str], use: str) -> None:
    """Raise UserError for options that mappo sets itself; `use` tells the user what to do instead."""
    if refused := sorted(set(reserved).intersection(options)):
        raise UserError(f"{name}: {', '.join(refused)} cannot be chosen; {use}")


@contextlib.contextmanager
def construction(
    name: str,
    options: Mapping[str, Any],
    errors: tuple[type[Exception], ...] = (AssertionError, LookupError, TypeError, ValueError, UserWarning),
) -> Generator[None]:
    """Turn the errors that a package raises for wrong values into a UserError with the name and the options."""
    try:
        yield
    except errors as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{name} cannot be made with the options {dict(options)}: {reason}") from error


def build(
    name: str,
    constructor: Callable[..., Any],
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    parameters_of: Callable[..., Any] | None = None,
    also: Sequence[str] = (),
) -> Any:
    """Call `constructor` with the settings of a name, overridden by the user's options.

    Args:
        name: full name of the environment, for error messages.
        constructor: function or class of the package.
        settings: arguments of the name.
        options: the user's arguments.
        parameters_of: function with the declared options, if not the constructor.
        also: options handled by the caller.

    Raises:
        UserError: an option is unknown, or a value is invalid.
    """
    declared = inspect.signature(parameters_of or constructor).parameters
    check_options(name, options, [*(p for p in declared if p not in _NOT_OPTIONS), *also])
    with construction(name, options):
        return constructor(**{**settings, **options})
