"""`mappo envs` and `mappo check`: what environments there are, and what is wrong with one. Loads no torch."""

import importlib
from typing import Any

from rich.console import Console
from rich.table import Table

from mappo.config import EnvConfig
from mappo.envs import FAMILIES, NATIVE, factory, is_code
from mappo.envs.check import checker
from mappo.envs.names import is_installed, package_version, require_package
from mappo.envs.user_code import load_function, parameters
from mappo.errors import UserError

_TIMED = 0.1  # seconds of an environment's own work, by which workers are advised or not


def show_environments(family: str | None) -> None:
    """Prints what can be trained in: all families, or all names of one.

    Raises:
        UserError: there is no such family, or its package is missing.
    """
    console = Console()
    if family is not None:
        for name in _list_names(family):
            console.print(name, highlight=False, markup=False)
        return
    own = Table("name", "what it is", title="Batched in torch, part of mappo", title_justify="left", box=None)
    for name, native in NATIVE.items():
        own.add_row(name, native.summary)
    others = Table("name", "what it is", "installed", title="From other packages", title_justify="left", box=None)
    for name, kind in FAMILIES.items():
        if is_installed(kind):
            there = package_version(name + "/x")
        else:
            there = f"pip install 'mappo[{kind.extra}]'" if kind.extra is not None else "no: not on PyPI"
        others.add_row(f"{name}/...", f"{kind.summary}\n[dim]{name}/{kind.examples[0]}[/dim]", there)
    console.print(own)
    console.print()
    console.print(others)
    console.print("\nAll names of a family:  mappo envs mpe2")
    console.print(
        "Your own:               mappo train my_module:make_env   (see docs/environments.md)", highlight=False
    )


def check_environment(name: str, episodes: int, seed: int, config: EnvConfig) -> checker.Report:
    """What `mappo check` finds.

    Args:
        config: its options and its time limit are heeded.

    Raises:
        UserError: there is no such environment, or it cannot be checked.
    """
    if name in NATIVE:
        raise UserError(f"{name} is a part of mappo, whose own tests check it")
    if episodes < 1:
        raise UserError(f"episodes must be at least 1, got {episodes}")
    if is_code(name) and "num_envs" in parameters(load_function(name)):
        raise UserError(f"{name} makes many games at once (it takes num_envs), and what is checked are single ones")
    make, limit = factory(name, config.env_options), config.time_limit
    return checker.check(make, episodes, seed, name=name, time_limit=limit, seconds=_TIMED)


def _list_names(family: str) -> list[str]:
    """As one types them."""
    if family not in FAMILIES:
        raise UserError(f"there is no family {family!r}; there are: {', '.join(FAMILIES)}")
    kind = FAMILIES[family]
    require_package(kind)
    module: Any = importlib.import_module(f"mappo.envs.{kind.maker.split(':')[0]}")
    listed = getattr(module, "names", None)
    if listed is None:
        return [f"{family}/{example}" for example in (*kind.examples, "...")]
    return [f"{family}/{name}" for name in listed(family)]
