"""Functions of the user, named by `module:function`, and their options. Loads no torch."""

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from mappo.envs.names import check_options
from mappo.errors import UserError, suggest


def split_name(name: str) -> tuple[str, str]:
    """Split `module:function` into module and function.

    Raises:
        UserError: module or function is missing, or a file stands in place of the module.
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
            fix = f"go to its folder ({file.parent}) and write {file.name}:{function}"
        else:
            fix = f"write {'.'.join(file.parts) or 'my_module'}:{function}"
        raise UserError(f"{name!r} names a file: name the module, as in an import from here: {fix}")
    return module, function


def load_function(name: str) -> Callable[..., Any]:
    """Import the function named by `module:function`; modules in the current folder are found too.

    Raises:
        UserError: the module or the function does not exist, or the import fails.
    """
    module, attribute = split_name(name)
    # Last on the path: a typing.py in the folder must not replace Python's own, for any import to come.
    with contextlib.suppress(FileNotFoundError):  # an environment may have removed the folder
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
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
            file = getattr(sys.modules[module], "__file__", None) or "built into Python"
            raise UserError(f"{module} ({file}) has no {attribute!r}{suggest(part, dir(found))}")
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"{name} is a {type(found).__name__}: name a function that makes an environment")
    return cast(Any, found)


def parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function by name; none for a builtin without a signature."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def checked_options(
    name: str, function: Callable[..., Any], options: Mapping[str, Any], hidden: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the options of the user, checked against the parameters of a function.

    Args:
        name: the environment, for the message.
        function: the function to call.
        options: keyword arguments from the user.
        hidden: parameters set by mappo itself.

    Raises:
        UserError: an option is not known, or a parameter without a default is missing; the message names both the
            missing parameter and the way to give a value.
    """
    params = parameters(function).values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in params if p.default is p.empty and p.kind not in variadic]
    if missing := [p for p in needed if p not in options and p not in hidden]:
        values = " ".join(f"{p}=VALUE" for p in missing)
        raise UserError(
            f"{name} cannot be called without {', '.join(missing)}: give --env.options {values} (to mappo check "
            f"--options {values}), or write defaults"
        )
    if not any(p.kind is p.VAR_KEYWORD for p in params):
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        check_options(name, options, [p.name for p in params if p.kind in named and p.name not in hidden])
    return dict(options)
