"""Base class of mpe2's particle worlds: every episode begins at the same step and ends at the time limit.

The end of an episode is therefore known without waiting for the device. `spread`, `reference` and `speaker_listener`
build on `Particles`, on the baselines' steering and on the constants below.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mappo.core.seeding import expand_seeds
from mappo.core.spec import Spec
from mappo.core.timestep import TimeStep
from mappo.envs.batched.base import BatchedEnv, move_along_larger_axis, time_step_of_team

DT = 0.1
DAMPING = 0.25
SENSITIVITY = 5.0
MOVES = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))  # stay, left, right, down, up


class Particles(BatchedEnv):
    """E environments on CPU or GPU, without state, masks or deaths: an `Environment` and `Resumable`.

    A subclass sets its `name` and the `names` of its state tensors, and allocates each as attribute `_NAME`. Hooks
    sample the start of an episode from seeds (`_sample_from_seeds`) or from the generator (`_sample_state`), move the
    particles (`_advance`), and compute observations (`_observe`) and rewards (`_reward`). Tensors without a sampled
    value start at 0.

    Args:
        num_envs: E.
        horizon: steps of an episode, which is then truncated, never terminated.
        spec: agents, spaces and rewards.
        device: device of all tensors.
        dtype: float64 follows mpe2 to rounding; float32 is for training.

    Raises:
        UserError: `num_envs` or `horizon` is less than 1.
    """

    names: tuple[str, ...]
    phase = 0  # the step of all episodes; it decides if the next step ends them. See `Graphable`.
    _place: Tensor  # (E, P, 2): positions of agents, then of landmarks

    def __init__(self, num_envs: int, horizon: int, spec: Spec, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(num_envs, horizon, spec, device)
        self.dtype = dtype
        self._moves = torch.tensor(MOVES, device=self.device, dtype=dtype) * SENSITIVITY
        self._trail: list[np.ndarray] = []

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
        """Step all environments by actions `(E, A, 1)`.

        Raises:
            ValueError: the actions have another shape.
        """
        shape = (*self._everyone.shape, 1)
        if action.shape != shape:
            raise ValueError(f"{self.name}: actions must be {shape}, got {tuple(action.shape)}")
        self._write(self._advance(action.squeeze(-1)))
        self.phase += 1
        next_obs = obs = self._observe()
        reward = self._reward()
        ended = self.phase >= self.horizon
        if ended:
            self._begin_episodes(self._sample_state())
            obs = self._observe()
        return self._time_step(obs, next_obs, reward, ended)

    def state_tensors(self) -> dict[str, Tensor]:
        return {**{name: getattr(self, f"_{name}") for name in self.names}, "clock": torch.tensor(self.phase)}

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self.phase = int(state["clock"])

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
    def _advance(self, action: Tensor) -> dict[str, Tensor]:
        """Return the new values of the tensors moved by actions `(E, A)`, by attribute name."""

    @abstractmethod
    def _reward(self) -> Tensor:
        """Return the rewards `(E, A)` of the present positions; `_observe` runs before."""

    @abstractmethod
    def _observe(self) -> Tensor:
        """Return the observations: float32 `(E, A, O)`."""

    def _write(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite tensors in place: a CUDA graph reads and writes them at fixed addresses."""
        for name, x in tensors.items():
            getattr(self, f"_{name}").copy_(x)

    def _begin_episodes(self, sampled: dict[str, Tensor]) -> None:
        self._write(sampled)
        for name in self.names:
            if name not in sampled:
                getattr(self, f"_{name}").zero_()
        self.phase = 0

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(self.num_envs, *shape, device=self.device, dtype=self.dtype)

    def _uniform(self, *shape: int) -> Tensor:
        """Sample uniformly from [-1, 1): `(E, *shape)`."""
        return self._rand(*shape, dtype=self.dtype) * 2 - 1

    def _to_tensor(self, arrays: Any) -> Tensor:
        """Stack one array per environment into a tensor on the device."""
        return torch.as_tensor(np.stack(arrays)).to(self.device, self.dtype)

    def _positions(self, index: int) -> np.ndarray:
        """Return the positions in environment `index`, for pictures: float64 `(P, 2)`."""
        return self._place[index].cpu().numpy().astype(np.float64)

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
            ended=(self._everyone if ended else self._nobody)[:, 0],
            is_first=self._everyone if self.phase == 0 else self._nobody,
        )


def steer(error: Tensor, deadband: float) -> Tensor:
    """Return the move along the larger entry of `error`, or 0 (stay) if the entry is under `deadband`.

    Args:
        error: way to the target less a multiple of the velocity, `(*B, 2)`.
        deadband: distance below which an agent stays.

    Returns:
        Moves `(*B)`, indices of `MOVES`.
    """
    return torch.where(error.abs().amax(-1) < deadband, 0, move_along_larger_axis(error))


def walk_to_named_landmark(velocity: Tensor, ways: Tensor, message: Tensor) -> Tensor:
    """Return the moves of listeners in a language where word i names landmark i.

    Observations list the landmarks in one order and with the same colours, so that an index names a landmark. Before
    the first message, at the first step of an episode, the listener walks to the middle of the landmarks. It moves
    along the larger entry of `target - position - 0.2 * velocity`, or stays if the entry is under 0.03.

    Args:
        velocity: `(*B, 2)`.
        ways: ways to the landmarks, `(*B, L, 2)`.
        message: one-hot word of the last step, zeros before the first, `(*B, W)` with W >= L.

    Returns:
        Moves `(*B)`, indices of `MOVES`.
    """
    num_landmarks = ways.shape[-2]
    weight = torch.where(message.any(-1, keepdim=True), message[..., :num_landmarks], 1 / num_landmarks)
    return steer((weight.unsqueeze(-1) * ways).sum(-2) - 0.2 * velocity, 0.03)
