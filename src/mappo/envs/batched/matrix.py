"""One-step cooperative matrix games (Claus and Boutilier, 1998): what one agent should do depends on the other.

           best   uniform   a trap
climbing   11     -31/9     (2, 2), which brings 5: the best answer to an other that still tries everything
penalty    10     -178/9    (1, 1), which brings 2: safe, where to miss each other costs 100
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mappo.core.spec import ActionHeads
from mappo.envs.batched.tensor_game import TensorGame, Tensors, spec_of

CLIMBING = ((11, -30, 0), (-30, 7, 6), (0, 0, 5))


class MatrixGame(TensorGame):
    """Two agents see a one and choose once, a row and a column; both get what stands there, and that is all: the
    episode ends by itself.

    Args:
        payoff: rows are agent_0's choices, columns agent_1's.
    """

    def __init__(self, num_envs: int, payoff: Sequence[Sequence[float]], device: torch.device | str = "cpu") -> None:
        self._payoff = torch.tensor(payoff, dtype=torch.float32, device=device)
        heads = [ActionHeads((n,)) for n in self._payoff.shape]
        super().__init__(num_envs, spec_of([1, 1], heads, shared_reward=True), 1, device)

    def _obs(self, game: Tensors) -> Tensor:
        return self._ones(2, 1)

    def _reward(self, game: Tensors, action: Tensor) -> Tensor:
        row, column = action[..., 0].unbind(-1)
        return self._payoff[row, column].unsqueeze(-1).expand(-1, 2)

    def _over(self, game: Tensors) -> Tensor:
        return game["clock"] > 0


def climbing(num_envs: int, device: torch.device | str = "cpu") -> MatrixGame:
    """The best pair, (0, 0), is next to the dearest mistakes."""
    return MatrixGame(num_envs, CLIMBING, device)


def penalty(num_envs: int, penalty: float = -100, device: torch.device | str = "cpu") -> MatrixGame:
    """Two best pairs, (0, 0) and (2, 2): to choose one of each costs the `penalty`."""
    return MatrixGame(num_envs, ((10, 0, penalty), (0, 2, 0), (penalty, 0, 10)), device)
