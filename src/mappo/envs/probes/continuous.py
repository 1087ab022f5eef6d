"""Probes with continuous actions; `probes.basic` describes probes in general.

Actions are in the units of their bounds. Errors count in halves of the width between the bounds.

               best    middle of the box
probe/target   0       -1.46     reply to a point by another, in a box off the origin; uniform actions: -4.79
probe/mixed    10      -1.46 + 2.5 by chance; an agent has discrete actions, the other continuous actions
"""

import torch
from torch import Tensor

from mappo.core.spec import ActionHeads
from mappo.envs.batched.tensor_game import Tensors, one_hot, spec_of
from mappo.envs.probes.basic import Constant
from mappo.envs.probes.probe import Probe

SHIFT = 0.25


class Target(Constant):
    """Probe of continuous actions: each agent observes a point x in [-1, 1]^2, sampled anew at each step.

    An action is two numbers, the first in [1, 5] and the second in [-4, 0]. In half-widths from the middle of the box,
    the right action is x / 2 + (1/4, -1/4), well inside: `(3.5 + x_0, -2.5 + x_1)`. The team's reward is minus the
    agents' mean squared error per number.

    A step costs nothing at best, 1/12 + 1/16 at the middle of the box, 1/12 at the best constant action, and
    1/3 + 1/12 + 1/16 by chance, uniform within the bounds.
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

    def _obs(self, tensors: Tensors) -> Tensor:
        return tensors["point"]

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        error = (action - self._middle) / 2 - (tensors["point"] / 2 + self._shift)
        return -error.square().mean((-2, -1)).unsqueeze(-1).expand(-1, self.spec.num_agents)


class Mixed(Probe):
    """Probe of a team with discrete and continuous actions; both agents' targets are sampled anew at each step.

    agent_0 observes a number from 0 to 3 and earns 1 if its action names the number. agent_1 observes x in [-1, 1], the
    first entry of its padded observation, and acts by a number in [2, 6]. The right action is 4.5 + x, or
    x / 2 + 1/4 in half-widths from the middle; agent_1 receives minus the squared error.

    The best returns are `horizon` and 0. Chance of the first is a quarter of `horizon`; the middle of the box costs the
    second 1/12 + 1/16 a step. In the padded layout, an action is a choice and a number, and each agent uses its own.
    """

    def __init__(self, num_envs: int, horizon: int = 10, device: torch.device | str = "cpu") -> None:
        heads = [ActionHeads((4,)), ActionHeads(low=(2.0,), high=(6.0,))]
        super().__init__(num_envs, spec_of([4, 1], heads), horizon, device)

    def _begin_episodes(self) -> Tensors:
        point = 2 * self._rand() - 1
        return {"number": self._randint(4), "point": point}

    def _obs(self, tensors: Tensors) -> Tensor:
        point = torch.nn.functional.pad(tensors["point"].unsqueeze(-1), (0, 3))  # (E, 4)
        return torch.stack([one_hot(tensors["number"], 4), point], 1)

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        is_right = action[:, 0, 0] == tensors["number"]
        error = (action[:, 1, 1] - 4) / 2 - (tensors["point"] / 2 + SHIFT)
        return torch.stack([is_right.float(), -error.square()], -1)
