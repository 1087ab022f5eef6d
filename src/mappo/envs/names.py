"""What environments are called, and what a name tells. Loads no torch."""

import difflib
import importlib.util
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from mappo.envs.registry import FAMILIES, NATIVE, Family, NativeEnv
from mappo.errors import UserError


def find_family(name: str) -> tuple[Family, str] | None:
    """The family of `FAMILY/NAME`, and NAME; None for another name."""
    first, _, rest = name.partition("/")
    return (FAMILIES[first], rest) if first in FAMILIES and rest and name not in NATIVE else None


def native_twin(name: str) -> NativeEnv | None:
    """The batched environment of this name, or that follows the package's of this name."""
    twins = (native for native in NATIVE.values() if name in native.originals.values())
    return NATIVE[name] if name in NATIVE else next(twins, None)


def is_code(name: str) -> bool:
    """It stands for a function of the user's, `module:function`, that must be imported."""
    return ":" in name


def check_name(name: str) -> None:
    """Raises UserError, with the nearest name, where there is no such environment. Imports nothing."""
    if name in NATIVE or is_code(name) or find_family(name) is not None:
        return
    examples = [f"{kind}/{example}" for kind, of in FAMILIES.items() for example in of.examples]
    if name in FAMILIES:
        raise UserError(f"{name} is a family of environments: name one, such as {name}/{FAMILIES[name].examples[0]}")
    near = difflib.get_close_matches(name, [*NATIVE, *examples], n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    families = ", ".join(f"{x}/..." for x in FAMILIES)
    raise UserError(
        f"unknown environment {name!r}{hint} There are: {', '.join(NATIVE)}; {families}; and module:function, your own "
        f"(`mappo envs` tells more)"
    )


def original_name(name: str, package: str) -> str:
    """The name under which `package` holds what `name` follows: ("spread", "mpe2") -> "mpe2/simple_spread_v3"."""
    if name.startswith(package + "/"):
        return name
    there: Mapping[str, str] = NATIVE[name].originals if name in NATIVE else {}
    if package not in there:
        choice = f"there is: {', '.join(there)}" if there else "it follows no package"
        raise UserError(f"{name} cannot be evaluated on {package!r}: {choice}")
    return there[package]


def translate_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an environment of mappo's own, as the package that it follows calls them.

    Raises:
        UserError: the package has no such option.
    """
    known: Mapping[str, str] = (
        NATIVE[name].translated_options if name in NATIVE else {option: option for option in options}
    )
    if strange := [option for option in options if option not in known]:
        raise UserError(
            f"{name} was trained with {', '.join(strange)}, which its package does not know: leave out --on"
        )
    return {known[option]: value for option, value in options.items()}


def package_version(name: str) -> str:
    """Where the numbers of an environment come from, such as `mpe2 1.1.1`."""
    found = find_family(name)
    if is_code(name):
        return name.partition(":")[0]
    package = found[0].package if found is not None else "mappo"
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} (not installed)"


def is_installed(kind: Family) -> bool:
    """Its package can be imported; nothing is."""
    try:
        return importlib.util.find_spec(kind.module) is not None
    except (ImportError, ValueError):
        return False


def require_package(kind: Family) -> None:
    """Raises UserError where the package of a family is missing, and an extra would bring it."""
    if kind.extra is not None and not is_installed(kind):
        raise UserError(f"{kind.package} is not installed: pip install 'mappo[{kind.extra}]'")
