"""One-step cooperative matrix games (Claus and Boutilier, 1998): the right choice of an agent depends on the other's.

           best   uniform   trap
climbing   11     -31/9     (2, 2) brings 5: the best reply to a teammate with random choices
penalty    10     -178/9    (1, 1) brings 2: safe, whereas a missed match costs 100
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mappo.core.spec import ActionHeads
from mappo.envs.batched.tensor_game import TensorGame, Tensors, spec_of

CLIMBING = ((11, -30, 0), (-30, 7, 6), (0, 0, 5))


class MatrixGame(TensorGame):
    """Environment of two agents and one step: one agent chooses a row, the other a column.

    Both agents observe a constant 1, and both receive the chosen entry of the matrix. The episode ends by itself.

    Args:
        num_envs: E.
        payoff: the matrix; its rows are the choices of agent_0, its columns the choices of agent_1.
        device: device of all tensors.
    """

    def __init__(self, num_envs: int, payoff: Sequence[Sequence[float]], device: torch.device | str = "cpu") -> None:
        self._payoff = torch.tensor(payoff, dtype=torch.float32, device=device)
        heads = [ActionHeads((n,)) for n in self._payoff.shape]
        super().__init__(num_envs, spec_of([1, 1], heads, shared_reward=True), 1, device)

    def _obs(self, tensors: Tensors) -> Tensor:
        return self._ones(2, 1)

    def _reward(self, tensors: Tensors, action: Tensor) -> Tensor:
        row, column = action[..., 0].unbind(-1)
        return self._payoff[row, column].unsqueeze(-1).expand(-1, 2)

    def _over(self, tensors: Tensors) -> Tensor:
        return tensors["clock"] > 0


def climbing(num_envs: int, device: torch.device | str = "cpu") -> MatrixGame:
    """Build the climbing game: the best pair (0, 0) lies next to the most expensive mistakes."""
    return MatrixGame(num_envs, CLIMBING, device)


def penalty(num_envs: int, penalty: float = -100, device: torch.device | str = "cpu") -> MatrixGame:
    """Build the penalty game: two best pairs, (0, 0) and (2, 2); mixing them costs `penalty`."""
    return MatrixGame(num_envs, ((10, 0, penalty), (0, 2, 0), (penalty, 0, 10)), device)
