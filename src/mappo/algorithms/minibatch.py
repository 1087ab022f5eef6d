"""What the gradient steps of one update read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from mappo.backend.matmul import IMAGES


@dataclass
class Batch:
    """Rows of a rollout: one for each time and environment, `*R = (R)`; or chunks of L steps, `*R = (L, R)`.

    A *team row* of the critic stands for all agents: one value, weighed by how many act.
    """

    obs: Tensor  # (*R, A, *obs_shape), as the actor reads it
    mask: Tensor | None  # (*R, A, N): what is legal
    action: Tensor  # (*R, A, D), as it was drawn
    log_prob: Tensor  # (*R, A)
    adv: Tensor  # (*R, A)
    weight: Tensor  # (*R, A): 1 where the agent acted
    critic_obs: Tensor  # (*R, S) team rows, or (*R, A, S)
    value: Tensor  # (*R) or (*R, A): what the critic answered, in its own units
    target: Tensor  # as value
    value_weight: Tensor  # as value
    # Of networks with a memory: where it starts anew, and what it is before the first step of each chunk.
    is_first: Tensor | None = None  # (L, R, A)
    memory: Tensor | None = None  # (1, R, A, H)
    critic_is_first: Tensor | None = None  # (L, R) or (L, R, A)
    critic_memory: Tensor | None = None  # (1, R, H) or (1, R, A, H)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """A batch of what `function` makes of each tensor."""
        return Batch.of({name: function(x) for name, x in self.tensors().items()})

    def minibatches(self, order: Tensor, count: int, axis: int) -> Iterator["Batch"]:
        """So many minibatches, by an order of what lies along an axis."""
        for index in order.chunk(count):
            yield self.map(partial(torch.index_select, dim=axis, index=index))

    def pieces(self, count: int, axis: int) -> list["Batch"]:
        """About so many batches, of what lies side by side along an axis; they share this one's memory."""
        names, there = list(self.tensors()), self.log_prob.shape[axis]
        size = -(-there // count)
        size += -size % IMAGES if size > IMAGES else 0
        ends = list(range(size, there, size))
        parts = zip(*(x.tensor_split(ends, axis) for x in self.tensors().values()), strict=True)
        return [Batch.of(dict(zip(names, part, strict=True))) for part in parts]

    def tensors(self) -> dict[str, Tensor]:
        """Those that are there, by name."""
        return {name: x for name, x in vars(self).items() if x is not None}

    @staticmethod
    def of(tensors: Mapping[str, Tensor]) -> "Batch":
        """The inverse of `tensors`."""
        return Batch(**cast(Any, {f.name: tensors.get(f.name) for f in fields(Batch)}))


def to_chunks(x: Tensor, length: int | None) -> Tensor:
    """`(T, E, ...)` as rows `(T E, ...)`, or as chunks of so many steps `(L, T/L E, ...)`."""
    if length is None:
        return x.flatten(0, 1)
    return x.reshape(-1, length, *x.shape[1:]).transpose(0, 1).flatten(1, 2)
