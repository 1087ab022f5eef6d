"""Common work of the processes of a run: sums, decisions and files. A single process is the simplest case.

Each process has a rank and steps its share of the environments. `ALONE` returns its arguments: a single process runs
the same lines. All processes call the same methods in the same order: a decision before a call must come from values
common to all processes. `process_group.joined` returns the object of several processes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


class Ranks:
    """A process alone: each method returns its arguments, as the only process gave them."""

    rank = 0
    size = 1

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, the same bits in each."""
        return x

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Sum each tensor over all processes, in place, in one message."""

    def largest(self, *values: float) -> list[float]:
        """Return the largest of each value over all processes."""
        return list(values)

    def gather(self, tensors: Tensors) -> list[Tensors]:
        """Return the tensors of all processes in the first process, and nothing elsewhere."""
        return [tensors]

    def from_first(self, work: Callable[[], Tensors]) -> Tensors:
        """Do work in the first process only; return its tensors in all processes."""
        return work()

    def first_text(self, text: str) -> str:
        """Return the first text that is not empty, in all processes, after the name of the process that gave it."""
        return text

    def leave(self) -> None:
        """Wait for all processes, and end the work in common. Later calls are not allowed."""


ALONE = Ranks()


def from_text(text: str) -> Tensor:
    """Return a text as a tensor of bytes, for `Ranks.from_first`."""
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def to_text(x: Tensor) -> str:
    """Return the text of a tensor made by `from_text`."""
    return x.numpy().tobytes().decode()
