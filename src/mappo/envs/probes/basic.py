"""Tasks so small that the right answer is known in closed form: a learner that fails one has a bug.

In these, everyone is there from the first step to the time limit. `probe_lives` has those where agents die and
arrive, and `probe_targets` those with continuous actions. Returns are those of one agent over an episode, not
discounted; where the reward is shared, that is the team's.

                      best    chance
probe/constant        10      10      seen through a time limit the value is 1 / (1 - gamma) (law 3)
probe/signal          10      2.5     each agent sees a number and must name it
probe/memory          1       0.25    it saw the number at the start only; without memory: 0.25
probe/mask            10      3.33    what is right can be read from the mask alone; blind to it: 5
probe/unequal         10      2.92    sizes and answers differ; one network without an agent id: 5
probe/multidiscrete   10      2.92    two numbers, two heads
probe/image           10      2.5     the bright quadrant of an image
probe/roles           10 i    10 i    agent i is given i per step, whatever it does: V_i = i / (1 - gamma)
"""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.core.spec import ActionHeads
from mappo.envs.batched.tensor_game import TensorGame, Tensors, one_hot, share_reward, spec_of


class Constant(TensorGame):
    """Agents see ones and are given a one, whatever they do, until the time limit of `horizon` steps.

    The limit is a truncation: the task itself never ends, so V = 1 / (1 - gamma) everywhere. With the two flags
    merged it is less: the mean over an episode of what is left until its end, 4.1 for gamma 0.9.

    Also the base of the other probes with equal agents, by these attributes.
    """

    choices = 2
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

    def _obs(self, game: Tensors) -> Tensor:
        return self._ones(*self._agents.shape, self.choices)

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        return self._ones(*self._agents.shape)


class Signal(Constant):
    """Each agent sees one of 4 numbers, drawn anew each step, as one-hot; all get the share of agents
    that name theirs. A team that ignores what it sees gets `horizon / choices`, the best one `horizon`.
    """

    choices = 4
    observes = 4
    heads = ActionHeads((4,))

    def _begin_episodes(self) -> Tensors:
        return {"number": self._randint(self.choices, self.spec.num_agents)}

    def _next_tensors(self, game: Tensors, action: Tensor) -> Tensors:
        return self._begin_episodes()

    def _obs(self, game: Tensors) -> Tensor:
        return one_hot(game["number"], self.choices)

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        return share_reward(action[..., 0] == game["number"])


class Memory(Signal):
    """The first observation of an episode shows each agent its number, later ones show zeros; the last action is
    rewarded by the share of agents that name theirs, all others by 0.

    The best return is 1; without memory, or with one that is lost on the way, it is chance: 1/4. The episode ends by
    itself: a critic with a memory can count, and would be asked for the value of a step that never comes.
    """

    def __init__(
        self, num_envs: int, num_agents: int = 2, horizon: int = 5, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(num_envs, num_agents, horizon, device)

    def _over(self, game: Tensors) -> Tensor:
        return game["clock"] >= self.horizon

    def _next_tensors(self, game: Tensors, action: Tensor) -> Tensors:
        return {}

    def _obs(self, game: Tensors) -> Tensor:
        return super()._obs(game) * (game["clock"] == 0).view(-1, 1, 1)

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        return super()._reward(game, action) * (game["clock"] == self.horizon - 1).unsqueeze(-1)


class Mask(Signal):
    """Of the actions s and s + 1 (mod 4), s being the number an agent sees, one is illegal, each as often; right is
    the other one. Which, is told by the mask alone. All get the share of agents that are right.

    Who prefers s to s + 1, and both to the rest, among what is legal, gets `horizon`. Who does not see the mask has
    no more than half of it, chance among legal actions is a third, and among all of them a quarter.
    """

    def _begin_episodes(self) -> Tensors:
        return {**super()._begin_episodes(), "legal": self._randint(2, self.spec.num_agents)}  # s + legal, is right

    def _mask(self, game: Tensors) -> Tensor:
        illegal = (game["number"] + 1 - game["legal"]) % self.choices
        return one_hot(illegal, self.choices) == 0

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        return share_reward(action[..., 0] == (game["number"] + game["legal"]) % self.choices)


class Unequal(TensorGame):
    """Two agents see one of 3 numbers s, drawn anew each step: agent_0 as a vector of 3, and it names s by one of 3
    actions; agent_1 as the first 3 of a vector of 5, and it names s + 1 (mod 3) by one of 4 actions. Both get the
    share of those that are right.

    The best return is `horizon`, chance (1/3 + 1/4) / 2 of it. Padded, both see the same for the same s: one network
    for both that is not told whom it acts for gets a half.

    Args:
        groups: of the Spec; by default the agents' own ones, `(0, 1)`.
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

    def _next_tensors(self, game: Tensors, action: Tensor) -> Tensors:
        return self._begin_episodes()

    def _obs(self, game: Tensors) -> Tensor:
        return one_hot(game["number"], 5)

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        return share_reward(action[..., 0] == (game["number"] + self._agents) % 3)


class MultiDiscrete(Constant):
    """Each agent sees two numbers, of 3 and of 4, drawn anew each step, as one-hots side by side, and names each by
    a head of its own: 0.5 for each that is right, and all get the agents' mean.

    The best return is `horizon`, chance (1/3 + 1/4) / 2 of it. Who learns by one head alone has between the two:
    5 + 10/8 by the first, 5 + 10/6 by the second.
    """

    observes = 7
    heads = ActionHeads((3, 4))

    def _begin_episodes(self) -> Tensors:
        agents = self.spec.num_agents
        return {"number": torch.stack([self._randint(3, agents), self._randint(4, agents)], -1)}

    def _next_tensors(self, game: Tensors, action: Tensor) -> Tensors:
        return self._begin_episodes()

    def _obs(self, game: Tensors) -> Tensor:
        first, second = game["number"].unbind(-1)
        return torch.cat([one_hot(first, 3), one_hot(second, 4)], -1)

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        return share_reward((action == game["number"]).float().mean(-1))


class Image(Signal):
    """Each agent sees an image of bytes `(8, 8, 1)`, drawn anew each step: dark noise (0 to 63), and 2 x 2 bright
    pixels (255) anywhere within one quadrant, whose number (row by row) it must name; all get the share of those
    that do. The best return is `horizon`, chance a quarter of it.
    """

    observes = spaces.Box(0, 255, (8, 8, 1), np.uint8)

    def _begin_episodes(self) -> Tensors:
        agents = self.spec.num_agents
        row, column = self._randint(3, agents), self._randint(3, agents)
        return {
            **super()._begin_episodes(),
            "row": row,
            "column": column,
            "noise": self._randint(64, agents, 8, 8).byte(),
        }

    def _obs(self, game: Tensors) -> Tensor:
        top = game["number"] // 2 * 4 + game["row"]
        left = game["number"] % 2 * 4 + game["column"]
        rows = one_hot(top, 8) + one_hot(top + 1, 8)
        columns = one_hot(left, 8) + one_hot(left + 1, 8)
        bright = (rows.unsqueeze(-1) * columns.unsqueeze(-2)) > 0
        return game["noise"].masked_fill(bright, 255).unsqueeze(-1)


class Roles(Constant):
    """All agents see a one, and so does the state; agent i is given i per step, whatever it does, until the time
    limit. V_i = i / (1 - gamma), for `env.reward=agent`: a critic that is not told whose value it gives has their
    mean for all.
    """

    observes = 1
    choices = 1
    shared_reward = False
    state_size = 1

    def __init__(
        self, num_envs: int, num_agents: int = 3, horizon: int = 10, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(num_envs, num_agents, horizon, device)

    def _state(self, game: Tensors) -> Tensor:
        return self._ones(1)

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        return self._agents.float().expand(self.num_envs, -1)
