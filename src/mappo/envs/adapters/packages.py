"""Imports of optional packages, and the errors for wrong names and options. Loads no torch: workers import it.

Every adapter loads its package by `load`, checks names by `unknown` and options by `check_options`, and constructs the
environment within `construction`.
"""

import contextlib
import difflib
import importlib
import inspect
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

from mappo.errors import UserError

_NOT_OPTIONS = ("kwargs", "map_info", "map_name", "render_mode")  # the name and the way of rendering decide them


def load(module: str, package: str, requirement: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: full name of the module.
        package: name of the package, for the error message.
        requirement: the words after `pip install`, such as `'mappo[vmas]'`.

    Raises:
        UserError: the package, or a package that it needs, is missing.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, TypeError) as error:  # protobuf raises a TypeError if its version is wrong
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{package} is not installed, or not completely ({reason}): pip install {requirement}"
        ) from error


def unknown(family: str, name: str, known: Iterable[str], form: str = "") -> UserError:
    """Return the error for a name that the family lacks, with the nearest known names.

    Args:
        family: the first part of the full name `FAMILY/NAME`.
        name: the unknown name.
        known: the names of the family.
        form: examples of names; by default the error lists all names.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(repr(f'{family}/{n}') for n in near)}?" if near else "."
    names_text = f"Names are like {form}" if form else f"There are: {', '.join(names)}"
    return UserError(f"unknown environment {f'{family}/{name}'!r}{hint} {names_text}")


def check_options(name: str, options: Iterable[str], known: Sequence[str]) -> None:
    """Raise UserError for options outside `known`, which the error lists."""
    if strange := [option for option in options if option not in known]:
        raise UserError(f"{name} has no option {', '.join(map(repr, strange))}; there are: {', '.join(known)}")


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
