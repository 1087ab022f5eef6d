"""Batched environments from a function or an object of the user. Imports torch only to make them."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mappo.config.settings import EnvOptions
from mappo.core.user_code import parameters
from mappo.envs.names import CUSTOM, check_options
from mappo.errors import UserError
from mappo.system.hardware import usable_cores

if TYPE_CHECKING:
    from mappo.core.protocols import Environment


def from_function(make_env: Callable[..., Any], num_envs: int, env_options: EnvOptions) -> Any:
    """Make a batched environment by a function of the user.

    Args:
        make_env: makes all environments at once if it takes their number as `num_envs`, else a single environment.
        num_envs: number of environments (E).
        env_options: `options` are keyword arguments of the function; `num_agents` is not used.

    Raises:
        UserError: an option is not known, or the function returns no environment.
    """
    name = getattr(make_env, "__name__", "the function")
    options = checked_options(name, make_env, env_options.options, ("num_envs",))
    if "num_envs" not in parameters(make_env):
        return vectorize(partial(make_env, **options) if options else make_env, num_envs, env_options)
    refuse_time_limit(name_of(make_env), env_options.time_limit)
    env: Any = make_env(num_envs=num_envs, **options)
    if not is_batched(env):
        raise UserError(
            f"a function that takes num_envs must return a mappo.Environment with num_envs environments, got "
            f"{type(env).__name__}; remove num_envs if the function makes a single environment"
        )
    return env


def vectorize(
    factory: Callable[[], Any], num_envs: int, env_options: EnvOptions, shared_reward: bool = False
) -> Environment:
    """Call `factory` once for each environment, and step the environments in a loop or in worker processes.

    Args:
        factory: makes an environment of PettingZoo's Parallel API.
        num_envs: number of environments (E).
        env_options: the time limit, and the options of the workers; see `EnvOptions`.
        shared_reward: True if all agents receive the team's reward; it is then not summed over agents.
    """
    workers = usable_cores() if env_options.workers is None else env_options.workers
    # By default a pool needs several cores, and POSIX. Explicit workers are tried, and their error is shown.
    is_pointless = env_options.workers is None and (workers == 1 or os.name == "nt")
    if workers and num_envs > 1 and not is_pointless:
        from mappo.envs.vector.pool import WorkerPool

        return WorkerPool(factory, num_envs, replace(env_options, workers=workers), shared_reward)
    from mappo.envs.vector.serial import SerialEnvs

    return SerialEnvs(factory, num_envs, env_options, shared_reward)


def is_batched(env: Any) -> bool:
    """Return True for a `mappo.Environment`; vectors of other libraries have no `Spec`."""
    from mappo.core.protocols import Environment
    from mappo.core.spec import Spec

    return isinstance(env, Environment) and isinstance(env.spec, Spec)  # pyright: ignore[reportUnnecessaryIsInstance]


def name_of(env: Any) -> str:
    """Return `custom/NAME` for an environment without a name: never a known name, and valid as a directory."""
    return CUSTOM + re.sub(r"\W+", "-", getattr(env, "__name__", type(env).__name__)).strip("-")


def refuse_time_limit(name: str, time_limit: int | None) -> None:
    """Refuse a time limit for a batched environment.

    Raises:
        UserError: `time_limit` is not None.
    """
    if time_limit is not None:
        raise UserError(
            f"env.time-limit is for environments in Python: {name} steps many at once and ends its own episodes; use "
            f"its options, such as env.options horizon=50 or max_steps=50"
        )


def checked_options(
    name: str, function: Callable[..., Any], options: Mapping[str, Any], hidden: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the options of the user, checked against the parameters of a function.

    Args:
        name: the environment, for the message.
        function: the function to call.
        options: keyword arguments from the user.
        hidden: parameters set by mappo itself.

    Raises:
        UserError: an option is not known, or a parameter without a default is missing; the message names both the
            missing parameter and the way to give a value.
    """
    params = parameters(function).values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in params if p.default is p.empty and p.kind not in variadic]
    if missing := [p for p in needed if p not in options and p not in hidden]:
        values = " ".join(f"{p}=VALUE" for p in missing)
        raise UserError(
            f"{name} cannot be called without {', '.join(missing)}: give --env.options {values} (to mappo check "
            f"--options {values}), or write defaults"
        )
    if not any(p.kind is p.VAR_KEYWORD for p in params):
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        check_options(name, options, [p.name for p in params if p.kind in named and p.name not in hidden])
    return dict(options)
