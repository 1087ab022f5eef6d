"""Batched environments from a maker of single environments, with the options as keywords."""

from collections.abc import Callable
from typing import Any

from mappo.config.settings import EnvOptions
from mappo.core.protocols import Environment
from mappo.envs.from_user import vectorize


def from_factory(factory: Callable[[], Any], num_envs: int, shared_reward: bool = False, **options: Any) -> Environment:
    """`num_envs` environments in this process, or in `workers` processes; see `vectorize` and `EnvOptions`."""
    return vectorize(factory, num_envs, EnvOptions(**options), shared_reward)
