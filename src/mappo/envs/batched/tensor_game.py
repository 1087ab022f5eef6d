"""What all probes share: `num_envs` games as tensors, each with its own clock, drawn anew when it is over.

Nothing here asks the device: what is over is replaced by `torch.where`, and a new episode is drawn for every
environment at each step, needed or not.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.core.spec import ActionHeads, Spec
from mappo.core.timestep import TimeStep
from mappo.envs.batched.base import BatchedEnv
from mappo.errors import UserError

Tensors = dict[str, Tensor]  # everything that a game remembers, each tensor (E, ...); "clock" is the step


class TensorGame(BatchedEnv):
    """A batched environment, CPU or GPU, that can be saved: an `Environment` and `Resumable`.

    A probe says what it draws (`_begin_episodes`), what an action brings (`_reward`, `_next_tensors`) and what of a
    game is seen (`_obs`, and where it has one `_mask`, `_state`, `_active`, `_is_first`, `_over`). Hooks change no
    tensor in place.

    Who is there and then is not has died: `terminated`. Where nobody is left, the episode has ended by itself, and
    after `horizon` steps it is truncated. An agent that is not there gets 0 and observes NaN: whoever reads that,
    shows it.
    """

    phase = 0  # every step is like any other; see `Graphable`

    def __init__(self, num_envs: int, spec: Spec, horizon: int, device: torch.device | str = "cpu") -> None:
        if num_envs < 1 or horizon < 1:
            raise UserError(f"a probe needs at least one environment and step: {num_envs}, {horizon}")
        super().__init__(num_envs, device)
        self.spec, self.horizon = spec, horizon
        self._agents = torch.arange(spec.num_agents, device=self.device)
        self._everyone = torch.ones(num_envs, spec.num_agents, dtype=torch.bool, device=self.device)
        self._tensors = self._start()

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """All games anew; they share one stream of random numbers, which starts from the first seed."""
        if seed is not None:
            self._seed_generators(range(seed, seed + self.num_envs) if isinstance(seed, int) else seed)
        self._tensors = self._start()
        return self.current_step()

    def step(self, action: Tensor) -> TimeStep:
        game = self._tensors
        after = {**game, **self._next_tensors(game, action), "clock": game["clock"] + 1}
        there = self._active(game)
        reward = torch.where(there, self._reward(game, action), 0.0)
        over = self._over(after)
        ended = over | (after["clock"] >= self.horizon)
        start = self._start()
        self._tensors = {k: torch.where(ended.view(-1, *[1] * (v.ndim - 1)), start[k], v) for k, v in after.items()}
        return self._time_step(after, reward, (there & ~self._active(after)) | over.unsqueeze(-1), ended)

    def close(self) -> None:
        pass

    def state_tensors(self) -> dict[str, Tensor]:
        return self._tensors

    def restore(self, state: dict[str, Tensor]) -> None:
        self._tensors = state

    def _begin_episodes(self) -> Tensors:
        """What is drawn when an episode begins, for every environment."""
        return {}

    def _next_tensors(self, game: Tensors, action: Tensor) -> Tensors:
        """What of the game is another after the action."""
        return {}

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        """What the action brings: `(E, A)`; that of who is not there is ignored."""
        raise NotImplementedError

    def _obs(self, game: Tensors) -> Tensor:
        """`(E, A, *shape)`, in the padded layout."""
        raise NotImplementedError

    def _state(self, game: Tensors) -> Tensor | None:
        return None

    def _mask(self, game: Tensors) -> Tensor | None:
        return None

    def _active(self, game: Tensors) -> Tensor:
        """Who is there: `(E, A)`."""
        return self._everyone

    def _is_first(self, game: Tensors) -> Tensor:
        """Whose life begins here, among those who are there: `(E, A)`."""
        return (game["clock"] == 0).unsqueeze(-1).expand(-1, self.spec.num_agents)

    def _over(self, game: Tensors) -> Tensor:
        """Which episodes have ended by themselves: `(E,)`."""
        return ~self._active(game).any(-1)

    def _start(self) -> Tensors:
        return {**self._begin_episodes(), "clock": torch.zeros(self.num_envs, dtype=torch.long, device=self.device)}

    def current_step(self) -> TimeStep:
        never = ~self._everyone
        return self._time_step(self._tensors, never.float(), never, never[:, 0])

    def _time_step(self, reached: Tensors, reward: Tensor, terminated: Tensor, ended: Tensor) -> TimeStep:
        """Of the game as it is now, and as it was `reached`, before any reset."""
        now = self._tensors
        active = self._active(now)
        return TimeStep(
            obs=self._observe(now),
            state=self._state(now),
            mask=self._mask(now),
            active=active,
            is_first=active & self._is_first(now),
            reward=reward,
            terminated=terminated,
            ended=ended,
            next_obs=self._observe(reached),
            next_state=self._state(reached),
            next_active=self._active(reached),
        )

    def _observe(self, game: Tensors) -> Tensor:
        obs = self._obs(game)
        if not obs.is_floating_point():
            return obs  # bytes know no NaN; in image probes all are there
        return torch.where(self._active(game).unsqueeze(-1), obs, torch.nan)

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
    """A `Spec` of agents called `agent_0`, `agent_1`, ...; an int stands for vectors of that size."""
    return Spec(
        agents=tuple(f"agent_{i}" for i in range(len(observes))),
        obs_spaces=tuple(spaces.Box(-1, 1, (o,), np.float32) if isinstance(o, int) else o for o in observes),
        action_heads=tuple(action_heads),
        groups=groups,
        state_shape=None if state_size is None else (state_size,),
        shared_reward=shared_reward,
    )


def one_hot(numbers: Tensor, size: int) -> Tensor:
    """float32 `(*B, size)`; unlike torch's own it asks the device nothing."""
    return (numbers.unsqueeze(-1) == torch.arange(size, device=numbers.device)).float()


def share_reward(reward: Tensor) -> Tensor:
    """The agents' mean, for all of them: `(E, A)` -> `(E, A)`."""
    return reward.float().mean(-1, keepdim=True).expand_as(reward)
