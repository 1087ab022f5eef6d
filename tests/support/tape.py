"""A stand-in for CUDA graphs on the CPU: operators are taped, and played back on the same memory without any Python.

What a graph could not hold shows here as well: a wait for the device is refused, and whatever Python would decide
anew, or whatever tensor it would put in another's place, is missed by the playback.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from mappo.backend import cuda_graphs as graphs

WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique", "lift_fresh")


class Tape(TorchDispatchMode):
    """Runs what it tapes; the first `replay` does nothing, for that has been done."""

    def __init__(self) -> None:
        super().__init__()
        self.taped: list[tuple[Any, Any, Any, Any]] = []
        self.played = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITS:
            raise AssertionError(f"{name} waits for the device, or reads from the host: no graph can hold it")
        answer = func(*args, **(kwargs or {}))
        self.taped.append((func, args, kwargs or {}, answer))
        return answer

    @torch.no_grad()
    def replay(self) -> None:
        """All operators once more: on what the outside now holds, and on what the ones before them answered."""
        self.played += 1
        if self.played == 1:
            return
        answers = dict[int, Tensor]()

        def now(x: Any) -> Any:
            return answers.get(id(x), x)

        for func, args, kwargs, before in self.taped:
            after = func(*tree_map(now, args), **tree_map(now, kwargs))
            for old, new in zip(tree_leaves(before), tree_leaves(after), strict=True):
                if isinstance(old, Tensor):
                    answers[id(old)] = new
        for old, new in [(x, answers[id(x)]) for x in tree_leaves(self.answer) if id(x) in answers]:
            old.copy_(new)  # what a recording answers stays in one place


def record(function: Callable[[], Any], generators: Sequence[torch.Generator]) -> tuple[Tape, Any]:
    """As `cuda_graphs.capture`: random numbers come from registered generators, or must not be drawn."""
    with Tape() as tape:
        tape.answer = function()
    leaves = [x for _, args, kwargs, _ in tape.taped for x in tree_leaves((args, kwargs))]
    used = {x._cdata for x in leaves if isinstance(x, torch.Generator)}  # operators see another wrapper of the same
    assert used <= {cast(Any, g)._cdata for g in generators}, "a generator is not registered"
    return tape, tape.answer


def pretend(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """From here on the CPU records, by tapes; these."""
    tapes: list[Tape] = []

    def kept(function: Callable[[], Any], generators: Sequence[torch.Generator]) -> tuple[Tape, Any]:
        tape, answer = record(function, generators)
        tapes.append(tape)
        return tape, answer

    monkeypatch.setattr("mappo.algorithms.mappo.supports_cuda_graphs", lambda _device: True)
    monkeypatch.setattr(graphs, "capture", kept)
    monkeypatch.setattr(graphs, "on_side_stream", lambda function: function())
    return tapes
