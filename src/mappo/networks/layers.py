"""Dense, norm and recurrent layers, each with one set of parameters or with one for each of several groups.

A group stands for an agent, a kind of agent or a seed. With `groups = 1` rows are `(*B, F)`; with more, `(G, *B, F)`.
Initialised as in the code of the MAPPO paper (arXiv:2103.01955): orthogonal matrices, biases 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mappo.backend.matmul import affine

GAIN = {"relu": 2.0**0.5, "tanh": 5.0 / 3.0}  # torch.nn.init.calculate_gain


class Linear(nn.Module):
    """`y = x W + b`, with one matrix, or with one for each of `groups` along the first axis of x.

    Args:
        groups: 1 maps `(*B, in)` to `(*B, out)`; G > 1 maps `(G, *B, in)` to `(G, *B, out)`.
        gain: scale of the orthogonal matrix.
    """

    def __init__(self, groups: int, in_features: int, out_features: int, gain: float = 1.0) -> None:
        super().__init__()
        self.groups = groups
        lead = () if groups == 1 else (groups,)
        self.weight = nn.Parameter(torch.empty(*lead, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(*lead, out_features))
        for matrix in [self.weight] if groups == 1 else self.weight.unbind():
            nn.init.orthogonal_(matrix, gain)

    def forward(self, x: Tensor, scale: float = 1.0, factor: float = 1.0) -> Tensor:
        """`scale * ((factor * x) W + b)`, at the price of scaling the matrix and not the rows."""
        weight = self.weight if scale * factor == 1 else self.weight * (scale * factor)
        bias = self.bias if scale == 1 else self.bias * scale
        if self.groups == 1:
            return affine(x, weight, bias)
        if x.ndim < 2 or x.shape[0] != self.groups:
            raise ValueError(f"Linear of {self.groups} groups got an input of shape {tuple(x.shape)}")
        y = affine(x.reshape(self.groups, -1, x.shape[-1]), weight, bias)
        return y.reshape(*x.shape[:-1], y.shape[-1])


class LayerNorm(nn.Module):
    """arXiv:1607.06450, with a scale and an offset for each group."""

    EPSILON = 1e-5

    def __init__(self, groups: int, features: int) -> None:
        super().__init__()
        self.groups = groups
        lead = () if groups == 1 else (groups,)
        self.weight = nn.Parameter(torch.ones(*lead, features))
        self.bias = nn.Parameter(torch.zeros(*lead, features))

    def forward(self, x: Tensor, epsilon: float = EPSILON) -> Tensor:
        """`epsilon` is added to the variance."""
        if self.groups == 1:
            return nn.functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, epsilon)
        y = nn.functional.layer_norm(x, x.shape[-1:], eps=epsilon)
        wide = (self.groups, *(1,) * (x.ndim - 2), x.shape[-1])
        return y * self.weight.reshape(wide) + self.bias.reshape(wide)


class GRU(nn.Module):
    """A gated recurrent unit, arXiv:1406.1078, in the form of cuDNN: the reset gate behind the product.

        r, z = sigmoid(W x + U h),    n = tanh(W x + r * (U h)),    h' = (1 - z) * n + z * h

    Args:
        groups: as in `Linear`. width: H, of the memory.
    """

    def __init__(self, groups: int, in_features: int, width: int) -> None:
        super().__init__()
        self.width, self.time = width, 0 if groups == 1 else 2
        self.input = Linear(groups, in_features, 3 * width)
        self.hidden = Linear(groups, width, 3 * width)
        for layer, size in ((self.input, in_features), (self.hidden, width)):
            for matrix in layer.weight.reshape(-1, width, size).detach():  # each gate orthogonal by itself
                nn.init.orthogonal_(matrix)

    def forward(self, x: Tensor, memory: Tensor, is_first: Tensor) -> Tensor:
        """L steps in a row.

        Args:
            x: `(L, *B, in)`; of several groups `(G, m, L, *B, in)`. memory: before the first step, without the L.
            first: bool, as x without its last axis: the memory starts at zero here, whatever it holds.

        Returns:
            The memory after each step, with x's leading axes.
        """
        after: list[Tensor] = []
        inputs, starts, parts = self.input(x).unbind(self.time), is_first.unsqueeze(-1), [2 * self.width, self.width]
        for seen, start in zip(inputs, starts.unbind(self.time), strict=True):
            memory = torch.where(start, 0.0, memory)  # a product would keep NaN
            (seen_rz, seen_n), (held_rz, held_n) = seen.split(parts, -1), self.hidden(memory).split(parts, -1)
            reset, update = torch.sigmoid(seen_rz + held_rz).chunk(2, -1)
            new = torch.tanh(seen_n + reset * held_n)
            memory = new + update * (memory - new)
            after.append(memory)
        return torch.stack(after, self.time)


class ParameterSets(nn.Module):
    """Deals a team's agents to their sets of parameters (G), and gathers the answers again.

    All sets are computed at once, as G x m places with m agents of the largest set; a place to spare repeats a
    member, and its answer is dropped. With one set there is nothing to deal.

    Args:
        sets: the set that each agent uses, such as `(0, 1, 1)`; empty for rows that are not agents'.
    """

    def __init__(self, sets: Sequence[int]) -> None:
        super().__init__()
        members = [[a for a, s in enumerate(sets) if s == name] for name in sorted(set(sets))]
        size = max(map(len, members), default=1)
        places = [agent for m in members for agent in m + m[:1] * (size - len(m))]
        self.count = len(members) or 1
        self.register_buffer("places", torch.tensor(places, dtype=torch.long), persistent=False)
        self.register_buffer("back", torch.tensor([places.index(a) for a in range(len(sets))]), persistent=False)
        self.places: Tensor
        self.back: Tensor
        self.in_order = places == list(range(len(sets)))

    def scatter(self, x: Tensor, features: int) -> Tensor:
        """`(*B, A, *F)` -> `(G, m, *B, *F)`, with so many axes in F."""
        if self.count == 1:
            return x
        x = x.movedim(x.ndim - features - 1, 0)
        x = x if self.in_order else x.index_select(0, self.places)
        return x.reshape(self.count, -1, *x.shape[1:])

    def gather(self, x: Tensor) -> Tensor:
        """`(G, m, *B, F)` -> `(*B, A, F)`."""
        if self.count == 1:
            return x
        x = x.flatten(0, 1)
        x = x if self.in_order else x.index_select(0, self.back)
        return x.movedim(0, -2)
