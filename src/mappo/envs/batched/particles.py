"""Base class of mpe2's particle worlds: every episode begins at the same step and ends at the time limit.

The end of an episode is therefore known without waiting for the device. `spread`, `reference` and `speaker_listener`
build on `Particles`, on `action_heads` and on the constants below.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mappo.core.seeding import expand_seeds
from mappo.core.spec import ActionHeads, Spec
from mappo.core.timestep import TimeStep
from mappo.envs.batched.base import BatchedEnv, time_step_of_team
from mappo.errors import UserError

DT = 0.1
DAMPING = 0.25
SENSITIVITY = 5.0
MOVES = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))  # stay, left, right, down, up


class Particles(BatchedEnv):
    """Batch of E particle worlds on CPU or GPU, an `Environment` and `Resumable`.

    There is no state for a critic, no mask and no death. A subclass sets its `name` and the `names` of its state
    tensors, each an attribute `_NAME`. Its hooks sample the start of an episode from seeds (`_sample_from_seeds`) or
    from the generator (`_sample_state`). Tensors without a sampled value start at 0. Further hooks move the particles
    (`_advance`) and compute rewards (`_reward`).

    The environments are the last axis of every tensor: a processor computes long rows fastest. All numbers of the
    particles are rows of one tensor, `(F, E)`. The tensors `_NAME` are views of it, `(*shape, E)`. Every entry of an
    observation is a difference of two rows, chosen by `_set_obs`.

    Actions are choices. With mpe2's `continuous_actions` they are numbers from 0 to 1: five for the move, then a number
    for each word. The first number of the move does nothing. The others push left, right, down and up. Numbers beyond
    the bounds are clipped, as in mpe2.

    Args:
        num_envs: E.
        horizon: steps of an episode, which is then truncated, never terminated.
        spec: agents, spaces and rewards.
        device: device of all tensors.
        dtype: float64 follows mpe2 to rounding; float32 is for training.
        layout: the tensors in rows, by name: the shape for one environment.

    Raises:
        UserError: `num_envs` or `horizon` is less than 1.
    """

    names: tuple[str, ...]
    phase = 0  # the step of all episodes; it decides if the next step ends them. See `Graphable`.
    _place: Tensor  # (P, 2, E): positions of agents, then of landmarks
    _velocity: Tensor  # (A, 2, E): of the agents that move, or (2, E) of a single agent
    _agents: Tensor  # their positions, a view of `_place`

    def __init__(
        self,
        num_envs: int,
        horizon: int,
        spec: Spec,
        device: torch.device | str,
        dtype: torch.dtype,
        layout: Mapping[str, tuple[int, ...]],
    ) -> None:
        super().__init__(num_envs, horizon, spec, device)
        self.dtype = dtype
        self._is_continuous = spec.continuous > 0
        self._moves = torch.tensor(MOVES, device=self.device, dtype=dtype) * (SENSITIVITY * DT)
        self._trail: list[np.ndarray] = []
        self._endings = (self._nobody[:, 0].clone(), self._everyone[:, 0].clone())
        num_rows = 1 + sum(map(math.prod, layout.values()))
        self._rows = torch.zeros(num_rows, num_envs, device=self.device, dtype=dtype)  # row 0 stays 0
        self._row: dict[str, Tensor] = {}  # numbers of the rows of each tensor, in its shape
        start = 1
        for name, shape in layout.items():
            stop = start + math.prod(shape)
            self._row[name] = torch.arange(start, stop).reshape(shape)
            setattr(self, f"_{name}", self._rows[start:stop].unflatten(0, shape))
            start = stop

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Reset all environments at random; a seed gives the same episode as mpe2's `reset(seed=...)`.

        Raises:
            ValueError: the number of seeds is not E.
        """
        if seed is None:
            self._begin_episodes(self._sample_state())
        else:
            seeds = expand_seeds(self.name, seed, self.num_envs)
            self._begin_episodes(self._sample_from_seeds([np.random.default_rng(s) for s in seeds]))
            self._seed_generators(seeds)
        return self.current_step()

    def step(self, action: Tensor) -> TimeStep:
        """Step all environments by actions `(E, A, D)`, D = 1 for choices.

        Raises:
            ValueError: the actions have another shape.
        """
        self._check_shape(action)
        self._advance(action.clamp(0, 1).permute(1, 2, 0) if self._is_continuous else action.squeeze(-1).t())
        self.phase += 1
        next_obs = obs = self._observe()
        reward = self._reward().t()
        ended = self.phase >= self.horizon
        if ended:
            self._begin_episodes(self._sample_state())
            obs = self._observe()
        return self._time_step(obs, next_obs, reward, ended)

    def state_tensors(self) -> dict[str, Tensor]:
        tensors = {name: cast(Tensor, getattr(self, f"_{name}")).movedim(-1, 0) for name in self.names}
        return tensors | {"clock": torch.tensor(self.phase)}

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self.phase = int(state["clock"])
        self._begin()

    def current_step(self) -> TimeStep:
        obs = self._observe()
        return self._time_step(obs, obs, torch.zeros_like(self._everyone, dtype=self.dtype), ended=False)

    @abstractmethod
    def _sample_from_seeds(self, generators: list[np.random.Generator]) -> dict[str, Tensor]:
        """Sample the start of each episode as mpe2 does, from one generator per environment."""

    @abstractmethod
    def _sample_state(self) -> dict[str, Tensor]:
        """Sample the start of all episodes from the device's generators."""

    @abstractmethod
    def _advance(self, action: Tensor) -> None:
        """Change the state by actions, in place: choices `(A, E)`, or numbers `(A, D, E)`."""

    @abstractmethod
    def _reward(self) -> Tensor:
        """Return the rewards of the present positions, `(A, E)`; `_observe` runs before."""

    def _begin(self) -> None:
        """Compute the tensors that stay for an episode; its first state is known."""

    def _set_obs(self, agents: Sequence[Sequence[tuple[Tensor, Tensor | None]]]) -> None:
        """Choose the observation of each agent: pairs of rows, and of rows to be subtracted from them, or None."""
        pairs = [pair for obs in agents for pair in obs]
        self._plus = torch.cat([x.flatten() for x, _ in pairs]).to(self.device)
        minus = [torch.zeros_like(x) if y is None else y.expand_as(x) for x, y in pairs]
        self._minus = torch.cat([y.flatten() for y in minus]).to(self.device)
        self._seen = torch.zeros(len(self._plus), self.num_envs, device=self.device, dtype=self.dtype)
        self._obs = self._seen.view(len(agents), -1, self.num_envs)

    def _observe(self) -> Tensor:
        """Return the observations, float32 `(E, A, O)`; `_obs` keeps them in the state's dtype, `(A, O, E)`."""
        torch.sub(self._rows.index_select(0, self._plus), self._rows.index_select(0, self._minus), out=self._seen)
        return self._obs.permute(2, 0, 1).clone(memory_format=torch.contiguous_format).float()

    def _drift(self) -> None:
        """Move agents by their velocity."""
        self._agents.add_(self._velocity, alpha=DT)

    def _push(self, move: Tensor) -> None:
        """Damp the velocity, then add the force of the moves.

        Args:
            move: choices `(A, E)`, or `(E,)` for a single mover; or numbers `(A, 5, E)`, or `(5, E)`.
        """
        if self._is_continuous:
            change = (move[..., 2:5:2, :] - move[..., 1:5:2, :]).to(self.dtype) * (SENSITIVITY * DT)
        else:
            change = functional.embedding(move, self._moves).mT
        torch.add(change, self._velocity, alpha=1 - DAMPING, out=self._velocity)

    def _write(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite tensors in place, `(E, *shape)`: a CUDA graph reads and writes them at fixed addresses."""
        for name, x in tensors.items():
            getattr(self, f"_{name}").copy_(x.movedim(0, -1))

    def _begin_episodes(self, sampled: dict[str, Tensor]) -> None:
        self._rows.zero_()
        self._write(sampled)
        self.phase = 0
        self._begin()

    def _uniform(self, *shape: int) -> Tensor:
        """Sample uniformly from [-1, 1): `(E, *shape)`."""
        return self._rand(*shape, dtype=self.dtype) * 2 - 1

    def _to_tensor(self, arrays: Any) -> Tensor:
        """Stack one array per environment into a tensor on the device."""
        return torch.as_tensor(np.stack(arrays)).to(self.device, self.dtype)

    def _positions(self, index: int) -> np.ndarray:
        """Return the positions in environment `index`, for pictures: float64 `(P, 2)`."""
        return self._place[..., index].cpu().numpy().astype(np.float64)

    def _extend_trail(self, positions: np.ndarray) -> list[np.ndarray]:
        """Return the positions in this episode's earlier pictures, and record those of the present picture."""
        if self.phase == 0:
            self._trail = []
        earlier = self._trail.copy()
        self._trail.append(positions)
        return earlier

    def _time_step(self, obs: Tensor, next_obs: Tensor, reward: Tensor, ended: bool) -> TimeStep:
        return time_step_of_team(
            self._everyone,
            obs=obs,
            next_obs=next_obs,
            reward=reward,
            terminated=self._nobody,
            ended=self._endings[ended],
            is_first=self._everyone if self.phase == 0 else self._nobody,
        )


def action_heads(size: int, continuous: bool) -> ActionHeads:
    """Return the heads of an agent's action: a choice of `size`, or `size` numbers from 0 to 1.

    Raises:
        UserError: `continuous` is of another type, such as the text "True".
    """
    if not isinstance(continuous, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"continuous_actions must be true or false, in lower case, got {continuous!r}")
    return ActionHeads(low=(0.0,) * size, high=(1.0,) * size) if continuous else ActionHeads((size,))
