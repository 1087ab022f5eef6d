"""The processes of a run, joined by torch.distributed (env://)."""

import importlib
import itertools
import os
import re
import socket
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from safetensors.torch import load, save  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from mappo.backend.ranks import ALONE, Ranks, Tensors
from mappo.backend.store import NOTICE_S, first_store, within
from mappo.errors import ElsewhereError, LostError, UserError
from mappo.system.launched import START_AGAIN, Place, has_restarts

dist: Any = torch.distributed  # without complete types

REASON = "reason"


class Group(Ranks):
    """The processes of a run, joined.

    Args:
        place: rank and number of the processes.
        store: keys and values common to the processes.
        lost_after: seconds after which a silent process counts as lost.
    """

    def __init__(self, place: Place, store: Any, lost_after: float) -> None:
        self.rank = place.rank
        self.size = place.size
        self._store = store
        self._lost_after = lost_after
        self._is_joined = True
        names = self._gather_bytes(socket.gethostname().encode(), to_all=True)
        self._names = [f"process {rank} of {self.size} (host {name.decode()})" for rank, name in enumerate(names)]

    def sum(self, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        self._call(dist.all_reduce, total)
        return total

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        flat = torch.cat([x.flatten() for x in tensors])
        self._call(dist.all_reduce, flat)
        start = 0
        for x in tensors:
            x.copy_(flat[start : start + x.numel()].view_as(x))
            start += x.numel()

    def largest(self, *values: float) -> list[float]:
        found = torch.tensor(values, dtype=torch.float64)
        self._call(dist.all_reduce, found, dist.ReduceOp.MAX)
        return [float(x) for x in found]

    def gather(self, tensors: Tensors) -> list[Tensors]:
        return [load(data) for data in self._gather_bytes(_to_bytes(tensors))]

    def from_first(self, work: Callable[[], Tensors]) -> Tensors:
        data = _to_bytes(work()) if self.rank == 0 else b""
        length = int(self.largest(len(data))[0])
        sent = torch.frombuffer(bytearray(data or bytes(length)), dtype=torch.uint8)
        self._call(dist.broadcast, sent, 0)
        return load(sent.numpy().tobytes())

    def first_text(self, text: str) -> str:
        texts = self._gather_bytes(text.encode(), to_all=True)
        named = (f"{name}: {found.decode()}" for name, found in zip(self._names, texts, strict=True) if found)
        return next(named, "")

    def _gather_bytes(self, data: bytes, to_all: bool = False) -> list[bytes]:
        """Return the bytes of each process, in the first process or in all."""
        is_own = torch.arange(self.size) == self.rank
        lengths = [int(x) for x in self.sum(is_own * len(data))]
        padded = torch.frombuffer(bytearray(data.ljust(max(lengths), b"\0")), dtype=torch.uint8)
        received = [torch.empty_like(padded) for _ in lengths] if to_all or self.rank == 0 else None
        if to_all:
            self._call(dist.all_gather, received, padded)
        else:
            self._call(dist.gather, padded, received, 0)
        return [x[:n].numpy().tobytes() for x, n in zip(received or [], lengths, strict=received is not None)]

    def _call(self, operation: Callable[..., Any], *args: Any) -> None:
        """Run a collective operation.

        Raises:
            LostError: a process is lost.
            ElsewhereError: a process has ended, and said why.
        """
        try:
            operation(*args)
        except RuntimeError as error:
            raise self._reason_to_end(error) from None

    def _reason_to_end(self, error: RuntimeError) -> LostError | ElsewhereError:
        """Leave the group after a failed operation; return the error to raise."""
        missing = [0]
        self._close()
        with suppress(RuntimeError):  # the store went with the first process, or is out of reach
            if within(NOTICE_S, lambda: self._store.check([REASON])):
                return ElsewhereError(within(NOTICE_S, lambda: self._store.get(REASON)).decode())
            missing = self._wait_for_notice()
        if self.rank != min(set(range(self.size)) - {*missing}):
            return LostError("")  # the first of the others speaks
        names = ", ".join(self._names[rank] for rank in missing) or "another process of the run"
        verb = "are" if len(missing) > 1 else "is"
        again = "" if has_restarts() else f". {START_AGAIN}"
        return LostError(f"{names} {verb} lost, or silent for {self._lost_after:g} s ({_first_sentence(error)}){again}")

    def _wait_for_notice(self) -> list[int]:
        """Return the other processes that do not leave within `NOTICE_S`."""
        end = time.monotonic() + NOTICE_S

        def wait() -> list[int]:
            missing: list[int] = []
            for rank in range(self.size):
                remaining = max(end - time.monotonic(), 0.01)
                try:
                    self._store.wait([f"left-{rank}"], timedelta(seconds=remaining))
                except dist.DistStoreError:
                    missing.append(rank)
            return missing

        return within(2 * NOTICE_S, wait)

    def tell(self, error: BaseException) -> BaseException:
        """Leave the group with an error, so that no process waits for this one. Return the error to raise."""
        text = f"{self._names[self.rank]}: {str(error) or type(error).__name__}"
        shown = text
        with suppress(RuntimeError):
            if self.rank:  # the first process speaks, where all find the same error
                time.sleep(1)
            shown = within(NOTICE_S, lambda: self._store.compare_set(REASON, "", text)).decode()
        self._close()
        self._let_others_notice()
        if shown != text:
            return ElsewhereError(shown)
        return UserError(text) if self.rank and isinstance(error, UserError) else error

    def leave(self) -> None:
        if self._is_joined:
            self.largest(0.0)
            self._close()
            self._let_others_notice()

    def _close(self) -> None:
        """Close the connections: a process that waits for this one notices at once."""
        self._is_joined = False
        dist.destroy_process_group()
        with suppress(RuntimeError):
            within(NOTICE_S, lambda: self._store.set(f"left-{self.rank}", ""))

    def _let_others_notice(self) -> None:
        """Keep the store of the first process until the others have asked it."""
        if self.rank == 0:
            with suppress(RuntimeError):
                self._wait_for_notice()


def _to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return save({name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()})


def _first_sentence(error: RuntimeError) -> str:
    """Return what torch says first, without the place in its sources."""
    return re.sub(r"^\[\S+\] ", "", str(error)).partition("\n")[0].partition(". ")[0].rstrip(".")


_groups = itertools.count()


@contextmanager
def joined(place: Place, is_cuda: bool, lost_after: float) -> Generator[Ranks]:
    """Join the other processes of the run within the context.

    Args:
        place: rank and number of the processes, from the variables RANK and WORLD_SIZE.
        is_cuda: tensors on a GPU are summed too, by NCCL; a process then needs a GPU of its own.
        lost_after: seconds after which a silent process counts as lost.

    Raises:
        LostError: a process never came, or is lost.
        ElsewhereError: a process has ended with an error, and said why.
    """
    if place.size == 1:
        yield ALONE
        return
    group = _join(place, is_cuda, lost_after)
    try:
        yield group
        group.leave()
    except (LostError, ElsewhereError):
        raise
    except BaseException as error:
        raise group.tell(error) from error


def _join(place: Place, is_cuda: bool, lost_after: float) -> Group:
    """Return the group of the processes of the run, once all have come."""
    # torch.optim loads this module, whose default arguments keep a group alive: load it before there is one.
    importlib.import_module("torch.distributed.nn.functional")
    try:
        store = dist.PrefixStore(f"mappo-{next(_groups)}", first_store(lost_after))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if is_cuda else "gloo",
            store=store,
            rank=place.rank,
            world_size=place.size,
            timeout=timedelta(seconds=lost_after),
        )
        return Group(place, store, lost_after)
    except RuntimeError as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise LostError(
            f"the {place.size} processes of the run do not find each other at {where} ({_first_sentence(error)}). If "
            f"all have started, another program may use this port: set another MASTER_PORT"
        ) from None
