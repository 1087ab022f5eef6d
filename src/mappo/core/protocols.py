"""Protocols between rooms: environments, their abilities, learners and policies."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mappo.config import Config
from mappo.core.spec import Spec
from mappo.core.timestep import TimeStep


def provides(env: object, *names: str) -> bool:
    """Return whether an object has attributes of its own class, or of its own, by these names.

    `isinstance` with a protocol asks the instance, and a `__getattr__` wrapper answers for the wrapped environment.
    """
    return all(hasattr(type(env), name) or name in vars(env) for name in names)


@runtime_checkable
class Environment(Protocol):
    """`num_envs` environments stepped side by side; each resets itself at the end of its episode."""

    spec: Spec
    num_envs: int
    device: torch.device

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Start all episodes anew.

        Args:
            seed: one seed for each environment; an int s stands for s, s + 1, ...; None for new episodes.
        """
        ...

    def step(self, action: Tensor) -> TimeStep:
        """Step all environments.

        Args:
            action: `(E, A, D)`, int64, or float32 where any head is continuous. Continuous columns are in the units of
                their bounds, choices count from 0, and the actions of inactive agents are ignored.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class SplitEnvironment(Protocol):
    """An environment with slices stepped in turn: the learner acts for a slice while another slice steps."""

    slices: tuple[slice, ...]  # the environments of each slice, in order; the same for any number of workers

    def send(self, index: int, action: Tensor) -> None:
        """Begin a step of a slice, with its actions `(e, A, D)`."""
        ...

    def receive(self, index: int) -> TimeStep:
        """Wait for the step of a slice. Slices are received in the order in which they were sent."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """An environment with episodes that can be saved and restored, for an exact resume."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> TimeStep:
        """Restore a state; return the present, as after a reset."""
        ...


@runtime_checkable
class SeedSharded(Protocol):
    """An environment shared by several seeds, in equal slices; each slice is saved and loaded by itself."""

    def seed_env(self, seed: int) -> object:
        """Return the environments of seed number `seed`, counted from 0; `Resumable` if they can be saved."""
        ...


@runtime_checkable
class Composite(Protocol):
    """An environment joined from several."""

    joined_envs: list[Environment]


@runtime_checkable
class Graphable(Protocol):
    """An environment with steps that can be captured as a CUDA graph.

    `step` changes tensors at fixed addresses, in place, and the phase; nothing else changes. The phase alone decides
    the kernels: the contents of tensors do not. `step` never waits for the device and copies nothing from the host.
    Its random numbers come from its generators alone.
    """

    phase: int
    generators: list[torch.Generator]


@runtime_checkable
class Renderable(Environment, Protocol):
    """An environment with pictures, for replays."""

    def render(self, index: int) -> Any:
        """Return a picture of environment `index`, uint8 `(H, W, 3)`."""
        ...


class Learner(Protocol):
    """The learner of a collector: a single policy, or the policies of several seeds."""

    spec: Spec
    config: Config
    device: torch.device
    static_shapes: bool

    def act(
        self, step: TimeStep, memory: Tensor | None = None, *, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Sample actions `(E, A, D)`; return them, their log-probabilities `(E, A)` and the memory `(E, A, H)`."""
        ...

    def new_memory(self, num_envs: int) -> Tensor | None:
        """Return the actors' memory at the start of episodes, zeros `(E, A, H)`; None for networks without a memory."""
        ...

    def env_action(self, action: Tensor) -> Tensor:
        """Convert actions for the environment: continuous columns within their bounds."""
        ...


class TeamPolicy(Protocol):
    """A policy of a team: an actor, a baseline, a user's function."""

    def __call__(
        self,
        obs: Tensor,
        memory: Any = None,
        *,
        mask: Tensor | None = None,
        is_first: Tensor | None = None,
        active: Tensor | None = None,
    ) -> tuple[Tensor, Any]: ...


@runtime_checkable
class Sampling(Protocol):
    """A policy with random numbers `(E, A, D)` for each step, all from its generator; None for torch's generator."""

    generator: torch.Generator | None
