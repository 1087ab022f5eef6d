"""CUDA graphs: GPU work is captured once, and then launched as a whole.

Kernels of small networks run for microseconds, and a launch from Python takes longer. A graph repeats the same kernels
on the same memory: its inputs and outputs must stay at fixed addresses, and Python code between the kernels ran at
capture only. Nothing in this file runs on a CPU.
"""

import gc
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from mappo.errors import UserError

WARM_UP = 2  # calls before the capture: libraries choose kernels and allocate workspaces


def supports_cuda_graphs(device: torch.device) -> bool:
    """Return whether work on a device can be captured."""
    return device.type == "cuda"


class Graphed:
    """Calls functions, and from the third call with the same key on replays a captured graph.

    Args:
        generators: all sources of random numbers in the functions.
        max_graphs: graphs kept. With 1 a new key replaces the old graph; with more, further keys are called plainly.
    """

    def __init__(self, generators: Sequence[torch.Generator] = (), max_graphs: int = 1) -> None:
        self._generators = list(generators)
        self._max_graphs = max_graphs
        self._graphs: dict[Hashable, _Graph] = {}

    def __call__(self, function: Callable[..., Any], key: Hashable, *inputs: Tensor) -> Any:
        """Return `function(*inputs)`.

        Args:
            function: launches the same kernels at every call with this key, waits for none of them, and leaves its
                tensors at fixed addresses.
            key: the dependencies of the kernels, such as the addresses of tensors read and written.
            inputs: tensors of fixed shapes, at any address; they are copied.

        Returns:
            The output of the function; the next call may overwrite it.
        """
        if key not in self._graphs:
            if len(self._graphs) == self._max_graphs > 1:
                return function(*inputs)
            if self._max_graphs == 1:
                self._graphs.clear()
            self._graphs[key] = _Graph(self._generators)
        return self._graphs[key](function, *inputs)


class _Graph:
    """A captured function: warm-up calls, the capture, then replays."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self._generators = generators
        self._num_calls = 0
        self._graph: Any = None
        self._inputs: list[Tensor] = []

    def __call__(self, function: Callable[..., Any], *inputs: Tensor) -> Any:
        if self._graph is None and self._num_calls < WARM_UP:
            self._num_calls += 1
            return on_side_stream(lambda: function(*inputs))
        if self._graph is None:
            self._inputs = [x.clone() for x in inputs]
            self._graph, self._output = capture(lambda: function(*self._inputs), self._generators)
        for static, x in zip(self._inputs, inputs, strict=True):
            static.copy_(x)
        self._graph.replay()
        return self._output


def addresses(owner: object) -> tuple[int, ...]:
    """Return the addresses of an object's tensors: a graph reads and writes no other tensors."""
    return tuple(x.data_ptr() for x in vars(owner).values() if isinstance(x, Tensor))


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """Return a common stream for all warm-ups: CUDA keeps 32 MiB for each stream with matrix products."""
    return torch.cuda.Stream(device)


def on_side_stream(function: Callable[[], Any]) -> Any:
    """Run on a side stream, as warm-up for capture requires: autograd remembers the stream."""
    stream = _side_stream(torch.cuda.current_device())
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        output = function()
    torch.cuda.current_stream().wait_stream(stream)
    return output


def capture(function: Callable[[], Any], generators: Sequence[torch.Generator]) -> tuple[Any, Any]:
    """Capture a function without running it.

    Returns:
        The graph, and the function's output as each replay leaves it.

    Raises:
        UserError: the function waits for the device, or copies from the host.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        cast(Any, graph).register_generator_state(generator)
    gc.collect()  # earlier graphs, which hold memory, form reference cycles with the objects they captured
    stream = torch.cuda.current_stream()
    _free_cublas_workspaces()
    try:
        with torch.cuda.graph(graph):
            output = function()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        torch.cuda.set_stream(stream)  # a failed capture leaves its own stream behind
        cause = error.__context__ or error  # the end of the capture fails as well, after the first failure
        raise UserError(
            f"the GPU work of this run cannot be captured as a CUDA graph ({str(cause).splitlines()[0]}): an encoder, "
            f"a critic_input function or an environment of your own waits for the device. Start again with "
            f"--run.no-graphs"
        ) from error
    finally:
        _free_cublas_workspaces()
    return graph, output


def _free_cublas_workspaces() -> None:
    """Free cuBLAS workspaces around a capture, so that no two graphs share a workspace (pytorch#193402)."""
    cast(Any, torch._C)._cuda_clearCublasWorkspaces()  # pyright: ignore[reportPrivateUsage]
