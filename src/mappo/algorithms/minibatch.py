"""`Batch`: the training data of an update, in the layout of the loss."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mappo.backend.matmul import IMAGES
from mappo.core.tensor_struct import TensorStruct


@dataclass
class Batch(TensorStruct):
    """Rows of a rollout: a row for each time step and environment, `*R = (R)`; or chunks of L steps, `*R = (L, R)`.

    A *team row* of the critic stands for all agents: a single value, weighted by the number of active agents.
    """

    obs: Tensor  # (*R, A, *obs_shape), preprocessed for the actor
    mask: Tensor | None  # (*R, A, N), True where legal
    action: Tensor  # (*R, A, D), as sampled
    log_prob: Tensor  # (*R, A)
    adv: Tensor  # (*R, A)
    weight: Tensor  # (*R, A): 1 where the agent acted
    critic_obs: Tensor  # (*R, S) of team rows, or (*R, A, S)
    value: Tensor  # (*R) or (*R, A): normalised values of the critic before the update
    target: Tensor  # as value
    value_weight: Tensor  # as value
    # Networks with a memory also read where it starts anew, and its state before the first step of each chunk.
    is_first: Tensor | None = None  # (L, R, A)
    memory: Tensor | None = None  # (1, R, A, H)
    critic_is_first: Tensor | None = None  # (L, R) or (L, R, A)
    critic_memory: Tensor | None = None  # (1, R, H) or (1, R, A, H)

    def to_chunks(self, length: int | None, memory: Tensor | None, critic_memory: Tensor | None) -> "Batch":
        """Reshape `(T, E, ...)` to rows or chunks; see the function `to_chunks`.

        Args:
            length: L; None for rows.
            memory: the actors' memory before each chunk, `(T/L, E, A, H)`.
            critic_memory: the critic's memory before each step, `(T, E, [A,] H)`.
        """
        batch = self.map(partial(to_chunks, length=length))
        if memory is not None and critic_memory is not None:
            batch.memory = memory.flatten(0, 1).unsqueeze(0)
            batch.critic_memory = critic_memory[::length].flatten(0, 1).unsqueeze(0)
        return batch

    def minibatches(self, order: Tensor, count: int, axis: int) -> Iterator["Batch"]:
        """Yield `count` minibatches; `order` is a permutation of the rows along `axis`."""
        for index in order.chunk(count):
            yield self.map(partial(torch.index_select, dim=axis, index=index))

    def pieces(self, count: int, axis: int) -> list["Batch"]:
        """Split into about `count` batches along `axis`; the pieces are views."""
        num_rows = self.log_prob.shape[axis]
        size = -(-num_rows // count)
        size += -size % IMAGES if size > IMAGES else 0
        starts = range(0, num_rows, size)
        return [self.map(lambda x, i=i: x.narrow(axis, i, min(size, num_rows - i))) for i in starts]

    def total_weight(self) -> Tensor:
        """Return the sums of `weight` and of `value_weight`, `(2,)`: the denominators of all means of the loss."""
        return torch.stack([self.weight.sum(), self.value_weight.sum()])


def to_chunks(x: Tensor, length: int | None) -> Tensor:
    """Reshape `(T, E, ...)` to rows `(T E, ...)`, or to chunks of `length` steps `(L, T/L E, ...)`."""
    return x.flatten(0, 1) if length is None else x.reshape(-1, length, *x.shape[1:]).transpose(0, 1).flatten(1, 2)
