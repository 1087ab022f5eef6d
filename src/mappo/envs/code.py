"""The user's own environments, `module:function`: how they are named, and what is called. Loads no torch."""

import inspect
from collections.abc import Container, Iterable
from pathlib import Path

from mappo.errors import UserError


def code_parts(name: str) -> tuple[str, str]:
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


def check_given(name: str, taken: Iterable[inspect.Parameter], options: Container[str], hidden: Container[str]) -> None:
    """Raises UserError where a function has parameters without a default that are neither options nor `hidden`."""
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in taken if p.default is p.empty and p.kind not in optional]
    if missing := [p for p in needed if p not in options and p not in hidden]:
        values = " ".join(f"{p}=VALUE" for p in missing)
        raise UserError(
            f"{name} cannot be called without {', '.join(missing)}: give --env.options {values} (to mappo check "
            f"--options {values}), or write defaults"
        )
