"""Environments made by name, one or many. Imports torch only to make one."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from mappo.envs.from_user import from_factory, from_function, is_batched, name_of, refuse_time_limit
from mappo.envs.names import check_name, find_family, is_code, native_twin, require_package
from mappo.envs.registry import NATIVE, Family
from mappo.envs.user_code import checked_options, load_function, parameters
from mappo.errors import UserError

if TYPE_CHECKING:
    import torch

    from mappo.config import Config, EnvConfig
    from mappo.core.protocols import Environment

_PYTHON_EVAL_ENVS = 16  # environments in Python, for evaluations


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
        native = _load_maker(NATIVE[name].maker)
        chosen = checked_options(name, native, options or {}, ("num_envs", "num_agents", "device", "dtype"))
        chosen |= _num_agents_option(name, native, num_agents)
        refuse_time_limit(name, time_limit)
        return native(num_envs, device=device, **NATIVE[name].options, **chosen)
    if is_code(name):
        make_env = load_function(name)
        chosen = dict(options or {}) | _num_agents_option(name, make_env, num_agents)
        return from_function(make_env, num_envs, chosen, time_limit=time_limit, **stepping)
    found = find_family(name)
    if found is not None and found[0].batched:
        refuse_time_limit(name, time_limit)
        kind, own_name = found
        return _family_maker(kind)(
            own_name, num_envs, device, dict(options or {}) | _agent_count_option(name, kind, own_name, num_agents)
        )
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
        make_env = load_function(name)
        return partial(make_env, **checked_options(name, make_env, options))
    found = find_family(name)
    if found is None or found[0].batched:
        raise UserError(f"{name} steps many games at once: there is no single environment of it")
    kind, own_name = found
    return partial(
        _family_maker(kind), own_name, dict(options) | _agent_count_option(name, kind, own_name, num_agents), render
    )


def settings(config: EnvConfig) -> dict[str, Any]:
    """What of a config `make` is told."""
    return {
        "num_agents": config.num_agents,
        "options": config.env_kwargs,
        "time_limit": config.time_limit,
        "workers": config.workers,
        "restart": config.restart,
        "worker_timeout": config.worker_timeout,
    }


def for_training(env: Any, config: Config, device: torch.device) -> tuple[Environment, Environment | None]:
    """The environments to train in, and those to test in, if there may be more than one set.

    Args:
        env: a name; a batched `Environment`; a function that makes one, or one of PettingZoo's; or such a one, with a
            warning.
    """
    count, tests, chosen = config.env.num_envs, config.run.eval_episodes, settings(config.env)
    seeds = config.run.seeds
    if isinstance(env, str):
        own = is_batched_env(env) and env not in NATIVE
        training = _make_for_seeds(lambda n: make(env, n, device=device, **chosen), count, seeds, own)
        if env in NATIVE:  # those of all seeds are stepped at once, as fast as one's
            cast(Any, training).set_num_seeds(seeds)
        with _closed_on_error(training):
            return training, make(env, num_envs_for(env, tests), device=device, **chosen)
    if is_batched(env):
        refuse_time_limit(name_of(env), config.env.time_limit)
        _refuse_seeds(seeds)
        return env, None
    if chosen.pop("num_agents") is not None:
        raise UserError("env.num-agents is for environments that have a name: your own has as many as it has")
    if callable(env):
        training = _make_for_seeds(lambda n: from_function(env, n, **chosen), count, seeds, is_batched_env(env))
        with _closed_on_error(training):
            return training, from_function(env, min(tests, _PYTHON_EVAL_ENVS), **chosen)
    _refuse_seeds(seeds)
    warnings.warn(
        f"one {type(env).__name__} trains alone: slowly, on little data for each update, and without evaluations; "
        "give a function that makes one",
        stacklevel=4,
    )
    return from_factory(lambda: env, 1, time_limit=config.env.time_limit), None


def from_python(env: Any, episodes: int, chosen: Mapping[str, Any]) -> Environment:
    """A user's function, or one environment, as a batched one of up to so many games, to play them in."""
    chosen = {k: v for k, v in chosen.items() if k != "num_agents"}
    if callable(env):
        return from_function(env, min(episodes, _PYTHON_EVAL_ENVS), **chosen)
    return from_factory(lambda: env, 1, time_limit=chosen["time_limit"])


def num_envs_for(name: str, episodes: int) -> int:
    """How many environments to make for so many games: of the batched ones, hundreds step as fast as a few."""
    return min(episodes, 2048 if not is_code(name) and is_batched_env(name) else _PYTHON_EVAL_ENVS)


def is_batched_env(env: str | Callable[..., Any]) -> bool:
    """What is made of a name or a function steps many games at once by itself, with random numbers in common."""
    if isinstance(env, str) and not is_code(env):
        found = find_family(env)
        return env in NATIVE or (found is not None and found[0].batched)
    return "num_envs" in parameters(load_function(env) if isinstance(env, str) else env)


def _refuse_seeds(seeds: int) -> None:
    if seeds > 1:
        raise UserError("run.seeds needs environments for each seed: give a name, or a function that makes them")


def _make_for_seeds(make_some: Callable[[int], Environment], count: int, seeds: int, at_once: bool) -> Environment:
    """So many games for each seed; each episode of those stepped one by one has a seed of its own anyway."""
    if seeds == 1 or not at_once:
        return make_some(count * seeds)
    from mappo.envs.batched.concat import ConcatEnv

    made: list[Environment] = []
    with contextlib.ExitStack() as stack:
        for _ in range(seeds):
            made.append(make_some(count))
            stack.callback(made[-1].close)
        stack.pop_all()  # all are there
    return ConcatEnv(made)


def baselines(name: str, num_agents: int) -> dict[str, Any]:
    """Scripted policies that an environment is measured by, beside the random one."""
    native = native_twin(name)
    return {} if native is None or native.baselines is None else _load_maker(native.baselines)(num_agents)


def _family_maker(kind: Family) -> Callable[..., Any]:
    require_package(kind)
    return _load_maker(kind.maker)


def _load_maker(maker: str) -> Any:
    """What `module:function` of this package is."""
    module, _, attribute = maker.partition(":")
    return getattr(importlib.import_module(f"mappo.envs.{module}"), attribute)


def _agent_count_option(name: str, kind: Family, own_name: str, num_agents: int | None) -> dict[str, int]:
    """The number of agents as an option of a family's environment."""
    if num_agents is None:
        return {}
    if kind.agent_option is None or (kind.agent_option_names and own_name not in kind.agent_option_names):
        raise _fixed_agents_error(name)
    return {kind.agent_option: num_agents}


def _num_agents_option(name: str, maker: Any, num_agents: int | None) -> dict[str, int]:
    if num_agents is None:
        return {}
    if "num_agents" not in parameters(maker):
        raise _fixed_agents_error(name)
    return {"num_agents": num_agents}


def _fixed_agents_error(name: str) -> UserError:
    return UserError(f"the number of agents of {name} is fixed: leave out env.num-agents")


@contextlib.contextmanager
def _closed_on_error(env: Environment) -> Generator[None]:
    try:
        yield
    except BaseException:
        env.close()
        raise
