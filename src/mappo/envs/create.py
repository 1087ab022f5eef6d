"""Environments made by name or by a user's function, for training and evaluation. Imports torch only to make them."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from mappo.config.config import is_code
from mappo.config.settings import EnvOptions
from mappo.core.user_code import load_code, parameters
from mappo.envs.from_user import checked_options, from_function, is_batched, name_of, refuse_time_limit, vectorize
from mappo.envs.names import check_name, find_family, is_native, native_twin, require_package
from mappo.envs.registry import NATIVE, Family
from mappo.errors import UserError
from mappo.system.shutdown import close_failed

if TYPE_CHECKING:
    import torch

    from mappo.config import Config
    from mappo.core.protocols import Environment
    from mappo.core.spec import Spec

_PYTHON_EVAL_ENVS = 16  # a Python environment takes its time for each copy
_BATCHED_EVAL_ENVS = 2048  # a batched environment steps hundreds as fast as a few


def make(
    name: str,
    num_envs: int,
    *,
    num_agents: int | None = None,
    device: torch.device | str = "cpu",
    render: bool = False,
    options: Mapping[str, Any] | None = None,
    time_limit: int | None = None,
    workers: int | None = 0,
    restart: bool = False,
    worker_timeout: float = 60.0,
) -> Environment:
    """Make `num_envs` environments of one name, as a batched `Environment`.

    Args:
        name: see `mappo envs`; a `module:function` is imported.
        num_envs: number of environments (E).
        num_agents: number of agents, if the environment offers a choice; None for its default.
        device: device of environments batched in torch; all others live on the CPU.
        render: True if pictures will be asked for; packages need to know when the environment is made.
        options: keyword arguments of the environment.
        time_limit: see `EnvOptions`.
        workers: see `EnvOptions`.
        restart: see `EnvOptions`.
        worker_timeout: see `EnvOptions`.

    Raises:
        UserError: no environment has this name, its package is missing, or it has no such option.
    """
    env_options = EnvOptions(num_agents, options or {}, time_limit, workers, restart, worker_timeout)
    return make_envs(name, num_envs, env_options, device, render)


def make_envs(
    name: str, num_envs: int, env_options: EnvOptions, device: torch.device | str = "cpu", render: bool = False
) -> Environment:
    """Make `num_envs` environments of one name, like `make`, with the keywords in one object."""
    check_name(name)
    if name in NATIVE:
        maker = _load_maker(NATIVE[name].maker)
        hidden = ("num_envs", "num_agents", "device", "dtype")
        options = checked_options(name, maker, env_options.options, hidden)
        options |= _num_agents_option(name, maker, env_options.num_agents)
        refuse_time_limit(name, env_options.time_limit)
        return maker(num_envs, device=device, **NATIVE[name].options, **options)
    if is_code(name):
        function = load_function(name)
        options = {**env_options.options, **_num_agents_option(name, function, env_options.num_agents)}
        return from_function(function, num_envs, replace(env_options, options=options))
    found = find_family(name)
    if found is not None and found[0].batched:
        refuse_time_limit(name, env_options.time_limit)
        return _family_maker(found[0])(found[1], num_envs, device, _family_options(name, *found, env_options))
    return vectorize(factory(name, env_options, render), num_envs, env_options)


def factory(name: str, env_options: EnvOptions, render: bool = False) -> Callable[[], Any]:
    """Return a maker of single environments of PettingZoo's Parallel API, of a family or of the user's.

    Raises:
        UserError: no environment has this name, or it steps many environments at once.
    """
    check_name(name)
    if is_code(name):
        function = load_function(name)
        return partial(function, **checked_options(name, function, env_options.options))
    found = find_family(name)
    if found is None or found[0].batched:
        raise UserError(f"{name} steps many environments at once: it has no single environment")
    return partial(_family_maker(found[0]), found[1], _family_options(name, *found, env_options), render)


def for_training(
    env: Any, config: Config, device: torch.device, saved: Spec | None = None, processes: int = 1
) -> tuple[Environment, Environment | None]:
    """Make the environments to train in, and the environments to evaluate in; None where a second set is impossible.

    Args:
        env: a name; a batched `Environment`; a function to make a batched or a single environment; or a single
            environment, with a warning.
        config: the configuration of the run.
        device: device of environments batched in torch.
        saved: the Spec of a run to resume.
        processes: processes with an equal share of the evaluations.
    """
    env_options = config.env.env_options if saved is None else saved.fit_options(config.env.env_options)
    is_made_here = isinstance(env, str) or (callable(env) and not is_batched(env))
    if config.run.seeds > 1 and not is_made_here:
        raise UserError("run.seeds needs environments for each seed: give a name, or a function that makes them")
    if is_batched(env):
        refuse_time_limit(name_of(env), env_options.time_limit)
        return cast(Any, env), None
    if env_options.num_agents is not None and not isinstance(env, str):
        raise UserError("env.num-agents is for named environments: your environment sets its own number")
    if is_made_here:
        training = _make_for_seeds(env, config, env_options, device)
        # In another process a set of names may have another order.
        env_options = replace(env_options, agents=training.spec.agents)
        num_envs = -(-num_envs_for(env, config.run.most_eval_episodes) // processes)
        try:
            return training, _make_some(env, num_envs, env_options, device)
        except BaseException:
            close_failed(training)
            raise
    warnings.warn(
        f"one {type(env).__name__} trains alone: slowly, on little data for each update, and without evaluations; "
        "give a function that makes an environment",
        stacklevel=5,
    )
    return from_python(env, 1, env_options), None


def from_python(env: Any, episodes: int, env_options: EnvOptions) -> Environment:
    """Make a batched environment for `episodes` episodes, from a user's function or from a single environment."""
    if callable(env):
        return from_function(env, num_envs_for(env, episodes), env_options)
    return vectorize(lambda: env, 1, env_options)  # a single environment needs no worker


def num_envs_for(env: str | Callable[..., Any], episodes: int) -> int:
    """Return the number of environments to make for so many episodes."""
    is_fast = isinstance(env, str) and not is_code(env) and is_batched_env(env)
    return min(episodes, _BATCHED_EVAL_ENVS if is_fast else _PYTHON_EVAL_ENVS)


def is_batched_env(env: str | Callable[..., Any]) -> bool:
    """Return True if a name or function makes many environments at once, with common random numbers."""
    if isinstance(env, str) and not is_code(env):
        found = find_family(env)
        return env in NATIVE or (found is not None and found[0].batched)
    return "num_envs" in parameters(load_function(env) if isinstance(env, str) else env)


def baselines(name: str, spec: Spec) -> dict[str, Any]:
    """Return the scripted policies, by name, to compare an environment's scores with."""
    native = native_twin(name)
    return {} if native is None or native.baselines is None else _load_maker(native.baselines)(spec)


def _make_some(
    env: str | Callable[..., Any], num_envs: int, env_options: EnvOptions, device: torch.device
) -> Environment:
    if isinstance(env, str):
        return make_envs(env, num_envs, env_options, device)
    return from_function(env, num_envs, env_options)


def _make_for_seeds(
    env: str | Callable[..., Any], config: Config, env_options: EnvOptions, device: torch.device
) -> Environment:
    """Make `env.num-envs` environments for each seed of a run."""
    seeds = config.run.seeds
    make_some = partial(_make_some, env, env_options=env_options, device=device)
    is_shared = isinstance(env, str) and is_native(env)
    # Environments in Python need no set for each seed: each of their episodes has a seed of its own.
    if seeds == 1 or is_shared or not is_batched_env(env):
        envs = make_some(num_envs=config.env.num_envs * seeds)
        if is_shared:  # the environments of all seeds are stepped at once, with a generator for each seed
            cast(Any, envs).set_num_seeds(seeds)
        return envs
    from mappo.envs.batched.concat import ConcatEnv

    sets: list[Environment] = []
    with contextlib.ExitStack() as stack:
        for _ in range(seeds):
            sets.append(make_some(num_envs=config.env.num_envs))
            stack.callback(close_failed, sets[-1])
        stack.pop_all()  # no error: all stay open
    return ConcatEnv(sets)


def _family_maker(family: Family) -> Callable[..., Any]:
    require_package(family)
    return _load_maker(family.maker)


def load_function(name: str) -> Callable[..., Any]:
    """Import a function of the user that makes environments."""
    return load_code(name, "a function that makes an environment")


def _load_maker(maker: str) -> Any:
    """Import `module:function` of this package."""
    module, _, attribute = maker.partition(":")
    return getattr(importlib.import_module(f"mappo.envs.{module}"), attribute)


def _family_options(name: str, family: Family, env_name: str, env_options: EnvOptions) -> dict[str, Any]:
    """Return the options of a family's environment, the number of agents among them."""
    options = dict(env_options.options)
    if env_options.num_agents is not None:
        if family.agent_option is None or (family.agent_option_names and env_name not in family.agent_option_names):
            raise _fixed_agents_error(name)
        options[family.agent_option] = env_options.num_agents
    return options


def _num_agents_option(name: str, maker: Any, num_agents: int | None) -> dict[str, int]:
    if num_agents is None:
        return {}
    if "num_agents" not in parameters(maker):
        raise _fixed_agents_error(name)
    return {"num_agents": num_agents}


def _fixed_agents_error(name: str) -> UserError:
    return UserError(f"the number of agents of {name} is fixed: leave out env.num-agents")
