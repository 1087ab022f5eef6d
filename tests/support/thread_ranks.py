"""Threads in place of the processes of a run."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from mappo.backend.ranks import Ranks, Tensors


class _Meeting:
    """A place where threads leave values for each other."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.values: list[Any] = [None] * size

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        self.barrier.wait()
        found = list(self.values)
        self.barrier.wait()
        return found


class ThreadRanks(Ranks):
    """The processes of a run as a thread sees them."""

    def __init__(self, meeting: _Meeting, rank: int, size: int) -> None:
        self._meeting = meeting
        self.rank = rank
        self.size = size

    def sum(self, x: Tensor) -> Tensor:
        return torch.stack(self._meeting.exchange(self.rank, x)).sum(0)

    def largest(self, *values: float) -> list[float]:
        return [max(column) for column in zip(*self._meeting.exchange(self.rank, values), strict=True)]

    def from_first(self, work: Callable[[], Tensors]) -> Tensors:
        return self._meeting.exchange(self.rank, None if self.rank else work())[0]

    def first_text(self, text: str) -> str:
        return next((f"process {k}: {x}" for k, x in enumerate(self._meeting.exchange(self.rank, text)) if x), "")


def in_threads(size: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """Result of the work in each of `size` threads."""
    meeting = _Meeting(size)

    def run(rank: int) -> Any:
        try:
            return work(ThreadRanks(meeting, rank, size))
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))
