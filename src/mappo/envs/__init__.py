"""Environments by name: NAME -> a batched `Environment`. Imports torch only where it makes one."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

from mappo.errors import UserError

if TYPE_CHECKING:
    import torch

    from mappo.config import Config
    from mappo.types import Environment

NATIVE = {
    "spread": "mpe2's simple_spread_v3, batched: cover all landmarks without bumping",
    "spread/paper": "spread in the conventions of the MAPPO paper's code",
    "speaker_listener": "mpe2's simple_speaker_listener_v4, batched: one sees the goal, the other moves",
    "matrix/climbing": "a matrix game: the best pair stands next to the dearest mistakes",
    "matrix/penalty": "a matrix game: two best pairs, and 100 to pay for choosing one of each",
    "probe/constant": "reward 1 for ever, seen through a time limit",
    "probe/signal": "each agent names the number it sees",
    "probe/memory": "each agent names, at the end, the number it saw at the start",
    "probe/mask": "the mask alone tells which of two actions is right",
    "probe/unequal": "agents of different sizes, with different answers to what they see",
    "probe/multidiscrete": "each agent names two numbers, by two heads",
    "probe/image": "each agent names the bright quadrant of an image of bytes",
    "probe/roles": "agent i is given i for ever, and all see the same",
    "probe/death": "to die brings 3 at once, to live 1 for ever",
    "probe/respawn": "what an agent sacrifices, its next life gets",
    "probe/arrival": "one agent comes later, and must remember its first observation",
    "probe/target": "each agent answers a point by another, in a box of numbers",
    "probe/mixed": "one agent chooses, the other answers by a number",
    "probe/combined": "memory, masks, deaths, new lives and unequal agents at once",
}
PACKAGED = {
    "mpe2/simple_spread_v3": "the original package, stepped in a loop",
    "mpe2/simple_speaker_listener_v4": "the original package, stepped in a loop",
}
# The package that a batched environment follows, and what it is called there.
ORIGINALS = {
    "spread": {"mpe2": "mpe2/simple_spread_v3"},
    "speaker_listener": {"mpe2": "mpe2/simple_speaker_listener_v4"},
}

# What makes each of them: a module of this package, and what of it to call. Imported when it is asked for.
_MAKERS = {
    "spread": "spread:Spread",
    "spread/paper": "spread:Spread",
    "speaker_listener": "speaker_listener:SpeakerListener",
    "matrix/climbing": "matrix:climbing",
    "matrix/penalty": "matrix:penalty",
    "probe/constant": "probes:Constant",
    "probe/signal": "probes:Signal",
    "probe/memory": "probes:Memory",
    "probe/mask": "probes:Mask",
    "probe/unequal": "probes:Unequal",
    "probe/multidiscrete": "probes:MultiDiscrete",
    "probe/image": "probes:Image",
    "probe/roles": "probes:Roles",
    "probe/death": "probe_lives:Death",
    "probe/respawn": "probe_lives:Respawn",
    "probe/arrival": "probe_lives:Arrival",
    "probe/combined": "probe_lives:Combined",
    "probe/target": "probe_targets:Target",
    "probe/mixed": "probe_targets:Mixed",
}
# Packaged environments that give all agents one number: the batched twins say so themselves.
_SHARED = {"mpe2/simple_speaker_listener_v4"}
# Options that a name stands for.
_OPTIONS: dict[str, dict[str, Any]] = {"spread/paper": {"conventions": "paper"}}


def make(
    name: str,
    num_envs: int,
    *,
    num_agents: int | None = None,
    device: torch.device | str = "cpu",
    render: bool = False,
) -> Environment:
    """`num_envs` environments of one name, as one batched `Environment`.

    Args:
        num_agents: where the environment lets one choose; None for its own number.
        device: of the batched native environments; the others live on the CPU.
        render: packages draw only if asked when they are made.

    Raises:
        UserError: no environment has this name, its package is missing, or its number of agents is fixed.
    """
    check_name(name)
    if name in NATIVE:
        module, maker = _MAKERS[name].split(":")
        native = getattr(importlib.import_module(f"mappo.envs.{module}"), maker)
        chosen = _chosen_agents(name, native, "num_agents", num_agents)
        return native(num_envs, device=device, **chosen, **_OPTIONS.get(name, {}))
    package = _package(name)
    chosen = _chosen_agents(name, package.raw_env, "N", num_agents)
    drawn = "rgb_array" if render else None
    return from_factory(
        lambda: package.parallel_env(max_cycles=25, render_mode=drawn, **chosen), num_envs, name in _SHARED
    )


def from_factory(factory: Callable[[], Any], num_envs: int, shared_reward: bool = False) -> Environment:
    """Calls `factory` once for each environment, and steps them in a loop.

    Args:
        shared_reward: all agents are given one number, the team's, which is not to be summed over them.
    """
    from mappo.envs.parallel import ParallelEnvs

    return ParallelEnvs(factory, num_envs, shared_reward)


def name_of(env: Any) -> str:
    """`custom/NAME` of what was given in place of a name: never one that is known here, and fit for a directory."""
    return "custom/" + re.sub(r"\W+", "-", getattr(env, "__name__", type(env).__name__)).strip("-")


def for_training(env: Any, config: Config, device: torch.device) -> tuple[Environment, Environment | None]:
    """The environments to train in, and those to test in, if there may be more than one set.

    Args:
        env: a name; a batched `Environment`; a function that makes one of PettingZoo's; or such a one, with a warning.
    """
    count, tests = config.env.num_envs, config.run.eval_episodes
    if isinstance(env, str):
        agents = config.env.num_agents
        tests = tests if env in NATIVE else min(tests, 16)
        training = make(env, count, num_agents=agents, device=device)
        return training, make(env, tests, num_agents=agents, device=device)
    if is_batched(env):
        return env, None
    if config.env.num_agents is not None:
        raise UserError("env.num-agents is for environments that have a name: your own has as many as it has")
    if callable(env):
        return from_factory(env, count), from_factory(env, min(tests, 16))
    warnings.warn(
        f"one {type(env).__name__} trains alone: slowly, on little data for each update, and without evaluations; "
        "give a function that makes one",
        stacklevel=3,
    )
    return from_factory(lambda: env, 1), None


def is_batched(env: Any) -> bool:
    """It steps many games at once, as `types.Environment` says; a vector of another library's has no `Spec`."""
    from mappo.spec import Spec
    from mappo.types import Environment

    return isinstance(env, Environment) and isinstance(env.spec, Spec)  # pyright: ignore[reportUnnecessaryIsInstance]


def check_name(name: str) -> None:
    """Raises UserError, with the nearest name, where there is no such environment."""
    known = [*NATIVE, *PACKAGED]
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise UserError(f"unknown environment {name!r}{hint} There are: {', '.join(known)}")


def original(name: str, package: str) -> str:
    """The name under which `package` holds what `name` follows: ("spread", "mpe2") -> "mpe2/simple_spread_v3"."""
    if name.startswith(package + "/"):
        return name
    there = ORIGINALS.get(name, {})
    if package not in there:
        choice = f"there is: {', '.join(there)}" if there else "it follows no package"
        raise UserError(f"{name} cannot be evaluated on {package!r}: {choice}")
    return there[package]


def package_version(name: str) -> str:
    """Where the numbers of an environment come from, such as `mpe2 1.1.1`."""
    package = name.split("/")[0] if name in PACKAGED else "mappo"
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} (not installed)"


def baselines(name: str, num_agents: int) -> dict[str, Any]:
    """Scripted policies that an environment is measured by, beside the random one."""
    if name in ("spread", "spread/paper", "mpe2/simple_spread_v3"):
        from mappo.envs.spread import central_planner

        return {"planner": central_planner} if num_agents <= 6 else {}  # it tries all N! assignments
    if name in ("speaker_listener", "mpe2/simple_speaker_listener_v4"):
        from mappo.envs.speaker_listener import informed_pair

        return {"scripted pair": informed_pair}
    return {}


def _package(name: str) -> Any:
    """The module called `mpe2/MODULE`."""
    package, module = name.split("/")
    try:
        importlib.import_module(package)
        return importlib.import_module(f"{package}.{module}")
    except ImportError as error:
        raise UserError(f"{package} is not installed ({error}): pip install 'mappo[mpe]'") from None


def _chosen_agents(name: str, maker: Any, option: str, num_agents: int | None) -> dict[str, int]:
    """The number of agents as what makes the environment calls it."""
    if num_agents is None:
        return {}
    if option not in inspect.signature(maker).parameters:
        raise UserError(f"the number of agents of {name} is fixed: leave out env.num-agents")
    return {option: num_agents}
