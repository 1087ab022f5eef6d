"""Tasks so small that the right answer is known in closed form: a learner that fails one has a bug.

probe/constant   reward 1 for ever, seen through a time limit: the value is 1 / (1 - gamma) (law 3)
probe/signal     each agent sees a number and must name it: the best return is one for each step
"""

from collections.abc import Sequence

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.envs.lockstep import time_step
from mappo.types import ActionHeads, Spec, TimeStep


class Constant:
    """Two agents see a one and are given a one, whatever they do, until the time limit of `horizon` steps.

    The limit is a truncation: the task itself never ends, so V = 1 / (1 - gamma) everywhere.
    """

    choices = 2

    def __init__(
        self, num_envs: int, num_agents: int = 2, horizon: int = 10, device: torch.device | str = "cpu"
    ) -> None:
        self.num_envs, self.horizon, self.device = num_envs, horizon, torch.device(device)
        self.spec = Spec(
            agents=tuple(f"agent_{i}" for i in range(num_agents)),
            obs_spaces=(spaces.Box(0, 1, (self.choices,), np.float32),) * num_agents,
            action_heads=(ActionHeads((self.choices,)),) * num_agents,
            groups=(0,) * num_agents,
            shared_reward=True,
        )
        self._all = torch.ones(num_envs, num_agents, dtype=torch.bool, device=self.device)
        self._generator = torch.Generator(self.device)
        self._clock = 0
        self._obs = self._observe()

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        if seed is not None:
            self._generator.manual_seed(seed if isinstance(seed, int) else seed[0])
        self._clock, self._obs = 0, self._observe()
        return self._time_step(torch.zeros(self._all.shape, device=self.device), self._obs, ended=False)

    def step(self, action: Tensor) -> TimeStep:
        reward = self._reward(action.squeeze(-1))
        self._clock += 1
        ended = self._clock >= self.horizon
        next_obs = self._obs = self._observe()
        if ended:
            self._clock, self._obs = 0, self._observe()
        return self._time_step(reward, next_obs, ended)

    def close(self) -> None:
        pass

    def _observe(self) -> Tensor:
        return torch.ones(*self._all.shape, self.choices, device=self.device)

    def _reward(self, action: Tensor) -> Tensor:
        return torch.ones(action.shape, device=self.device)

    def _time_step(self, reward: Tensor, next_obs: Tensor, ended: bool) -> TimeStep:
        return time_step(self._all, self._obs, next_obs, reward, first=self._clock == 0, ended=ended)


class Signal(Constant):
    """Each agent sees one of `choices` numbers, drawn anew each step, as one-hot; all get the share of agents
    that name theirs. A team that ignores what it sees gets `horizon / choices`, the best one `horizon`.
    """

    choices = 4

    def _observe(self) -> Tensor:
        draw = torch.randint(self.choices, self._all.shape, generator=self._generator, device=self.device)
        return torch.nn.functional.one_hot(draw, self.choices).float()

    def _reward(self, action: Tensor) -> Tensor:
        right = (self._obs.argmax(-1) == action).float()
        return right.mean(-1, keepdim=True).expand_as(right)
