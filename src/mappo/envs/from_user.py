"""From a function, or an object of the user's, to a batched `Environment`. Imports torch only where it makes one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from mappo.envs.user_code import checked_options, parameters
from mappo.errors import UserError
from mappo.system.hardware import usable_cores

if TYPE_CHECKING:
    from mappo.core.protocols import Environment


def from_function(make_env: Callable[..., Any], num_envs: int, options: Mapping[str, Any], **settings: Any) -> Any:
    """What a user's function makes: all environments at once, if it takes their number as `num_envs`, else each."""
    options = checked_options(getattr(make_env, "__name__", "the function"), make_env, options, ("num_envs",))
    if "num_envs" in parameters(make_env):
        refuse_time_limit(name_of(make_env), settings.get("time_limit"))
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
        from mappo.envs.vector.pool import WorkerPool

        return WorkerPool(
            *(factory, num_envs, count, shared_reward), time_limit=time_limit, restart=restart, timeout=worker_timeout
        )
    from mappo.envs.vector.serial import SerialEnvs

    return SerialEnvs(factory, num_envs, shared_reward, time_limit)


def is_batched(env: Any) -> bool:
    """It steps many games at once, as `types.Environment` says; a vector of another library's has no `Spec`."""
    from mappo.core.protocols import Environment
    from mappo.core.spec import Spec

    return isinstance(env, Environment) and isinstance(env.spec, Spec)  # pyright: ignore[reportUnnecessaryIsInstance]


def name_of(env: Any) -> str:
    """`custom/NAME` of what was given in place of a name: never one that is known here, and fit for a directory."""
    return "custom/" + re.sub(r"\W+", "-", getattr(env, "__name__", type(env).__name__)).strip("-")


def refuse_time_limit(name: str, time_limit: int | None) -> None:
    """Raises UserError where a batched environment is given a time limit."""
    if time_limit is not None:
        raise UserError(
            f"env.time-limit is for environments that are stepped one by one: {name} keeps its own; see its options, "
            f"such as env.options horizon=50 or max_steps=50"
        )
