"""Dense and norm layers, each with a single set of parameters, or with a set for each of several groups.

A group stands for an agent or a kind of agent. With `groups = 1` rows are `(*B, F)`; with more, `(G, *B, F)`.
Initialisation as in the code of the MAPPO paper (arXiv:2103.01955): orthogonal matrices, biases 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mappo.backend.matmul import affine

GAIN = {"relu": 2.0**0.5, "tanh": 5.0 / 3.0}  # torch.nn.init.calculate_gain


class _Grouped(nn.Module):
    """Base class of layers with a weight, at first 1, and a bias, at first 0, for each group.

    Args:
        groups: number of groups.
        shape: of a group's weight; its first axis is the bias's.
    """

    def __init__(self, groups: int, *shape: int) -> None:
        super().__init__()
        self.groups = groups
        lead = () if groups == 1 else (groups,)
        self.weight: Tensor = nn.Parameter(torch.ones(*lead, *shape))
        self.bias: Tensor = nn.Parameter(torch.zeros(*lead, shape[0]))

    def select_(self, group: int) -> None:
        """Keep the parameters of a single group, as views."""
        self.groups = 1
        self.weight = nn.Parameter(self.weight.detach()[group])
        self.bias = nn.Parameter(self.bias.detach()[group])


class Linear(_Grouped):
    """`y = x W + b`, with a single matrix, or with a matrix for each of `groups` along the first axis of x.

    Args:
        groups: 1 maps `(*B, in)` to `(*B, out)`; G > 1 maps `(G, *B, in)` to `(G, *B, out)`.
        in_features: size of the input's last axis.
        out_features: size of the output's last axis.
        gain: scale of the orthogonal matrix.
        generator: of the orthogonal matrix; by default torch's own.
    """

    def __init__(
        self,
        groups: int,
        in_features: int,
        out_features: int,
        gain: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(groups, out_features, in_features)
        for matrix in [self.weight] if groups == 1 else self.weight.unbind():
            nn.init.orthogonal_(matrix, gain, generator)

    def forward(self, x: Tensor, scale: float = 1.0, factor: float = 1.0) -> Tensor:
        """Compute `scale * ((factor * x) W + b)`; the matrix is scaled, because it is smaller than the rows."""
        weight = self.weight if scale * factor == 1 else self.weight * (scale * factor)
        bias = self.bias if scale == 1 else self.bias * scale
        if self.groups == 1:
            return affine(x, weight, bias)
        if x.ndim < 2 or x.shape[0] != self.groups:
            raise ValueError(f"Linear of {self.groups} groups got an input of shape {tuple(x.shape)}")
        y = affine(x.reshape(self.groups, -1, x.shape[-1]), weight, bias)
        return y.reshape(*x.shape[:-1], y.shape[-1])


class LayerNorm(_Grouped):
    """Layer normalisation, arXiv:1607.06450, with a scale and an offset `(F,)` for each group."""

    EPSILON = 1e-5

    def forward(self, x: Tensor, epsilon: float = EPSILON) -> Tensor:
        """Normalise the last axis; `epsilon` is added to the variance."""
        if self.groups == 1:
            return nn.functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, epsilon)
        y = nn.functional.layer_norm(x, x.shape[-1:], eps=epsilon)
        shape = (self.groups, *(1,) * (x.ndim - 2), x.shape[-1])
        return y * self.weight.reshape(shape) + self.bias.reshape(shape)


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
