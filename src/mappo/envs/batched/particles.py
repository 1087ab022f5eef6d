"""What mpe2's games batched in torch share: particles that all begin and end together, at a time limit.

Whether an episode is over is thus known without asking the device.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mappo.core.spec import Spec
from mappo.core.timestep import TimeStep
from mappo.envs.batched.base import BatchedEnv
from mappo.errors import UserError

DT, DAMPING, SENSITIVITY = 0.1, 0.25, 5.0
MOVES = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))  # stay, left, right, down, up


class Particles(BatchedEnv):
    """`num_envs` games at once, on CPU or GPU, without state, masks or deaths: an `Environment` and `Resumable`.

    A game says what it is called (`name`) and which of its tensors `_x` make its state (`names`), how it is drawn
    from seeds (`_sample_from_seeds`) and from the device's generator (`_sample_state`), how an episode begins otherwise
    (`_reset_state`), what actions do and bring (`_advance`), and what is seen (`_observe`).

    Args:
        horizon: steps of an episode, which then is truncated, never terminated.
        dtype: float64 follows mpe2 to rounding; float32 is for training.

    Raises:
        UserError: there is no environment, agent or step.
    """

    name: str
    names: tuple[str, ...]

    def __init__(self, num_envs: int, horizon: int, spec: Spec, device: torch.device | str, dtype: torch.dtype) -> None:
        if num_envs < 1 or horizon < 1:
            raise UserError(f"{self.name} needs at least one environment and step: {num_envs}, {horizon}")
        super().__init__(num_envs, device)
        self.horizon, self.spec, self.dtype = horizon, spec, dtype
        self._moves = torch.tensor(MOVES, device=self.device, dtype=dtype) * SENSITIVITY
        self._everyone = torch.ones(num_envs, spec.num_agents, dtype=torch.bool, device=self.device)
        self._clock = 0

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """All at random; a seed gives the same game as mpe2's `reset(seed=...)`.

        Raises:
            ValueError: there are not as many seeds as environments.
        """
        if seed is None:
            self._sample_state()
        else:
            seeds = range(seed, seed + self.num_envs) if isinstance(seed, int) else seed
            if len(seeds) != self.num_envs:
                raise ValueError(f"{self.name}: {len(seeds)} seeds for {self.num_envs} environments")
            self._sample_from_seeds([np.random.default_rng(s) for s in seeds])
            self._seed_generators(seeds)
        self._begin_episodes()
        return self.current_step()

    def step(self, action: Tensor) -> TimeStep:
        """One step of each game; actions `(E, A, 1)`.

        Raises:
            ValueError: they have another shape.
        """
        shape = (*self._everyone.shape, 1)
        if action.shape != shape:
            raise ValueError(f"{self.name}: actions must be {shape}, got {tuple(action.shape)}")
        self._advance(action.squeeze(-1))
        self._clock += 1
        next_obs = obs = self._observe()
        reward = self._reward()
        ended = self._clock >= self.horizon
        if ended:
            self._sample_state()
            self._begin_episodes()
            obs = self._observe()
        return self._time_step(obs, next_obs, reward, ended)

    def close(self) -> None:
        pass

    @property
    def phase(self) -> int:
        """The step that all episodes are at: whether they end with the next one; see `Graphable`."""
        return self._clock

    @phase.setter
    def phase(self, clock: int) -> None:
        self._clock = clock

    def state_tensors(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {name: getattr(self, f"_{name}") for name in self.names}
        return state | {"clock": torch.tensor(self._clock)}

    def restore(self, state: dict[str, Tensor]) -> None:
        for name in self.names:
            setattr(self, f"_{name}", state[name])
        self._clock = int(state["clock"])

    def _sample_from_seeds(self, generators: list[np.random.Generator]) -> None:
        """Draws each game as mpe2 does."""
        raise NotImplementedError

    def _sample_state(self) -> None:
        """Draws all games from the device's generator."""
        raise NotImplementedError

    def _reset_state(self) -> None:
        """An episode begins: what is not drawn."""
        raise NotImplementedError

    def _advance(self, action: Tensor) -> None:
        """Moves everything by actions `(E, A)`."""
        raise NotImplementedError

    def _reward(self) -> Tensor:
        """`(E, A)`, of where the particles are, once `_observe` has looked."""
        raise NotImplementedError

    def _observe(self) -> Tensor:
        """What each agent sees: float32 `(E, A, O)`."""
        raise NotImplementedError

    def _begin_episodes(self) -> None:
        self._reset_state()
        self._clock = 0

    def current_step(self) -> TimeStep:
        obs = self._observe()
        return self._time_step(obs, obs, torch.zeros_like(self._everyone, dtype=self.dtype), ended=False)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(self.num_envs, *shape, device=self.device, dtype=self.dtype)

    def _uniform(self, *shape: int) -> Tensor:
        """From -1 to 1, `(E, *shape)`."""
        return self._rand(*shape, dtype=self.dtype) * 2 - 1

    def _placed(self, places: Any) -> Tensor:
        """An array of each game, on the device."""
        return torch.as_tensor(np.stack(places)).to(self.device, self.dtype)

    def _time_step(self, obs: Tensor, next_obs: Tensor, reward: Tensor, ended: bool) -> TimeStep:
        everyone, nobody = self._everyone, ~self._everyone
        return TimeStep(
            obs=obs,
            state=None,
            mask=None,
            active=everyone,
            is_first=everyone if self._clock == 0 else nobody,
            reward=reward,
            terminated=nobody,
            ended=(everyone if ended else nobody)[:, 0],
            next_obs=next_obs,
            next_state=None,
            next_active=everyone,
        )
