"""The data between environments and learners: `TimeStep` and `Rollout`.

Letters: `T` steps, `E` environments, `A` agents, `O` observation size, `S` state size, `N` logits, `D` columns of an
action, `C` continuous columns, `H` memory size, `K` chunks of a rollout.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from mappo.core.tensor_struct import TensorStruct


@dataclass
class TimeStep(TensorStruct):
    """The present of E environments, and the outcome of the last action.

    The present, after any reset: `obs`, `state`, `mask`, `active`, `is_first`.
    The outcome of the last action: `reward`, `terminated`, `ended`, `next_obs`, `next_state`, `next_active`.
    A truncation (time limit) is `ended & ~terminated`: the value of `next_obs` still counts.
    After `reset`, the reward is 0, both flags are False and `next_*` repeat the present.
    """

    obs: Tensor  # (E, A, *shape), in the environment's own dtype
    state: Tensor | None  # (E, *S)
    mask: Tensor | None  # (E, A, sum of heads), True where legal
    active: Tensor  # (E, A) bool: the agent acts in this step
    is_first: Tensor  # (E, A) bool: a life begins here, memory starts at zero
    reward: Tensor  # (E, A)
    terminated: Tensor  # (E, A) bool: the life ended and nothing follows; True for all: the episode ended by itself
    ended: Tensor  # (E,) bool: the episode is over and was reset
    next_obs: Tensor  # (E, A, *shape): reached by the action, before any reset
    next_state: Tensor | None  # (E, *S)
    next_active: Tensor  # (E, A) bool: active before any reset

    def slice_envs(self, envs: slice) -> Self:
        """Return the step of some environments, as views."""
        return self.map(lambda x: x[envs])


OUTCOME_FIELDS = ("reward", "terminated", "ended", "next_obs", "next_state", "next_active")
PRESENT_FIELDS = tuple(field.name for field in fields(TimeStep) if field.name not in OUTCOME_FIELDS)


@dataclass
class Rollout(TimeStep):
    """T steps of E environments: the fields of `TimeStep` with a leading axis `(T, E, ...)`, and the actions.

    `action[t]` answers `obs[t]`; `reward[t]`, the flags and `next_*[t]` are its outcome. Observations of inactive
    agents are kept as they came, and read as 0. The next rollout overwrites the tensors: copy what must stay.
    """

    action: Tensor  # (T, E, A, D), as sampled by `MAPPO.act`
    log_prob: Tensor  # (T, E, A)
    memory: Tensor | None = None  # (K, E, A, H): the actors' memory before the first step of each chunk

    def slice_envs(self, envs: slice) -> Self:
        """Return the rollout of some environments, as views."""
        return self.map(lambda x: x[:, envs])


def concat_steps(steps: list[TimeStep]) -> TimeStep:
    """Concatenate the environments of several steps."""
    return steps[0] if len(steps) == 1 else TimeStep.join(steps, torch.cat)
