"""Functions of the user's, by name, and the options that they take. Loads no torch."""

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from mappo.errors import UserError


def split_name(name: str) -> tuple[str, str]:
    """Module and function.

    Raises:
        UserError: one of them is missing, or a file stands for the module.
    """
    module, _, function = name.partition(":")
    if not module:
        raise UserError(f"{name!r} names no module: write module:function, such as my_module:{function or 'make_env'}")
    if not function:
        raise UserError(f"{name!r} names no function: write module:function, such as {module}:make_env")
    if ":" in function:
        raise UserError(f"{name!r} has more than one colon: write module:function")
    if module.endswith(".py") or module.startswith(".") or "/" in module or "\\" in module:
        file = Path(module.replace("\\", "/"))
        file = file.with_suffix("") if file.suffix == ".py" else file
        if file.is_absolute() or ".." in file.parts:
            way = f"go to its folder ({file.parent}) and write {file.name}:{function}"
        else:
            way = f"write {'.'.join(file.parts) or 'my_module'}:{function}"
        raise UserError(f"{name!r} names a file: name the module, as one imports it from here: {way}")
    return module, function


def load_function(name: str) -> Callable[..., Any]:
    """What `module:function` names; modules of the current folder are found too.

    Raises:
        UserError: there is no such module or function.
    """
    module, attribute = split_name(name)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise UserError(f"{module} needs a module that is not installed: {error}") from error
        raise UserError(f"there is no module {module!r}, neither installed nor in {os.getcwd()}") from None
    except (Exception, SystemExit) as error:
        raise UserError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{module} has no {attribute!r}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"{name} is a {type(found).__name__}: name a function that makes an environment")
    return cast(Any, found)


def parameters(maker: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """By name; none of what is built in and does not tell."""
    try:
        return inspect.signature(maker).parameters
    except (TypeError, ValueError):
        return {}


def checked_options(
    name: str, maker: Callable[..., Any], options: Mapping[str, Any], hidden: Sequence[str] = ()
) -> dict[str, Any]:
    """Options that a maker takes, and that are not `hidden`; else a UserError that lists those it does."""
    taken = parameters(maker).values()
    check_arguments(name, taken, options, hidden)
    if any(p.kind is p.VAR_KEYWORD for p in taken):
        return dict(options)
    known = [p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in hidden]
    for option in options:
        if option not in known:
            there = f"there are: {', '.join(known)}" if known else "it has none"
            raise UserError(f"{name} has no option {option!r}; {there}")
    return dict(options)


def check_arguments(
    name: str, taken: Iterable[inspect.Parameter], options: Container[str], hidden: Container[str]
) -> None:
    """Raises UserError where a function has parameters without a default that are neither options nor `hidden`."""
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in taken if p.default is p.empty and p.kind not in optional]
    if missing := [p for p in needed if p not in options and p not in hidden]:
        values = " ".join(f"{p}=VALUE" for p in missing)
        raise UserError(
            f"{name} cannot be called without {', '.join(missing)}: give --env.options {values} (to mappo check "
            f"--options {values}), or write defaults"
        )
