"""Rollouts as CUDA graphs: the steps of environments on a GPU, captured with the steps of the policy."""

from collections.abc import Callable
from typing import cast

from torch import Tensor

from mappo.backend.cuda_graphs import Graphed, addresses
from mappo.core.protocols import Composite, Environment, Graphable, provides
from mappo.core.timestep import Rollout

MAX_PHASES = 8  # graphs at most; each phase at the begin of a rollout has its own


class GraphedRollouts:
    """Replays rollouts of graphable environments.

    Args:
        envs: the environments; their phase selects the graph.
    """

    def __init__(self, envs: list[Graphable]) -> None:
        self._envs = envs
        generators = [generator for env in envs for generator in env.generators]
        self._graphed = Graphed(generators, MAX_PHASES)

    def __call__(self, fill: Callable[[Tensor], Tensor], noise: Tensor, rollout: Rollout) -> Tensor:
        """Return `fill(noise)`, a function with equally many steps of all environments."""
        phases = tuple(env.phase for env in self._envs)

        def fill_and_count(noise: Tensor) -> tuple[Tensor, list[int]]:
            totals = fill(noise)
            return totals, [env.phase for env in self._envs]

        totals, last_phases = self._graphed(fill_and_count, (phases, addresses(rollout)), noise)
        for env, phase in zip(self._envs, last_phases, strict=True):
            env.phase = phase  # a replay runs no line of Python
        return totals


def graphed_rollouts(env: Environment) -> GraphedRollouts | None:
    """Return the graphed rollouts of an environment, or None without an environment to capture."""
    envs = env.joined_envs if isinstance(env, Composite) else [env]
    if not all(provides(e, "phase", "generators") for e in envs):
        return None
    return GraphedRollouts(cast("list[Graphable]", envs))
