"""Work on a GPU that is recorded once and then launched as a whole (CUDA graphs).

Kernels of small networks run for microseconds, and launching each from Python takes longer than that. A recording
repeats the same kernels on the same memory: what it reads and writes must stay where it is, and Python between the
kernels ran once and for all.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor

from mappo.errors import UserError

WARM_UP = 2  # calls before the recording: libraries choose kernels, and allocate what they keep


def supports_cuda_graphs(device: torch.device) -> bool:
    """Whether work on a device can be recorded."""
    return device.type == "cuda"


class GraphedFunction:
    """Calls a function, and from its third call on launches what was recorded of it.

    Args:
        function: launches the same kernels at each call and waits for none; draws only from `generators`. Between
            calls its tensors stay where they are (see `StaticTensors`), its inputs apart.
    """

    def __init__(self, function: Callable[..., Any], generators: Sequence[torch.Generator] = ()) -> None:
        self._function, self._generators = function, list(generators)
        self._calls, self._graph = 0, None
        self._inputs: list[Tensor] = []

    def __call__(self, *inputs: Tensor) -> Any:
        """What the function answers to tensors, always of the same shapes; the next call may overwrite it."""
        if self._graph is None and self._calls < WARM_UP:
            self._calls += 1
            return on_side_stream(lambda: self._function(*inputs))
        if self._graph is None:
            self._inputs = [x.clone() for x in inputs]
            self._graph, self._answer = capture(lambda: self._function(*self._inputs), self._generators)
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._graph.replay()
        return self._answer


class GraphedUpdate:
    """Updates, recorded as long as they are of one and the same preallocated rollout.

    Args:
        device: where they run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._rollout, self._recorded = device, cast(object, None), cast("GraphedFunction | None", None)
        self._places: list[int] = []

    def __call__(
        self, rollout: object, update: Callable[..., Any], inputs: Sequence[Tensor], allowed: bool = True
    ) -> Any:
        """`update(rollout, *inputs)`; as it is written where the device has no recordings, or they are not allowed."""
        if not allowed or not supports_cuda_graphs(self._device):
            return update(rollout, *inputs)
        places = addresses(rollout)
        if self._recorded is None or self._rollout is not rollout or self._places != places:
            self._rollout, self._places, self._recorded = rollout, places, GraphedFunction(partial(update, rollout))
        return self._recorded(*inputs)


def addresses(owner: object) -> list[int]:
    """Where the tensors of an object lie: a recording reads and writes no others."""
    return [x.data_ptr() for x in vars(owner).values() if isinstance(x, Tensor)]


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """One for all: for each stream that multiplies matrices CUDA keeps 32 MiB."""
    return torch.cuda.Stream(device)


def on_side_stream(function: Callable[[], Any]) -> Any:
    """Runs a function on another stream: what autograd keeps of the stream must not be the default one."""
    stream = _side_stream(torch.cuda.current_device())
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        answer = function()
    torch.cuda.current_stream().wait_stream(stream)
    return answer


def capture(function: Callable[[], Any], generators: Sequence[torch.Generator]) -> tuple[Any, Any]:
    """A recording of a function, which does not run, and what it answers once the recording is replayed.

    Raises:
        UserError: it waits for the device, or copies something from the host.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        cast(Any, graph).register_generator_state(generator)
    gc.collect()  # earlier recordings, which hold memory, stand in circles with what they record
    stream = torch.cuda.current_stream()
    _free_cublas_workspaces()
    try:
        with torch.cuda.graph(graph):
            answer = function()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        torch.cuda.set_stream(stream)  # a recording that fails leaves its own behind
        cause = error.__context__ or error  # the end of a recording fails as well, over what broke it
        raise UserError(
            f"what this run does on the GPU cannot be recorded ({str(cause).splitlines()[0]}): an encoder, a "
            f"critic_input function or an environment of yours asks the device something; start anew, "
            f"with --run.no-graphs"
        ) from error
    finally:
        _free_cublas_workspaces()
    return graph, answer


def _free_cublas_workspaces() -> None:
    """What products scratch in is kept for a stream, and all recordings are made on one: each is to have its own, which
    no other takes along when it is deleted (pytorch issue 193402).
    """
    cast(Any, torch._C)._cuda_clearCublasWorkspaces()  # pyright: ignore[reportPrivateUsage]


class StaticTensors:
    """Tensors that a recorded function reads and leaves behind, kept in one place whoever replaces them.

    Args:
        owners: dicts or lists of tensors, of other such, or of objects of one of the `kinds`, whose attributes count.
    """

    def __init__(self, owners: Sequence[Any], kinds: tuple[type, ...] = ()) -> None:
        self._owners, self._kinds = list(owners), kinds
        self._kept: dict[tuple[Any, ...], Tensor] = {}

    def sync(self) -> None:
        """Copies what stands elsewhere to where it is kept, and puts that in its place."""
        moved: list[tuple[Tensor, Tensor]] = []
        for holder, key, path in list(self._tensors(self._owners, ())):
            now = holder[key]
            if path not in self._kept:
                self._kept[path] = now.clone()  # one owner may hold a tensor by two names, and part them later
            elif now is not self._kept[path]:
                moved.append((self._kept[path], now.clone()))  # it may be a view of what is written below
            holder[key] = self._kept[path]
        for kept, now in moved:
            kept.copy_(now)

    def _tensors(self, holder: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, Any, tuple[Any, ...]]]:
        items = cast(dict[Any, Any], holder).items() if isinstance(holder, dict) else enumerate(holder)
        for key, x in items:
            if isinstance(x, Tensor):
                yield holder, key, (*path, key)
            elif isinstance(x, (dict, list)):
                yield from self._tensors(x, (*path, key))
            elif isinstance(x, self._kinds):
                yield from self._tensors(vars(x), (*path, key))
