"""Probes with all agents active from the first step to the time limit. A failed probe means a bug in the learner.

`probes.lives` holds the probes with deaths and arrivals, `probes.continuous` the probes with continuous actions.
Returns below belong to one agent over an episode, without discount; with a shared reward, they are the team's.

                      best    chance
probe/constant        10      10      through a time limit, the value is 1 / (1 - gamma) (law 3)
probe/signal          10      2.5     each agent observes a number and must name it
probe/memory          1       0.25    the number appears at the start only; without memory: 0.25
probe/mask            10      3.33    the mask alone shows the right action; without the mask: 5
probe/unequal         10      2.92    sizes and answers differ; a common network without an agent id: 5
probe/multidiscrete   10      2.92    two numbers, two heads
probe/image           10      2.5     the bright quadrant of an image
probe/roles           10 i    10 i    agent i receives i per step for any action: V_i = i / (1 - gamma)
"""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.core.spec import ActionHeads
from mappo.envs.batched.tensor_game import Tensors, mean_for_all, one_hot, spec_of
from mappo.envs.probes.probe import Probe


class Constant(Probe):
    """Probe of endless reward: agents observe ones and receive 1 for any action, until the time limit.

    The limit of `horizon` steps is a truncation. The task itself never ends, so V = 1 / (1 - gamma) everywhere. A
    learner without this distinction learns less: the mean over an episode of the remaining return,
    4.1 for gamma 0.9.

    Other probes with equal agents derive from this class and set its attributes.

    Args:
        num_envs: E.
        num_agents: A.
        horizon: steps of an episode.
        device: device of all tensors.
    """

    observes: spaces.Space[Any] | int = 2
    heads = ActionHeads((2,))
    shared_reward = True
    state_size: int | None = None

    def __init__(
        self, num_envs: int, num_agents: int = 2, horizon: int = 10, device: torch.device | str = "cpu"
    ) -> None:
        spec = spec_of(
            [self.observes] * num_agents,
            [self.heads] * num_agents,
            state_size=self.state_size,
            shared_reward=self.shared_reward,
        )
        super().__init__(num_envs, spec, horizon, device)

    def _obs(self, tensors: Tensors) -> Tensor:
        return self._ones(*self._agents.shape, *self.spec.obs_shape)

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        return self._ones(*self._agents.shape)


class Signal(Constant):
    """Probe of observation: each agent observes a number from 0 to 3 as one-hot, sampled anew at each step.

    The team's reward is the fraction of agents with the right name. A team without observations gets
    `horizon / choices`, the best team `horizon`.
    """

    choices = 4
    observes = 4
    heads = ActionHeads((4,))

    def _begin_episodes(self) -> Tensors:
        return {"number": self._randint(self.choices, self.spec.num_agents)}

    def _obs(self, tensors: Tensors) -> Tensor:
        return one_hot(tensors["number"], self.choices)

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        return mean_for_all(action[..., 0] == tensors["number"])


class Memory(Signal):
    """Probe of memory: only the first observation of an episode shows each agent its number, later ones are zeros.

    The last action earns the fraction of agents with the right name, all other actions earn 0. The best return is
    1. Without memory, or with a memory lost on the way, the return is chance: 1/4. The episode ends by itself, since a
    critic with a memory can count the steps: a truncation would ask for the value of a step beyond the end.
    """

    def __init__(
        self, num_envs: int, num_agents: int = 2, horizon: int = 5, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(num_envs, num_agents, horizon, device)

    def _over(self, tensors: Tensors) -> Tensor:
        return tensors["clock"] >= self.horizon

    def _next_tensors(self, tensors: Tensors, action: Tensor) -> Tensors:
        return {}

    def _obs(self, tensors: Tensors) -> Tensor:
        return super()._obs(tensors) * (tensors["clock"] == 0).view(-1, 1, 1)

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        return super()._reward(tensors, action) * (tensors["clock"] == self.horizon - 1).unsqueeze(-1)


class Mask(Signal):
    """Probe of masks: an agent observes a number s; action s or action s + 1 (mod 4) is illegal, each as often.

    The other action is right, and the mask alone shows it. The team's reward is the fraction of agents with the right
    action.

    A policy with a preference for s, then s + 1, then the rest, among the legal actions, gets `horizon`. Without the
    mask, a policy gets at most half. Chance among legal actions is a third of `horizon`, among all actions a quarter.
    """

    def _begin_episodes(self) -> Tensors:
        # s + legal is the right action.
        return {**super()._begin_episodes(), "legal": self._randint(2, self.spec.num_agents)}

    def _mask(self, tensors: Tensors) -> Tensor:
        illegal = (tensors["number"] + 1 - tensors["legal"]) % self.choices
        return one_hot(illegal, self.choices) == 0

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        return mean_for_all(action[..., 0] == (tensors["number"] + tensors["legal"]) % self.choices)


class Unequal(Probe):
    """Probe of unequal agents: two agents observe a number s from 0 to 2, sampled anew at each step.

    agent_0 observes a vector of 3 and has 3 actions to name s. agent_1 observes s as the first 3 entries of a
    vector of 5, and has 4 actions to name s + 1 (mod 3). The team's reward is the fraction of right actions.

    The best return is `horizon`, chance is (1/3 + 1/4) / 2 of it. In the padded layout, both agents observe the same
    vector for the same s: a common network without an agent id gets a half.

    Args:
        num_envs: E.
        horizon: steps of an episode.
        device: device of all tensors.
        groups: parameter group of each agent; by default a group each, `(0, 1)`.
    """

    def __init__(
        self,
        num_envs: int,
        horizon: int = 10,
        device: torch.device | str = "cpu",
        *,
        groups: tuple[int, ...] = (),
    ) -> None:
        spec = spec_of([3, 5], [ActionHeads((3,)), ActionHeads((4,))], shared_reward=True, groups=groups)
        super().__init__(num_envs, spec, horizon, device)

    def _begin_episodes(self) -> Tensors:
        return {"number": self._randint(3, 2)}

    def _obs(self, tensors: Tensors) -> Tensor:
        return one_hot(tensors["number"], 5)

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        return mean_for_all(action[..., 0] == (tensors["number"] + self._agents) % 3)


class MultiDiscrete(Constant):
    """Probe of several heads: each agent observes two numbers, of 3 and of 4, as one-hots side by side.

    Both numbers are sampled anew at each step. Each agent names them by a head each and earns 0.5 for each right head;
    the team's reward is the agents' mean. The best return is `horizon`, chance is (1/3 + 1/4) / 2 of it. A learner of
    the first head alone gets 5 + 10/8, a learner of the second head alone 5 + 10/6.
    """

    observes = 7
    heads = ActionHeads((3, 4))

    def _begin_episodes(self) -> Tensors:
        agents = self.spec.num_agents
        return {"number": torch.stack([self._randint(3, agents), self._randint(4, agents)], -1)}

    def _obs(self, tensors: Tensors) -> Tensor:
        first, second = tensors["number"].unbind(-1)
        return torch.cat([one_hot(first, 3), one_hot(second, 4)], -1)

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        return mean_for_all((action == tensors["number"]).float().mean(-1))


class Image(Signal):
    """Probe of images: each agent observes bytes `(8, 8, 1)`, sampled anew at each step.

    The image is dark noise (0 to 63) with 2 x 2 bright pixels (255) anywhere within one quadrant. The agent must name
    the quadrant, numbered row by row. The team's reward is the fraction of right names. The best return is
    `horizon`, chance is a quarter of it.
    """

    observes = spaces.Box(0, 255, (8, 8, 1), np.uint8)

    def _begin_episodes(self) -> Tensors:
        agents = self.spec.num_agents
        # Sampled in this order: runs of a seed stay the same.
        row = self._randint(3, agents)
        column = self._randint(3, agents)
        number = super()._begin_episodes()
        return {**number, "row": row, "column": column, "noise": self._randint(64, agents, 8, 8).byte()}

    def _obs(self, tensors: Tensors) -> Tensor:
        row = tensors["number"] // 2 * 4 + tensors["row"]  # row of the upper left bright pixel
        column = tensors["number"] % 2 * 4 + tensors["column"]
        bright_rows = one_hot(row, 8) + one_hot(row + 1, 8)
        bright_columns = one_hot(column, 8) + one_hot(column + 1, 8)
        bright = (bright_rows.unsqueeze(-1) * bright_columns.unsqueeze(-2)) > 0
        return tensors["noise"].masked_fill(bright, 255).unsqueeze(-1)


class Roles(Constant):
    """Probe of agent identity: agent i receives i per step for any action, until the time limit.

    All agents observe 1, and so does the state. V_i = i / (1 - gamma), for `env.reward=agent`: a critic without the
    agent's id learns the mean of all agents for each.
    """

    observes = 1
    shared_reward = False
    state_size = 1

    def __init__(
        self, num_envs: int, num_agents: int = 3, horizon: int = 10, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(num_envs, num_agents, horizon, device)

    def _state(self, tensors: Tensors) -> Tensor:
        return self._ones(1)

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        return self._agents.float().expand(self.num_envs, -1)
