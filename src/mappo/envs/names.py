"""Names of environments, and the packages and options behind a name. Loads no torch."""

import importlib
import importlib.util
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from typing import Any

from mappo._version import __version__
from mappo.config import Config, EnvConfig
from mappo.config.config import is_code
from mappo.config.presets import original_of, presets_of, twin_of
from mappo.envs.registry import FAMILIES, NATIVE, NATIVE_FAMILIES, Family, NativeEnv
from mappo.errors import UserError, suggest
from mappo.system.packages import install_command

CUSTOM = "custom/"  # first part of the name of an environment given as an object or a function


def find_family(name: str) -> tuple[Family, str] | None:
    """Return the family of `FAMILY/NAME`, and NAME; None for any other name."""
    prefix, _, rest = name.partition("/")
    families = FAMILIES | NATIVE_FAMILIES
    return (families[prefix], rest) if prefix in families and rest and name not in NATIVE else None


def is_native(name: str) -> bool:
    """Return True for the name of a batched environment of mappo itself."""
    return name in NATIVE or name.partition("/")[0] in NATIVE_FAMILIES


def native_twin(name: str) -> NativeEnv | None:
    """Return the batched environment of this name, or the batched twin of a package's environment of this name."""
    return NATIVE.get(twin_of(name) or name)


def check_name(name: str) -> None:
    """Look an environment's name up. Imports nothing.

    Raises:
        UserError: no environment has this name; the message holds the most similar name.
    """
    if name in NATIVE or is_code(name) or find_family(name) is not None:
        return
    families = NATIVE_FAMILIES | FAMILIES
    if name in families:
        raise UserError(f"{name} is a family of environments: name one, such as {name}/{families[name].examples[0]}")
    examples = [f"{key}/{example}" for key, family in families.items() for example in family.examples]
    hint = suggest(name, [*NATIVE, *examples], cutoff=0.4)
    names = ", ".join(f"{key}/..." for key in families)
    raise UserError(
        f"unknown environment {name!r}{hint} There are: {', '.join(NATIVE)}; {names}; or module:function, your own "
        f"(`mappo envs` lists all)"
    )


def preset(env: str, name: str = "default") -> Config:
    """Return the preset `name` of an environment. Every environment has the preset `default`.

    Raises:
        UserError: there is no such environment, or the environment has no preset of this name.
    """
    if not env.startswith(CUSTOM):
        check_name(env)
    known = presets_of(env) or {"default": Config(env=EnvConfig(num_envs=32))}
    if name in known:
        return known[name]
    raise UserError(f"unknown preset {name!r} for {env}{suggest(name, known)} There are: {', '.join(known)}")


def nearest_preset(env: str, config: Config, ignored: Collection[tuple[str, str]]) -> tuple[str, Config]:
    """Return the preset with the fewest differences to a config, and its name; "" for the general defaults.

    Args:
        env: name of the environment.
        config: the settings.
        ignored: (section, option) of settings that do not count.
    """
    known = presets_of(env) or {"": preset(env)}
    name = min(known, key=lambda key: len(config.differences(known[key], ignored)))
    return name, known[name]


def original_name(name: str, package: str) -> str:
    """Return the name of an environment's original in `package`: ("spread", "mpe2") -> "mpe2/simple_spread_v3".

    Raises:
        UserError: the environment does not follow this package.
    """
    if name.startswith(package + "/"):
        return name
    original = original_of(name) or ""
    if not original.startswith(package + "/"):
        choice = f"use {original.partition('/')[0]}" if original else "it follows no package"
        raise UserError(f"{name} cannot be evaluated on {package!r}: {choice}")
    return original


def translate_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the options of a native environment as the original's package calls them.

    Raises:
        UserError: the package has no such option.
    """
    if name not in NATIVE:
        found = find_family(name)
        own_options = found[0].own_options if found else ()
        return {option: value for option, value in options.items() if option not in own_options}
    known = NATIVE[name].translated_options
    if unknown := [option for option in options if option not in known]:
        raise UserError(
            f"{name} was trained with {', '.join(unknown)}, an unknown option in the original package: leave out --on"
        )
    return {known[option]: value for option, value in options.items()}


def package_version(name: str) -> str:
    """Return package and version of an environment, such as `mpe2 1.1.1`; the module of a user's function."""
    if is_code(name):
        return name.partition(":")[0]
    found = find_family(name)
    if found is None:
        return f"mappo {__version__}"
    package = found[0].package
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} (not installed)"


def is_installed(family: Family) -> bool:
    """Return True if the family's package can be found. Imports nothing."""
    try:
        return importlib.util.find_spec(family.module) is not None
    except (ImportError, ValueError):
        return False


def require_package(family: Family) -> None:
    """Look for the package of a family, if mappo has an extra for it. Imports nothing.

    Raises:
        UserError: the package is missing.
    """
    if family.extra is not None and not is_installed(family):
        raise not_installed(family.package, install_command(family.extra))


def missing_original(name: str) -> str:
    """Return the message that the original package of a twin is missing; "" if it is installed, or none is known."""
    found = find_family(original_of(name) or "")
    try:
        if found is not None:
            require_package(found[0])
    except UserError as error:
        return str(error)
    return ""


def require(module: str, package: str, command: str) -> Any:
    """Import and return a module of an optional package.

    Args:
        module: full name of the module, such as `rware.warehouse`.
        package: name of the package, for the error message.
        command: the command that installs the package, see `install_command`.

    Raises:
        UserError: the package, or a package that it needs, is missing.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, TypeError) as error:  # protobuf raises a TypeError if its version is wrong
        reason = str(error).partition("\n")[0]
        raise not_installed(package, command, f", or not completely ({reason})") from error


def not_installed(package: str, command: str, detail: str = "") -> UserError:
    """Return the error to raise for a missing package, with the command to install it."""
    return UserError(f"{package} is not installed{detail}: {command}")


def unknown(family: str, name: str, known: Iterable[str], form: str = "") -> UserError:
    """Return the error for a name that the family lacks, with the nearest known names.

    Args:
        family: the first part of the full name `FAMILY/NAME`.
        name: the unknown name.
        known: the names of the family.
        form: examples of names; by default the error lists all names.
    """
    names = list(known)
    hint = suggest(name, names, count=3, prefix=f"{family}/")
    names_text = f"Names are like {form}" if form else f"There are: {', '.join(names)}"
    return UserError(f"unknown environment {f'{family}/{name}'!r}{hint} {names_text}")


def check_options(name: str, options: Iterable[str], known: Collection[str]) -> None:
    """Compare options with the options of an environment.

    Args:
        name: the environment.
        options: names of the options given.
        known: names of the environment's options.

    Raises:
        UserError: an option is not known; the message lists the known options.
    """
    if unknown := [option for option in options if option not in known]:
        choice = f"there are: {', '.join(known)}" if known else "it has none"
        raise UserError(f"{name} has no option {', '.join(map(repr, unknown))}; {choice}")
