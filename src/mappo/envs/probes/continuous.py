"""Probes with continuous actions; see `probes`. Actions are in the units of their bounds, and errors are counted in
half the width of those.

               best    middle of the box
probe/target   0       -1.46     answer a point by another, in a box off the origin; uniform: -4.79
probe/mixed    10      -1.46 + 2.5 by chance; one agent chooses, the other answers by a number
"""

import torch
from torch import Tensor

from mappo.core.spec import ActionHeads
from mappo.envs.batched.tensor_game import TensorGame, Tensors, one_hot, spec_of
from mappo.envs.probes.basic import Constant

SHIFT = 0.25


class Target(Constant):
    """Each agent sees a point x in [-1, 1]^2, drawn anew each step, and answers by two numbers, the first in [1, 5]
    and the second in [-4, 0]. In half-widths from the middle of that box, right is x / 2 + (1/4, -1/4), well inside:
    `(3.5 + x_0, -2.5 + x_1)`. All get less the agents' mean squared distance per number.

    A step costs nothing at best, 1/12 + 1/16 at the middle of the box, 1/12 at the best answer that does not look,
    and 1/3 + 1/12 + 1/16 by chance, uniform within the bounds.
    """

    observes = 2
    heads = ActionHeads(low=(1.0, -4.0), high=(5.0, 0.0))

    def __init__(
        self, num_envs: int, num_agents: int = 2, horizon: int = 10, device: torch.device | str = "cpu"
    ) -> None:
        self._middle = torch.tensor([3.0, -2.0], device=device)
        self._shift = torch.tensor([SHIFT, -SHIFT], device=device)
        super().__init__(num_envs, num_agents, horizon, device)

    def _begin_episodes(self) -> Tensors:
        return {"point": 2 * self._rand(self.spec.num_agents, 2) - 1}

    def _next_tensors(self, game: Tensors, action: Tensor) -> Tensors:
        return self._begin_episodes()

    def _obs(self, game: Tensors) -> Tensor:
        return game["point"]

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        error = (action - self._middle) / 2 - (game["point"] / 2 + self._shift)
        return -error.square().mean((-2, -1)).unsqueeze(-1).expand(-1, self.spec.num_agents)


class Mixed(TensorGame):
    """agent_0 sees one of 4 numbers and gets 1 when it names it, of 4 actions. agent_1 sees x in [-1, 1], the first
    of its padded observation, and answers by a number in [2, 6]: right is 4.5 + x, which is x / 2 + 1/4 in
    half-widths from the middle, and it gets less the squared distance. Both are drawn anew each step.

    The best returns are `horizon` and 0; chance of the first is a quarter of it, and the middle of the box costs the
    second 1/12 + 1/16 a step. Padded, an action is a choice and a number: each agent's own is the one that counts.
    """

    def __init__(self, num_envs: int, horizon: int = 10, device: torch.device | str = "cpu") -> None:
        heads = [ActionHeads((4,)), ActionHeads(low=(2.0,), high=(6.0,))]
        super().__init__(num_envs, spec_of([4, 1], heads), horizon, device)

    def _begin_episodes(self) -> Tensors:
        point = 2 * self._rand() - 1
        return {"number": self._randint(4), "point": point}

    def _next_tensors(self, game: Tensors, action: Tensor) -> Tensors:
        return self._begin_episodes()

    def _obs(self, game: Tensors) -> Tensor:
        return torch.stack(
            [one_hot(game["number"], 4), torch.nn.functional.pad(game["point"].unsqueeze(-1), (0, 3))], 1
        )

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        named = action[:, 0, 0] == game["number"]
        error = (action[:, 1, 1] - 4) / 2 - (game["point"] / 2 + SHIFT)
        return torch.stack([named.float(), -error.square()], -1)
