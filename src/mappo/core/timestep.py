"""The contract between environments and learners, on one screen.

Letters: `T` steps, `E` environments, `A` agents, `O` observation size, `S` state size, `N` logits and `D` columns of
an action, `C` of them continuous, `H` width of a memory, `K` chunks of a rollout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


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

    def slice_envs(self, envs: slice) -> "TimeStep":
        """That of some of the environments alone: views."""
        return replace(self, **{name: x[envs] for name, x in vars(self).items() if x is not None})


def concat_steps(steps: Sequence[TimeStep]) -> TimeStep:
    """The environments of several, one behind the other."""
    if len(steps) == 1:
        return steps[0]
    fields = {name: [getattr(step, name) for step in steps] for name, x in vars(steps[0]).items() if x is not None}
    return replace(steps[0], **{name: torch.cat(xs) for name, xs in fields.items()})


@dataclass
class Rollout:
    """T steps of E environments; every tensor but the memories `(T, E, ...)`, fields as in `TimeStep`.

    `obs[t]` is what `action[t]` answers; `reward[t]`, the flags and `next_*[t]` are what it brought. What inactive
    agents observe is kept as it came, and read as 0. The next rollout overwrites it: copy what must stay.
    """

    obs: Tensor
    state: Tensor | None
    mask: Tensor | None
    active: Tensor
    is_first: Tensor
    action: Tensor  # (T, E, A, D), as `MAPPO.act` drew it
    log_prob: Tensor  # (T, E, A)
    reward: Tensor
    terminated: Tensor
    ended: Tensor
    next_obs: Tensor
    next_state: Tensor | None
    next_active: Tensor
    memory: Tensor | None = None  # (K, E, A, H): the actors', before the first step of each chunk
    critic_memory: Tensor | None = None  # (E, H) or (E, A, H): before the first step; `update` leaves the next one

    def slice_envs(self, envs: slice) -> "Rollout":
        """That of some of the environments alone: views."""
        there = {name: x for name, x in vars(self).items() if x is not None}
        return replace(self, **{name: x[envs] if name == "critic_memory" else x[:, envs] for name, x in there.items()})
