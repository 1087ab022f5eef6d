"""`ParameterSets`: which agents share parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ParameterSets(nn.Module):
    """Scatters a team's agents to their sets of parameters (G), and gathers the outputs again.

    All sets are computed in one batch of G x m places, with m the agents of the largest set. A spare place repeats an
    agent, and its output is dropped. With a single set nothing is moved.

    Args:
        sets: the set of each agent, such as `(0, 1, 1)`; empty for rows without agents.
    """

    def __init__(self, sets: Sequence[int]) -> None:
        super().__init__()
        self.sets = tuple(sets)
        members = [[a for a, s in enumerate(sets) if s == name] for name in sorted(set(sets))]
        size = max(map(len, members), default=1)
        places = [agent for m in members for agent in m + m[:1] * (size - len(m))]
        self.count = len(members) or 1
        self.places: Tensor = nn.Buffer(torch.tensor(places, dtype=torch.long), persistent=False)
        self.back: Tensor = nn.Buffer(torch.tensor([places.index(a) for a in range(len(sets))]), persistent=False)
        self.in_order = places == list(range(len(sets)))

    def index_of(self, agent: int) -> int:
        """Return the index of an agent's set along the axis G."""
        return sorted(set(self.sets)).index(self.sets[agent])

    def scatter(self, x: Tensor, features: int) -> Tensor:
        """Scatter `(*B, A, *F)` to `(G, m, *B, *F)`; `features` is the number of axes in F."""
        if self.count == 1:
            return x
        x = x.movedim(x.ndim - features - 1, 0)
        x = x if self.in_order else x.index_select(0, self.places)
        return x.reshape(self.count, -1, *x.shape[1:])

    def gather(self, x: Tensor) -> Tensor:
        """Gather `(G, m, *B, F)` to `(*B, A, F)`."""
        if self.count == 1:
            return x
        x = x.flatten(0, 1)
        x = x if self.in_order else x.index_select(0, self.back)
        return x.movedim(0, -2)

    def scatter_gradient(self, dy: Tensor) -> Tensor:
        """Scatter the gradient of `gather`'s output, `(*B, A, F)`; spare places get 0."""
        if self.count == 1:
            return dy
        dy = dy.movedim(-2, 0)
        if not self.in_order:
            dy = dy.new_zeros(len(self.places), *dy.shape[1:]).index_copy_(0, self.back, dy)
        return dy.reshape(self.count, -1, *dy.shape[1:])
