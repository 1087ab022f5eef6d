"""The contracts that environments, agents and players keep, as protocols."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mappo.config import Config
from mappo.core.spec import Spec
from mappo.core.timestep import TimeStep


@runtime_checkable
class Environment(Protocol):
    """`num_envs` copies stepped side by side, each reset by itself when its episode is over."""

    spec: Spec
    num_envs: int
    device: torch.device

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Starts all episodes anew: from seeds, one for each environment; an int s stands for s, s + 1, ..."""
        ...

    def step(self, action: Tensor) -> TimeStep:
        """Actions `(E, A, D)`: int64, or float32 where any head is continuous, that in the units of its bounds.

        Choices count from 0, and what inactive agents send is ignored.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class SplitEnvironment(Protocol):
    """An environment whose parts are stepped in turn: one is at work while the learner answers the other."""

    slices: tuple[slice, ...]  # which environments, in order; the same for any number of workers

    def send(self, index: int, action: Tensor) -> None:
        """Begins a step of one part, by its actions `(e, A, D)`."""
        ...

    def receive(self, index: int) -> TimeStep:
        """What that step brought; parts are asked in the order in which they were sent."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """An environment whose state can be saved and set again, for an exact resume."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> TimeStep:
        """Where the environments are then, as after a reset."""
        ...


@runtime_checkable
class SeedSharded(Protocol):
    """An environment shared by several seeds, in equal slices, each of which is saved and loaded by itself."""

    def seed_env(self, seed: int) -> object:
        """Return the environments of seed number `seed`, counted from 0; `Resumable` where they can be saved."""
        ...


@runtime_checkable
class Composite(Protocol):
    """An environment joined from several."""

    joined_envs: list[Environment]


@runtime_checkable
class Graphable(Protocol):
    """An environment whose steps a GPU can record: all that changes is tensors, dicts of tensors, and the phase.

    From one phase `step` launches the same kernels whatever the tensors hold, waits for none of them, copies nothing
    from the host, and draws only from its generators.
    """

    phase: int
    generators: list[torch.Generator]


@runtime_checkable
class Renderable(Environment, Protocol):
    """An environment that can draw itself, for replays."""

    def render(self, index: int) -> Any:
        """A picture of environment `index`, uint8 `(H, W, 3)`."""
        ...


class Agent(Protocol):
    """A learner as a collector sees it: one policy, or those of several seeds."""

    spec: Spec
    config: Config
    device: torch.device

    def act(
        self, step: TimeStep, memory: Tensor | None = None, *, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Sample actions `(E, A, D)`; return them, their log-probabilities `(E, A)` and the memory `(E, A, H)`."""
        ...

    def new_memory(self, num_envs: int) -> tuple[Tensor | None, Tensor | None]:
        """Return the zero memories of actors and critic, each None for networks without memory."""
        ...

    def env_action(self, action: Tensor) -> Tensor:
        """Return the actions within the bounds of the action space, as the environment takes them."""
        ...


class TeamPolicy(Protocol):
    """Anything that acts for a team: actors, baselines, a user's function."""

    def __call__(
        self,
        obs: Tensor,
        memory: Any = None,
        *,
        mask: Tensor | None = None,
        is_first: Tensor | None = None,
        active: Tensor | None = None,
    ) -> tuple[Tensor, Any]: ...
