"""Code of the user, named by `module:attribute`: its import, and the consent to import it. Loads no torch.

A name that the user typed, or wrote into a program, is consent to import the code. A name in a file is not: commands
and functions that read run directories call `check_code` ahead of the import.
"""

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from mappo.config.config import is_code
from mappo.errors import UserError, suggest


def check_code(names: Iterable[str], is_allowed: bool, file: str | Path = "config.json") -> None:
    """Raise `UserError` if some of the names in a file are code to import, and the import is not allowed."""
    named = [name for name in names if is_code(name)]
    if named and not is_allowed:
        raise UserError(
            f"{file} names code to import, {' and '.join(named)}: look at it, and if you trust it, add "
            f"--allow-code (from Python, allow_code=True)"
        )


def allow_flag(*names: str) -> str:
    """Return ` --allow-code` where some of the names that a command reads from a run are code, else an empty text."""
    return " --allow-code" if any(map(is_code, names)) else ""


def split_name(name: str, example: str = "make_env") -> tuple[str, str]:
    """Split `module:function` into module and function.

    Raises:
        UserError: module or function is missing, or a file stands in place of the module.
    """
    module, _, function = name.partition(":")
    if not module:
        raise UserError(f"{name!r} names no module: write module:function, such as my_module:{function or example}")
    if not function:
        raise UserError(f"{name!r} names no function: write module:function, such as {module}:{example}")
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


def load_code(name: str, purpose: str, example: str = "make_env") -> Callable[..., Any]:
    """Import the function or class named by `module:function`; modules in the current folder are found too.

    Args:
        name: the name.
        purpose: the expected kind of function, for errors, such as "a function that makes an environment".
        example: an attribute of that kind, for errors.

    Raises:
        UserError: the module or the function does not exist, or the import fails.
    """
    module, attribute = split_name(name, example)
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
        raise UserError(f"{name} is a {type(found).__name__}: name {purpose}")
    return cast(Any, found)


def parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function by name; none for a builtin without a signature."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
