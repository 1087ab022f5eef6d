"""Environments by name: NAME -> a batched `Environment`. Imports torch only where it makes one."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import warnings
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from mappo.envs.names import (
    FAMILIES,
    NATIVE,
    Family,
    carried,
    check_name,
    checked_options,
    family,
    function,
    is_code,
    is_installed,
    original,
    package_version,
    parameters,
)
from mappo.errors import UserError
from mappo.machine import usable_cores

if TYPE_CHECKING:
    import torch

    from mappo.config import Config, EnvConfig
    from mappo.types import Environment

_SIDE_BY_SIDE = 16  # environments in Python, for evaluations

__all__ = [
    "FAMILIES",
    "NATIVE",
    "baselines",
    "carried",
    "check_name",
    "factory",
    "for_training",
    "from_factory",
    "games_at_once",
    "is_batched",
    "is_code",
    "make",
    "name_of",
    "of_python",
    "original",
    "package_version",
    "settings",
]


def make(
    name: str,
    num_envs: int,
    *,
    num_agents: int | None = None,
    device: torch.device | str = "cpu",
    render: bool = False,
    options: Mapping[str, Any] | None = None,
    time_limit: int | None = None,
    **stepping: Any,
) -> Environment:
    """`num_envs` environments of one name, as one batched `Environment`.

    Args:
        name: see `mappo envs`; `module:function` is imported.
        num_agents: where the environment lets one choose; None for its own number.
        device: of those batched in torch; the others live on the CPU.
        render: packages draw only if asked when they are made.
        options: the environment's own, as keyword arguments.
        time_limit, stepping: see `from_factory`.

    Raises:
        UserError: no environment has this name, its package is missing, or an option is not one of its.
    """
    check_name(name)
    if name in NATIVE:
        module, maker = NATIVE[name].maker.split(":")
        native = getattr(importlib.import_module(f"mappo.envs.{module}"), maker)
        chosen = checked_options(name, native, options or {}, ("num_envs", "num_agents", "device", "dtype"))
        chosen |= _chosen_agents(name, native, num_agents)
        _no_limit(name, time_limit)
        return native(num_envs, device=device, **NATIVE[name].options, **chosen)
    if is_code(name):
        make_env = function(name)
        chosen = dict(options or {}) | _chosen_agents(name, make_env, num_agents)
        return from_function(make_env, num_envs, chosen, time_limit=time_limit, **stepping)
    found = family(name)
    if found is not None and found[0].batched:
        _no_limit(name, time_limit)
        chosen = dict(options or {})
        if num_agents is not None:
            if found[0] is not FAMILIES["vmas"]:
                raise UserError(f"the number of agents of {name} is fixed: leave out env.num-agents")
            chosen["n_agents"] = num_agents
        return _maker(found[0])(found[1], num_envs, device, chosen)
    one = factory(name, options or {}, num_agents=num_agents, render=render)
    return from_factory(one, num_envs, time_limit=time_limit, **stepping)


def factory(
    name: str, options: Mapping[str, Any], *, num_agents: int | None = None, render: bool = False
) -> Callable[[], Any]:
    """What makes one environment of PettingZoo's Parallel API, of a family or of the user's.

    Raises:
        UserError: there is none of this name, or it steps many games at once.
    """
    check_name(name)
    if is_code(name):
        make_env = function(name)
        return partial(make_env, **checked_options(name, make_env, options))
    found = family(name)
    if found is None or found[0].batched:
        raise UserError(f"{name} steps many games at once: there is no single environment of it")
    kind, own_name = found
    options = dict(options)
    if num_agents is not None:
        if own_name not in ("simple_spread_v3", "simple_line_v1", "simple_formation_v1"):
            raise UserError(f"the number of agents of {name} is fixed: leave out env.num-agents")
        options["N"] = num_agents
    build = _maker(kind)
    if kind.maker.startswith("zoo:"):
        build = partial(build, name.partition("/")[0])
    return partial(build, own_name, options, render)


def _maker(kind: Family) -> Callable[..., Any]:
    if kind.extra is not None and not is_installed(kind):
        raise UserError(f"{kind.package} is not installed: pip install 'mappo[{kind.extra}]'")
    module, maker = kind.maker.split(":")
    return getattr(importlib.import_module(f"mappo.envs.{module}"), maker)


def from_function(make_env: Callable[..., Any], num_envs: int, options: Mapping[str, Any], **settings: Any) -> Any:
    """What a user's function makes: all environments at once, if it takes their number as `num_envs`, else each."""
    options = checked_options(getattr(make_env, "__name__", "the function"), make_env, options, ("num_envs",))
    if "num_envs" in parameters(make_env):
        _no_limit(name_of(make_env), settings.get("time_limit"))
        made: Any = make_env(num_envs=num_envs, **options)
        if not is_batched(made):
            raise UserError(
                f"a function that takes num_envs must make a mappo.Environment of so many games, got "
                f"{type(made).__name__}; one that makes a single environment takes no num_envs"
            )
        return made
    return from_factory(partial(make_env, **options) if options else make_env, num_envs, **settings)


def from_factory(
    factory: Callable[[], Any],
    num_envs: int,
    shared_reward: bool = False,
    *,
    time_limit: int | None = None,
    workers: int | None = 0,
    restart: bool = False,
    worker_timeout: float = 60.0,
) -> Environment:
    """Calls `factory` once for each environment, and steps them in a loop, or in worker processes.

    Args:
        shared_reward: all agents are given one number, the team's, which is not to be summed over them.
        time_limit: the step at which an episode is cut off, and at which an end counts as that.
        workers: processes; 0: this one; None: one for each core that this process may use, if there are several.
        restart, worker_timeout: see `WorkerPool`.
    """
    count = usable_cores() if workers is None else workers
    if count and num_envs > 1 and not (workers is None and (count == 1 or os.name == "nt")):
        from mappo.envs.pool import WorkerPool

        return WorkerPool(
            *(factory, num_envs, count, shared_reward), time_limit=time_limit, restart=restart, timeout=worker_timeout
        )
    from mappo.envs.parallel import ParallelEnvs

    return ParallelEnvs(factory, num_envs, shared_reward, time_limit)


def settings(config: EnvConfig) -> dict[str, Any]:
    """What of a config `make` is told."""
    return {
        "num_agents": config.num_agents,
        "options": config.own_options,
        "time_limit": config.time_limit,
        "workers": config.workers,
        "restart": config.restart,
        "worker_timeout": config.worker_timeout,
    }


def name_of(env: Any) -> str:
    """`custom/NAME` of what was given in place of a name: never one that is known here, and fit for a directory."""
    return "custom/" + re.sub(r"\W+", "-", getattr(env, "__name__", type(env).__name__)).strip("-")


def for_training(env: Any, config: Config, device: torch.device) -> tuple[Environment, Environment | None]:
    """The environments to train in, and those to test in, if there may be more than one set.

    Args:
        env: a name; a batched `Environment`; a function that makes one, or one of PettingZoo's; or such a one, with a
            warning.
    """
    count, tests, chosen = config.env.num_envs, config.run.eval_episodes, settings(config.env)
    if isinstance(env, str):
        training = make(env, count, device=device, **chosen)
        with _closed_on_error(training):
            return training, make(env, games_at_once(env, tests), device=device, **chosen)
    if is_batched(env):
        _no_limit(name_of(env), config.env.time_limit)
        return env, None
    if chosen.pop("num_agents") is not None:
        raise UserError("env.num-agents is for environments that have a name: your own has as many as it has")
    if callable(env):
        training = from_function(env, count, **chosen)
        with _closed_on_error(training):
            return training, from_function(env, min(tests, _SIDE_BY_SIDE), **chosen)
    warnings.warn(
        f"one {type(env).__name__} trains alone: slowly, on little data for each update, and without evaluations; "
        "give a function that makes one",
        stacklevel=3,
    )
    return from_factory(lambda: env, 1, time_limit=config.env.time_limit), None


def of_python(env: Any, games: int, chosen: Mapping[str, Any]) -> Environment:
    """A user's function, or one environment, as a batched one of up to so many games, to play them in."""
    chosen = {k: v for k, v in chosen.items() if k != "num_agents"}
    if callable(env):
        return from_function(env, min(games, _SIDE_BY_SIDE), **chosen)
    return from_factory(lambda: env, 1, time_limit=chosen["time_limit"])


def games_at_once(name: str, games: int) -> int:
    """How many environments to make for so many games: of the batched ones, hundreds step as fast as a few."""
    found = family(name)
    return min(games, 2048 if name in NATIVE or (found is not None and found[0].batched) else _SIDE_BY_SIDE)


def is_batched(env: Any) -> bool:
    """It steps many games at once, as `types.Environment` says; a vector of another library's has no `Spec`."""
    from mappo.spec import Spec
    from mappo.types import Environment

    return isinstance(env, Environment) and isinstance(env.spec, Spec)  # pyright: ignore[reportUnnecessaryIsInstance]


def baselines(name: str, num_agents: int) -> dict[str, Any]:
    """Scripted policies that an environment is measured by, beside the random one."""
    if name in ("spread", "spread/paper", "mpe2/simple_spread_v3"):
        from mappo.envs.spread import central_planner

        return {"planner": central_planner} if num_agents <= 6 else {}  # it tries all N! assignments
    if name in ("speaker_listener", "mpe2/simple_speaker_listener_v4"):
        from mappo.envs.speaker_listener import informed_pair

        return {"scripted pair": informed_pair}
    if name in ("reference", "mpe2/simple_reference_v3"):
        from mappo.envs.reference import informed_pair as informed

        return {"scripted pair": informed}
    if name == "battle":
        from mappo.envs.battle import attack_nearest, focus_fire

        return {"attack nearest": attack_nearest, "focus fire": focus_fire}
    return {}


@contextlib.contextmanager
def _closed_on_error(env: Environment) -> Generator[None]:
    try:
        yield
    except BaseException:
        env.close()
        raise


def _no_limit(name: str, time_limit: int | None) -> None:
    if time_limit is not None:
        raise UserError(
            f"env.time-limit is for environments that are stepped one by one: {name} keeps its own; see its options, "
            f"such as env.options horizon=50 or max_steps=50"
        )


def _chosen_agents(name: str, maker: Any, num_agents: int | None) -> dict[str, int]:
    if num_agents is None:
        return {}
    if "num_agents" not in parameters(maker):
        raise UserError(f"the number of agents of {name} is fixed: leave out env.num-agents")
    return {"num_agents": num_agents}
