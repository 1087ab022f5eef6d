"""Environments by name: NAME -> a batched `Environment`. Imports torch only where it makes one."""

from __future__ import annotations

import difflib
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
    "probe/constant": "reward 1 for ever, seen through a time limit",
    "probe/signal": "each agent names the number it sees",
}
PACKAGED = {"mpe2/simple_spread_v3": "the original package, stepped in a loop"}
# The package that a batched environment follows, and what it is called there.
ORIGINALS = {"spread": {"mpe2": "mpe2/simple_spread_v3"}}


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
        UserError: no environment has this name, or its package is missing.
    """
    check_name(name)
    chosen: dict[str, Any] = {} if num_agents is None else {"num_agents": num_agents}
    if name == "spread":
        from mappo.envs.spread import Spread

        return Spread(num_envs, device=device, **chosen)
    if name in NATIVE:
        from mappo.envs import probes

        probe = probes.Constant if name == "probe/constant" else probes.Signal
        return probe(num_envs, device=device, **chosen)
    chosen = {} if num_agents is None else {"N": num_agents}
    return from_factory(lambda: _make_mpe2(render, chosen), num_envs)


def from_factory(factory: Callable[[], Any], num_envs: int) -> Environment:
    """Calls `factory` once for each environment, and steps them in a loop."""
    from mappo.envs.parallel import ParallelEnvs

    return ParallelEnvs(factory, num_envs)


def name_of(env: Any) -> str:
    """`custom/NAME` of what was given in place of a name: never one that is known here, and fit for a directory."""
    return "custom/" + re.sub(r"\W+", "-", getattr(env, "__name__", type(env).__name__)).strip("-")


def for_training(env: Any, config: Config, device: torch.device) -> tuple[Environment, Environment | None]:
    """The environments to train in, and those to test in, if there may be more than one set.

    Args:
        env: a name; a batched `Environment`; a function that makes one of PettingZoo's; or such a one, with a warning.
    """
    from mappo.types import Environment

    count, tests = config.env.num_envs, config.run.eval_episodes
    if isinstance(env, str):
        agents = config.env.num_agents
        tests = tests if env in NATIVE else min(tests, 16)
        training = make(env, count, num_agents=agents, device=device)
        return training, make(env, tests, num_agents=agents, device=device)
    if isinstance(env, Environment):
        return env, None
    if callable(env):
        return from_factory(env, count), from_factory(env, min(tests, 16))
    warnings.warn(
        f"one {type(env).__name__} trains alone: slowly, on little data for each update, and without evaluations; "
        "give a function that makes one",
        stacklevel=3,
    )
    return from_factory(lambda: env, 1), None


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
    if name in ("spread", "mpe2/simple_spread_v3") and num_agents <= 6:  # the planner tries all N! assignments
        from mappo.envs.spread import central_planner

        return {"planner": central_planner}
    return {}


def _make_mpe2(render: bool, options: dict[str, Any]) -> Any:
    try:
        from mpe2 import simple_spread_v3  # type: ignore[import-untyped]
    except ImportError as error:
        raise UserError(f"mpe2 is not installed ({error}): pip install 'mappo[mpe]'") from None
    return simple_spread_v3.parallel_env(max_cycles=25, render_mode="rgb_array" if render else None, **options)
