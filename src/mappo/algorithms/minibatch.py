"""`Batch`: the training data of an update, in the layout of the loss."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from mappo.backend.matmul import IMAGES
from mappo.config import Config
from mappo.core.tensor_struct import TensorStruct
from mappo.functional.weighted import SumAcross, mask_out, weighted_mean


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
    # (2,): `total_weight` of the minibatch in all processes, of which these rows are a piece; None for all of its rows.
    total: Tensor | None = None

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

    def minibatches(
        self, order: Tensor | None, count: int, axis: int, sum_across: SumAcross | None = None
    ) -> Iterator["Batch"]:
        """Yield minibatches.

        Args:
            order: a permutation of the rows along `axis`; None for a single minibatch.
            count: number of minibatches.
            axis: axis of the rows, or of the chunks.
            sum_across: adds the sums of other processes, whose minibatches are parts of these; None for no other.
        """
        # The weights of all minibatches are summed in one message, ahead of the gradient steps.
        totals = None if sum_across is None else sum_across(self._total_weights(order, count, axis))
        for k, index in enumerate([None] if order is None else order.chunk(count)):
            rows = self if index is None else self.map(partial(torch.index_select, dim=axis, index=index))
            yield rows if totals is None else replace(rows, total=totals[k])

    def pieces(self, count: int, axis: int) -> list["Batch"]:
        """Split into about `count` batches along `axis`; the pieces are views, and know the total weight."""
        num_rows = self.log_prob.shape[axis]
        size = -(-num_rows // count)
        size += -size % IMAGES if size > IMAGES else 0
        starts = range(0, num_rows, size)
        total = self.total_weight()
        rows = replace(self, total=None)
        pieces = [rows.map(lambda x, i=i: x.narrow(axis, i, min(size, num_rows - i))) for i in starts]
        return [replace(piece, total=total) for piece in pieces]

    def total_weight(self) -> Tensor:
        """Return the sums of `weight` and of `value_weight`, `(2,)`: the denominators of all means of the loss."""
        return self.total if self.total is not None else torch.stack([self.weight.sum(), self.value_weight.sum()])

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean of `x`, `(*R, A)`, over the rows of acting agents, of all pieces and processes.

        The means of pieces, and of processes, are shares: they add up to the mean of the whole minibatch.
        """
        return weighted_mean(mask_out(x, self.weight), self.weight, None if self.total is None else self.total[0])

    def value_mean(self, x: Tensor) -> Tensor:
        """Return the mean over the critic's rows, `(*R)` of team rows or `(*R, A)`; see `mean`."""
        weight = self.value_weight
        return weighted_mean(mask_out(x, weight), weight, None if self.total is None else self.total[1])

    def _total_weights(self, order: Tensor | None, count: int, axis: int) -> Tensor:
        """Return `total_weight` of each minibatch of these rows, `(count, 2)`."""
        if order is None:
            return self.total_weight().unsqueeze(0)
        weights = (self.weight, self.value_weight)
        rows = torch.stack([x.movedim(axis, 0).reshape(x.shape[axis], -1).sum(1) for x in weights], 1)  # (R, 2)
        return rows[order].view(count, -1, 2).sum(1)


def to_chunks(x: Tensor, length: int | None) -> Tensor:
    """Reshape `(T, E, ...)` to rows `(T E, ...)`, or to chunks of `length` steps `(L, T/L E, ...)`."""
    return x.flatten(0, 1) if length is None else x.reshape(-1, length, *x.shape[1:]).transpose(0, 1).flatten(1, 2)


def sample_orders(num_steps: int, config: Config, generator: torch.Generator) -> Tensor | None:
    """Sample a permutation of the rows, or of the chunks, of a rollout of T x E steps for each epoch."""
    if config.ppo.minibatches == 1:
        return None
    num_rows = num_steps // (config.chunk_length or 1)
    epochs = range(config.ppo.epochs)
    return torch.stack([torch.randperm(num_rows, generator=generator, device=generator.device) for _ in epochs])
