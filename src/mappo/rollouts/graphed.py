"""Rollouts as CUDA graphs: the steps of environments on a GPU, captured with the steps of the policy."""

from collections.abc import Callable
from typing import cast

from torch import Tensor

from mappo.backend.cuda_graphs import Graphed, addresses
from mappo.core.protocols import Composite, Environment, Graphable, provides
from mappo.core.timestep import Rollout

MAX_PHASES = 8  # graphs at most; each phase at the begin of a rollout has its own


def graphed_rollouts(env: Environment) -> Callable[[Callable[[Tensor], Tensor], Tensor, Rollout], Tensor] | None:
    """Return a function to replay the rollouts of an environment, or None without an environment to capture.

    The function takes `fill`, a function with equally many steps of all environments, its argument, and the rollout
    that it fills; it returns `fill(noise)`.
    """
    envs = env.joined_envs if isinstance(env, Composite) else [env]
    if not all(provides(e, "phase", "generators") for e in envs):
        return None
    graphables = cast("list[Graphable]", envs)
    graphed = Graphed([generator for e in graphables for generator in e.generators], MAX_PHASES)

    def replay(fill: Callable[[Tensor], Tensor], noise: Tensor, rollout: Rollout) -> Tensor:
        def fill_and_count(noise: Tensor) -> tuple[Tensor, list[int]]:
            return fill(noise), [e.phase for e in graphables]

        phases = tuple(e.phase for e in graphables)  # they select the graph
        totals, last_phases = graphed(fill_and_count, (phases, addresses(rollout)), noise)
        for graphable, phase in zip(graphables, last_phases, strict=True):
            graphable.phase = phase  # a replay runs no line of Python
        return totals

    return replay
