"""`mappo envs` and `mappo check`: list the environments, and find the errors of an environment. Loads no torch."""

import importlib
from contextlib import nullcontext
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mappo.cli.commands import Check, Envs
from mappo.config import EnvConfig
from mappo.config.config import is_code
from mappo.core.user_code import parameters
from mappo.envs import FAMILIES, NATIVE, NATIVE_FAMILIES, factory
from mappo.envs.check import checker
from mappo.envs.create import load_function
from mappo.envs.names import check_name, is_installed, is_native, package_version, require_package
from mappo.errors import UserError
from mappo.system.shutdown import CloseLimit
from mappo.system.stdio import env_output_to_stderr, say

_TIMED = 0.1  # seconds in the environment's own code, enough to advise for or against workers


def show_environments(command: Envs, close_limit: CloseLimit) -> bool:
    """Print all families, or all names of a family, or a page about an environment. Return True.

    Args:
        command: names a family, or an environment; None for the list of all.
        close_limit: context for closing the environment.

    Raises:
        UserError: there is no such family or environment, or its package is missing.
    """
    name = command.name
    if name in FAMILIES or name in NATIVE_FAMILIES:
        print(*_list_names(name), sep="\n")
        return True
    if name is not None:
        check_name(name)
        from mappo.cli.env_page import show_environment

        show_environment(name, close_limit)
        return True
    console = Console(highlight=False)
    native = Table("name", "description", title="Batched in torch, part of mappo", title_justify="left", box=None)
    for key, entry in NATIVE.items():
        native.add_row(Text(key, no_wrap=True), entry.summary)
    for key, kind in NATIVE_FAMILIES.items():
        native.add_row(Text(f"{key}/...", no_wrap=True), f"{kind.summary}, such as {kind.examples[0]}")
    families = Table("name", "description", "installed", title="From other packages", title_justify="left", box=None)
    for key, kind in FAMILIES.items():
        if is_installed(kind):
            status = package_version(key + "/x")
        else:
            status = "no: not on PyPI" if kind.extra is None else f"no: see mappo envs {key}"
        families.add_row(Text(f"{key}/...", no_wrap=True), f"{kind.summary}, such as {kind.examples[0]}", Text(status))
    console.print(native, "", families, "", sep="\n")
    say(
        "All names of a family:  mappo envs mpe2\n"
        "About an environment:   mappo envs spread\n"
        "Your own environment:   mappo train my_module:make_env (docs/environments.md)"
    )
    return True


def check_and_show(command: Check, close_limit: CloseLimit) -> bool:
    """Print the findings of `mappo check`; return whether the environment is ready."""
    config = EnvConfig(options=command.options, time_limit=command.time_limit)
    with env_output_to_stderr():
        report = check_environment(command.env, command.episodes, command.seed, config, close_limit)
    checker.show(report)
    return report.ok


def check_environment(
    name: str, episodes: int, seed: int, config: EnvConfig, close_limit: CloseLimit = nullcontext
) -> checker.Report:
    """Return the findings of `mappo check`.

    Args:
        name: name of the environment.
        episodes: number of episodes.
        seed: seed of the first reset.
        config: options and time limit of the environment; other settings are ignored.
        close_limit: context for closing the environment.

    Raises:
        UserError: there is no such environment, or it cannot be checked.
    """
    if is_native(name):
        raise UserError(f"{name} is a part of mappo, and mappo's own tests check it")
    if episodes < 1:
        raise UserError(f"episodes must be at least 1, got {episodes}")
    if is_code(name) and "num_envs" in parameters(load_function(name)):
        raise UserError(f"{name} is batched (it takes num_envs), and only single environments can be checked")
    make = factory(name, config.env_options)
    return checker.check(
        make,
        episodes,
        seed,
        name=name,
        time_limit=config.time_limit,
        seconds=_TIMED,
        close_limit=close_limit,
        other_process=True,
    )


def _list_names(family: str) -> list[str]:
    """Return the names of a family as a user types them.

    Raises:
        UserError: the package is missing.
    """
    kind = (NATIVE_FAMILIES | FAMILIES)[family]
    require_package(kind)
    module: Any = importlib.import_module(f"mappo.envs.{kind.maker.split(':')[0]}")
    names = module.names(family) if hasattr(module, "names") else (*kind.examples, "...")
    return [f"{family}/{name}" for name in names]
