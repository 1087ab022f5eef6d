"""What environments are called: the batched ones that mappo holds, and the families of other packages. No torch."""

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, cast

from mappo.envs.code import check_given, code_parts
from mappo.errors import UserError


@dataclass(frozen=True)
class Native:
    """A batched environment of mappo's own.

    Args:
        what: one line for the user. maker: a module of this package, and what of it to call; imported when asked for.
        options: what the name stands for. originals: the package that it follows step for step, and its name there.
        carried: options that the package has too, and what they are called there.
    """

    what: str
    maker: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    originals: Mapping[str, str] = field(default_factory=dict[str, str])
    carried: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Family:
    """Environments of another package, `FAMILY/NAME`.

    Args:
        what: one line for the user. extra: what installs it, as in `pip install 'mappo[extra]'`; none if PyPI lacks it.
        package: that tells its version. module: what imports it, for the same question.
        maker: a module of this package, and what of it to call. examples: some names.
        batched: it steps many games at once by itself.
    """

    what: str
    extra: str | None
    package: str
    module: str
    maker: str
    examples: tuple[str, ...]
    batched: bool = False


NATIVE = {
    "spread": Native(
        "mpe2's simple_spread_v3, batched: cover all landmarks without bumping",
        "spread:Spread",
        originals={"mpe2": "mpe2/simple_spread_v3"},
        carried={"horizon": "max_cycles", "local_ratio": "local_ratio"},
    ),
    "spread/paper": Native(
        "spread in the conventions of the MAPPO paper's code", "spread:Spread", {"conventions": "paper"}
    ),
    "speaker_listener": Native(
        "mpe2's simple_speaker_listener_v4, batched: one sees the goal, the other moves",
        "speaker_listener:SpeakerListener",
        originals={"mpe2": "mpe2/simple_speaker_listener_v4"},
        carried={"horizon": "max_cycles"},
    ),
    "reference": Native(
        "mpe2's simple_reference_v3, batched: each knows the other's goal, and speaks",
        "reference:Reference",
        originals={"mpe2": "mpe2/simple_reference_v3"},
        carried={"horizon": "max_cycles", "local_ratio": "local_ratio"},
    ),
    "battle": Native("a skirmish against scripted enemies: masks, deaths, a state", "battle:Battle"),
    "matrix/climbing": Native("a matrix game: the best pair stands next to the dearest mistakes", "matrix:climbing"),
    "matrix/penalty": Native(
        "a matrix game: two best pairs, and 100 to pay for choosing one of each", "matrix:penalty"
    ),
    "probe/constant": Native("reward 1 for ever, seen through a time limit", "probes:Constant"),
    "probe/signal": Native("each agent names the number it sees", "probes:Signal"),
    "probe/memory": Native("each agent names, at the end, the number it saw at the start", "probes:Memory"),
    "probe/mask": Native("the mask alone tells which of two actions is right", "probes:Mask"),
    "probe/unequal": Native("agents of different sizes, with different answers to what they see", "probes:Unequal"),
    "probe/multidiscrete": Native("each agent names two numbers, by two heads", "probes:MultiDiscrete"),
    "probe/image": Native("each agent names the bright quadrant of an image of bytes", "probes:Image"),
    "probe/roles": Native("agent i is given i for ever, and all see the same", "probes:Roles"),
    "probe/death": Native("to die brings 3 at once, to live 1 for ever", "probe_lives:Death"),
    "probe/respawn": Native("what an agent sacrifices, its next life gets", "probe_lives:Respawn"),
    "probe/arrival": Native("one agent comes later, and must remember its first observation", "probe_lives:Arrival"),
    "probe/target": Native("each agent answers a point by another, in a box of numbers", "probe_targets:Target"),
    "probe/mixed": Native("one agent chooses, the other answers by a number", "probe_targets:Mixed"),
    "probe/combined": Native("memory, masks, deaths, new lives and unequal agents at once", "probe_lives:Combined"),
}

FAMILIES = {
    "mpe2": Family(
        "particle worlds of PettingZoo's",
        "mpe",
        "mpe2",
        "mpe2",
        "zoo:make",
        ("simple_spread_v3", "simple_speaker_listener_v4", "simple_reference_v3"),
    ),
    "lbf": Family(
        "level-based foraging: agents load food together",
        "lbf",
        "lbforaging",
        "lbforaging",
        "lbf:make",
        ("Foraging-8x8-2p-2f-coop-v3", "Foraging-10x10-3p-3f-v3", "Foraging-15x15-4p-3f-v3"),
    ),
    "rware": Family(
        "robots that carry shelves through a warehouse; rewards are rare",
        "rware",
        "rware",
        "rware",
        "rware:make",
        ("rware-tiny-2ag-v2", "rware-tiny-4ag-v2", "rware-small-4ag-v2"),
    ),
    "mamujoco": Family(
        "robots of MuJoCo, a joint or a leg for each agent; continuous",
        "mujoco",
        "gymnasium-robotics",
        "gymnasium_robotics",
        "zoo:make",
        ("HalfCheetah-2x3", "Ant-4x2", "Hopper-3x1", "Walker2d-2x3"),
    ),
    "sisl": Family(
        "PettingZoo's walkers that carry a package, and pursuers",
        "sisl",
        "pettingzoo",
        "pettingzoo",
        "zoo:make",
        ("multiwalker_v9", "pursuit_v5"),
    ),
    "butterfly": Family(
        "PettingZoo's games of images and of archers who die",
        "butterfly",
        "pettingzoo",
        "pettingzoo",
        "zoo:make",
        ("knights_archers_zombies_v11", "pistonball_v6", "cooperative_pong_v6"),
    ),
    "magent2": Family(
        "swarms on a grid, many of whom die",
        "magent",
        "magent2",
        "magent2",
        "zoo:make",
        ("battle_v4",),
    ),
    "vmas": Family(
        "physics of many robots, batched in torch (GPL)",
        "vmas",
        "vmas",
        "vmas",
        "vmas:make",
        ("balance", "navigation", "transport"),
        batched=True,
    ),
    "envpool": Family(
        "Jumanji's games as rewritten for envpool, batched in C++",
        "envpool",
        "envpool",
        "envpool",
        "envpool:make",
        ("LevelBasedForaging-v0", "Cleaner-v0"),
        batched=True,
    ),
    "smac": Family("StarCraft II micromanagement", None, "smac", "smac", "smac:make_smac", ("3m", "2s3z", "MMM2")),
    "smacv2": Family(
        "StarCraft II with drawn teams",
        None,
        "smacv2",
        "smacv2",
        "smac:make_smacv2",
        ("terran_5_vs_5", "protoss_5_vs_5"),
    ),
    "smaclite": Family(
        "SMAC without StarCraft II", None, "smaclite", "smaclite", "smac:make_smaclite", ("2s3z", "3s5z")
    ),
}


def family(name: str) -> tuple[Family, str] | None:
    """The family of `FAMILY/NAME`, and NAME; None for another name."""
    first, _, rest = name.partition("/")
    return (FAMILIES[first], rest) if first in FAMILIES and rest and name not in NATIVE else None


def is_code(name: str) -> bool:
    """It stands for a function of the user's, `module:function`, that must be imported."""
    return ":" in name


def check_name(name: str) -> None:
    """Raises UserError, with the nearest name, where there is no such environment. Imports nothing."""
    if name in NATIVE or is_code(name) or family(name) is not None:
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


def original(name: str, package: str) -> str:
    """The name under which `package` holds what `name` follows: ("spread", "mpe2") -> "mpe2/simple_spread_v3"."""
    if name.startswith(package + "/"):
        return name
    there: Mapping[str, str] = NATIVE[name].originals if name in NATIVE else {}
    if package not in there:
        choice = f"there is: {', '.join(there)}" if there else "it follows no package"
        raise UserError(f"{name} cannot be evaluated on {package!r}: {choice}")
    return there[package]


def carried(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an environment of mappo's own, as the package that it follows calls them.

    Raises:
        UserError: the package has no such option.
    """
    known: Mapping[str, str] = NATIVE[name].carried if name in NATIVE else {option: option for option in options}
    if strange := [option for option in options if option not in known]:
        raise UserError(
            f"{name} was trained with {', '.join(strange)}, which its package does not know: leave out --on"
        )
    return {known[option]: value for option, value in options.items()}


def package_version(name: str) -> str:
    """Where the numbers of an environment come from, such as `mpe2 1.1.1`."""
    found = family(name)
    if is_code(name):
        return name.partition(":")[0]
    package = found[0].package if found is not None else "mappo"
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} (not installed)"


def function(name: str) -> Callable[..., Any]:
    """What `module:function` names; modules of the current folder are found too.

    Raises:
        UserError: there is no such module or function.
    """
    module, attribute = code_parts(name)
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
    check_given(name, taken, options, hidden)
    if any(p.kind is p.VAR_KEYWORD for p in taken):
        return dict(options)
    known = [p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in hidden]
    for option in options:
        if option not in known:
            there = f"there are: {', '.join(known)}" if known else "it has none"
            raise UserError(f"{name} has no option {option!r}; {there}")
    return dict(options)


def is_installed(kind: Family) -> bool:
    """Its package can be imported; nothing is."""
    try:
        return importlib.util.find_spec(kind.module) is not None
    except (ImportError, ValueError):
        return False
