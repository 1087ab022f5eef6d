"""The store of the processes of a run, with keys and values common to all: calls to the store end in time."""

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any

import torch.distributed

from mappo.system.shutdown import COMPILED_CALL

dist: Any = torch.distributed  # without complete types

# Seconds for the other processes to notice the end of this process. A slower process counts as lost.
NOTICE_S = 3.0


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """Return the result of a call to the store, in a thread: torch waits without a limit for an answer.

    Raises:
        RuntimeError: the call failed, or took longer.
    """
    found: SimpleQueue[Any] = SimpleQueue()

    def run() -> None:
        try:
            found.put(work())
        except RuntimeError as error:
            found.put(error)

    threading.Thread(target=run, name=COMPILED_CALL, daemon=True).start()
    try:
        result = found.get(timeout=seconds)
    except Empty:
        raise RuntimeError("whoever answers there does not speak as a process of the run") from None
    if isinstance(result, RuntimeError):
        raise result
    return result


@cache
def first_store(lost_after: float) -> Any:
    """Return the store of the processes, made once: a second run of the same processes finds the same store.

    Raises:
        RuntimeError: the processes do not find each other within `lost_after` seconds.
    """
    rendezvous = dist.rendezvous("env://", timeout=timedelta(seconds=lost_after))
    return within(lost_after + 2 * NOTICE_S, lambda: next(iter(rendezvous))[0])
