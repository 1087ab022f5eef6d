"""Whole rollouts as one launch: the steps of environments that live on a GPU, recorded with the policy's."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from mappo.backend.cuda_graphs import GraphedFunction, StaticTensors, addresses, supports_cuda_graphs
from mappo.core.protocols import Composite, Environment, Graphable
from mappo.core.timestep import Rollout, TimeStep

PHASES = 8  # recordings at most: one for each phase that rollouts begin in


class GraphedRollouts:
    """Rollouts of such environments.

    Args:
        envs: whose tensors and phases change. steps: where they are, which each rollout replaces.
    """

    def __init__(self, envs: list[Graphable], steps: list[TimeStep]) -> None:
        self._envs, self._recorded = envs, dict[tuple[int, ...], GraphedFunction]()
        self._places: list[int] = []
        self._still = StaticTensors([steps, *(vars(env) for env in envs)], (TimeStep,))
        self._generators = [generator for env in envs for generator in env.generators]

    @staticmethod
    def create(env: Environment, steps: list[TimeStep]) -> "GraphedRollouts | None":
        """None where an environment cannot be recorded, or the device cannot record."""
        envs = env.joined_envs if isinstance(env, Composite) else [env]
        # Of its own: a wrapper that passes on what it does not know has tensors that nobody finds.
        own = all(hasattr(type(e), "phase") and "generators" in vars(e) for e in envs)
        if (
            not own
            or not supports_cuda_graphs(torch.device(env.device))
            or not all(isinstance(e, Graphable) for e in envs)
        ):
            return None
        return GraphedRollouts(cast("list[Graphable]", envs), steps)

    def __call__(self, fill: Callable[[Tensor], Tensor], noise: Tensor, rollout: Rollout) -> Tensor:
        """`fill(noise)`, which steps all environments always as often into one rollout, and what it answers."""
        phase = tuple(env.phase for env in self._envs)

        def work(noise: Tensor) -> tuple[Tensor, list[int]]:
            totals = fill(noise)
            self._still.sync()
            return totals, [env.phase for env in self._envs]

        self._still.sync()  # others may have reset or loaded them
        if (places := addresses(rollout)) != self._places:
            self._places, self._recorded = places, {}
        if phase not in self._recorded and len(self._recorded) == PHASES:
            return work(noise)[0]
        totals, after = self._recorded.setdefault(phase, GraphedFunction(work, self._generators))(noise)
        for env, now in zip(self._envs, after, strict=True):
            env.phase = now  # as a recording leaves it, in which no line of Python runs
        return totals
