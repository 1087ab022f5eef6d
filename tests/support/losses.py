"""The loss of a learner on a batch."""

from torch import Tensor

from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.minibatch import Batch


def loss_of(agent: MAPPO, batch: Batch, entropy_weight: float = 0.01) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the loss of a batch and its metrics, with another entropy weight than the schedule's."""
    agent.entropy_weight.fill_(entropy_weight)
    return agent.loss(batch, agent.outputs(batch))
