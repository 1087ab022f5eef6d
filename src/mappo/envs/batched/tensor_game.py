"""Base class of environments whose episodes end at different steps: all but mpe2's particle worlds.

The state is a dict of tensors, with a clock for each environment. No line waits for a GPU: `torch.where` replaces
episodes at their end, and every step samples new episodes for all environments, needed or not. A subclass may save
time on a CPU, and sample when episodes have ended (`_restart`).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.core.seeding import expand_seeds
from mappo.core.spec import ActionHeads, Spec
from mappo.core.timestep import TimeStep
from mappo.envs.batched.base import BatchedEnv
from mappo.functional.shapes import append_axes

Tensors = dict[str, Tensor]  # the whole state, each tensor (E, ...); "clock" counts the steps of the episode


class TensorGame(BatchedEnv):
    """Batch of E games on CPU or GPU, an `Environment` and `Resumable`.

    A subclass samples new episodes in `_begin_episodes`. Starts that a seed decides are in `_start_from_seeds`. An
    action takes effect in `_reward` and `_next_tensors`. The state is shown by `_obs`, and optionally by `_mask`,
    `_state`, `_active`, `_is_first`, `_over` and `_is_late`. All these hooks read the state from their argument
    `tensors`. They return new tensors and change none in place.

    An agent that leaves has terminated. An episode without active agents has ended by itself. After `horizon` steps an
    episode is truncated. An inactive agent receives 0 and observes NaN. The NaN exposes any code that reads it.

    Args:
        num_envs: E.
        spec: agents, spaces and rewards.
        horizon: steps of an episode before truncation.
        device: device of all tensors.

    Raises:
        UserError: `num_envs` or `horizon` is less than 1.
    """

    name = "a probe"
    phase = 0  # every step launches the same kernels; see `Graphable`

    def __init__(self, num_envs: int, spec: Spec, horizon: int, device: torch.device | str = "cpu") -> None:
        super().__init__(num_envs, horizon, spec, device)
        self._agents = torch.arange(spec.num_agents, device=self.device)
        # Cloned, because `restore` overwrites the state and a hook may return a constant.
        self._tensors = {name: x.clone() for name, x in self._start().items()}

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Reset all environments; their common stream of random numbers starts from the first seed.

        Raises:
            ValueError: the number of seeds is not E.
        """
        if seed is None:
            self.restore(self._start())
        else:
            seeds = expand_seeds(self.name, seed, self.num_envs)
            self._seed_generators(seeds)
            self.restore(self._start() | self._start_from_seeds(seeds))
        return self.current_step()

    def step(self, action: Tensor) -> TimeStep:
        """Step all environments by actions `(E, A, D)`.

        Raises:
            ValueError: the actions have another shape.
        """
        self._check_shape(action)
        tensors = self._tensors
        changed = {**self._next_tensors(tensors, action), "clock": tensors["clock"] + 1}
        # Unchanged tensors are cloned, because `next_*` show them after `restore` has overwritten the state.
        after = {name: changed[name] if name in changed else x.clone() for name, x in tensors.items()}
        reward = self._masked_reward(tensors, action, after)
        over = self._over(after)
        ended = over | self._is_late(after)
        terminated = (self._active(tensors) & ~self._active(after)) | over.unsqueeze(-1)
        now = self._restart(after, ended)
        self.restore(now)
        return self._time_step(now, after, reward, terminated, ended)

    def _restart(self, after: Tensors, ended: Tensor) -> Tensors:
        """Replace the episodes that have ended by new episodes; return `after` itself if none has."""
        start = self._start()
        return {name: torch.where(append_axes(ended, x.ndim), start[name], x) for name, x in after.items()}

    def state_tensors(self) -> Tensors:
        return self._tensors

    def current_step(self) -> TimeStep:
        now = {name: x.clone() for name, x in self._tensors.items()}
        return self._time_step(now, now, self._nobody.float(), self._nobody, self._nobody[:, 0])

    def _begin_episodes(self) -> Tensors:
        """Sample the start of an episode for every environment."""
        return {}

    def _start_from_seeds(self, seeds: Sequence[int]) -> Tensors:
        """Return the tensors of new episodes that depend on the seed of an environment alone; by default none."""
        return {}

    def _next_tensors(self, tensors: Tensors, action: Tensor) -> Tensors:
        """Return the tensors changed by the action; by default, a new sample of each."""
        return self._begin_episodes()

    def _masked_reward(self, tensors: Tensors, action: Tensor, after: Tensors) -> Tensor:
        """Return the rewards `(E, A)` of the step from `tensors` to `after`, 0 for inactive agents."""
        return torch.where(self._active(tensors), self._reward(tensors, action), 0.0)

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        """Return the reward of the action: `(E, A)`, ignored for inactive agents."""
        raise NotImplementedError

    @abstractmethod
    def _obs(self, tensors: Tensors) -> Tensor:
        """Return the observations `(E, A, *shape)`, in the padded layout."""

    def _state(self, tensors: Tensors) -> Tensor | None:
        """Return the state `(E, *S)`, or None for environments without a state."""
        return None

    def _mask(self, tensors: Tensors) -> Tensor | None:
        """Return the legal actions `(E, A, N)`, or None where all actions are legal."""
        return None

    def _active(self, tensors: Tensors) -> Tensor:
        """Return the active agents: bool `(E, A)`."""
        return self._everyone

    def _is_first(self, tensors: Tensors) -> Tensor:
        """Return the agents that begin a life at this step, among the active ones: bool `(E, A)`."""
        return (tensors["clock"] == 0).unsqueeze(-1).expand(-1, self.spec.num_agents)

    def _over(self, tensors: Tensors) -> Tensor:
        """Return the episodes that have ended by themselves: bool `(E,)`."""
        return ~self._active(tensors).any(-1)

    def _is_late(self, after: Tensors) -> Tensor:
        """Return the episodes that the time limit ends: bool `(E,)`."""
        return after["clock"] >= self.horizon

    def _start(self) -> Tensors:
        return {**self._begin_episodes(), "clock": torch.zeros(self.num_envs, dtype=torch.long, device=self.device)}

    def _time_step(self, now: Tensors, reached: Tensors, reward: Tensor, terminated: Tensor, ended: Tensor) -> TimeStep:
        """Return the time step of the present state `now` and of the state `reached` before any reset."""
        active = self._active(now)
        next_active = self._active(reached)
        obs = self._observe(now, active)
        return TimeStep(
            obs=obs,
            state=self._state(now),
            mask=self._mask(now),
            active=active,
            is_first=active & self._is_first(now),
            reward=reward,
            terminated=terminated,
            ended=ended,
            next_obs=obs if now is reached else self._observe(reached, next_active),
            next_state=self._state(reached),
            next_active=next_active,
        )

    def _observe(self, tensors: Tensors, active: Tensor) -> Tensor:
        """Return the observations `(E, A, *shape)`, NaN for inactive agents."""
        obs = self._obs(tensors)
        # Bytes have no NaN; all agents of image probes are active.
        is_whole = active is self._everyone or not obs.is_floating_point()
        return obs if is_whole else torch.where(active.unsqueeze(-1), obs, torch.nan)

    def _ones(self, *shape: int) -> Tensor:
        return torch.ones(self.num_envs, *shape, device=self.device)


def spec_of(
    observes: Sequence[spaces.Space[Any] | int],
    action_heads: Sequence[ActionHeads],
    *,
    state_size: int | None = None,
    shared_reward: bool = False,
    groups: tuple[int, ...] = (),
) -> Spec:
    """Build the `Spec` of agents named `agent_0`, `agent_1`, ...

    Args:
        observes: observation space of each agent; an int stands for vectors of that size.
        action_heads: action of each agent.
        state_size: size of the state vector, or None for no state.
        shared_reward: True if all agents receive the team's reward.
        groups: parameter group of each agent; empty for the default of `Spec`.
    """
    return Spec(
        agents=tuple(f"agent_{i}" for i in range(len(observes))),
        obs_spaces=tuple(spaces.Box(-1, 1, (o,), np.float32) if isinstance(o, int) else o for o in observes),
        action_heads=tuple(action_heads),
        groups=groups,
        state_shape=None if state_size is None else (state_size,),
        shared_reward=shared_reward,
    )


def one_hot(index: Tensor, size: int) -> Tensor:
    """Return float32 one-hot vectors: `(*B)` -> `(*B, size)`. Unlike torch's own, this does not wait for the device."""
    return (index.unsqueeze(-1) == torch.arange(size, device=index.device)).float()


def mean_for_all(reward: Tensor) -> Tensor:
    """Replace the rewards of all agents by their mean: `(E, A)` -> `(E, A)`."""
    return reward.float().mean(-1, keepdim=True).expand_as(reward)
