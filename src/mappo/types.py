"""The contract between environments and learners, on one screen.

Letters: `T` steps, `E` environments, `A` agents, `D` action heads, `S` state size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from gymnasium import spaces
from torch import Tensor


@dataclass(frozen=True)
class ActionHeads:
    """One agent's action: a choice for each categorical head, then a number for each continuous one."""

    categorical: tuple[int, ...] = ()
    continuous: int = 0


@dataclass(frozen=True)
class Spec:
    """All that a network needs to know of an environment. Tuples are in the order of the agents."""

    agents: tuple[str, ...]
    obs_spaces: tuple[spaces.Space[Any], ...]
    action_heads: tuple[ActionHeads, ...]
    groups: tuple[int, ...]  # agents of one group may share parameters
    state_shape: tuple[int, ...] | None = None  # None: the environment has no state of its own
    shared_reward: bool = False  # every agent gets the same number, which is then the team's

    @property
    def num_agents(self) -> int:
        return len(self.agents)

    def team_reward(self, reward: Tensor) -> Tensor:
        """The team's reward `(*B)` of its agents' `(*B, A)`: their sum, or the number that all of them share."""
        return reward[..., 0] if self.shared_reward else reward.sum(-1)


@dataclass
class TimeStep:
    """Where the environments are, and what the last action brought.

    Now, after any reset: `obs`, `state`, `mask`, `active`, `is_first`.
    Of the last action: `reward`, `terminated`, `ended`, `next_obs`, `next_state`, `next_active`.
    A truncation (time limit) is `ended & ~terminated`: the value of `next_obs` still counts.
    After `reset`, reward is 0, both flags are False and `next_*` repeat the present.
    """

    obs: Tensor  # (E, A, *shape), in the environment's own dtype
    state: Tensor | None  # (E, *S)
    mask: Tensor | None  # (E, A, sum of heads), True where legal
    active: Tensor  # (E, A) bool: the agent acts on this row
    is_first: Tensor  # (E, A) bool: a life begins here, memory starts at zero
    reward: Tensor  # (E, A)
    terminated: Tensor  # (E, A) bool: this life ended and nothing follows; all True: the episode ended by itself
    ended: Tensor  # (E,) bool: the episode is over and was reset
    next_obs: Tensor  # (E, A, *shape): what the action reached, before any reset
    next_state: Tensor | None  # (E, *S)
    next_active: Tensor  # (E, A) bool: who was there, before any reset


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
        """Actions `(E, A, D)`, int64; what inactive agents send is ignored."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Resumable(Protocol):
    """An environment whose state can be saved and set again, for an exact resume."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> TimeStep:
        """Where the environments are then, as after a reset."""
        ...


@runtime_checkable
class Renderable(Environment, Protocol):
    """An environment that can draw itself, for replays."""

    def render(self, index: int) -> Any:
        """A picture of environment `index`, uint8 `(H, W, 3)`."""
        ...


@dataclass
class Rollout:
    """T steps of E environments; every tensor `(T, E, ...)`, fields as in `TimeStep`.

    `obs[t]` is what `action[t]` answers; `reward[t]`, the flags and `next_*[t]` are what it brought. What inactive
    agents observe is kept as it came, and read as 0. The next rollout overwrites it: copy what must stay.
    """

    obs: Tensor
    state: Tensor | None
    mask: Tensor | None
    active: Tensor
    is_first: Tensor
    action: Tensor  # (T, E, A, D)
    log_prob: Tensor  # (T, E, A)
    reward: Tensor
    terminated: Tensor
    ended: Tensor
    next_obs: Tensor
    next_state: Tensor | None
    next_active: Tensor
