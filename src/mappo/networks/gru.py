"""`GRU`: a recurrent layer over sequences whose memory may start anew at any step.

Sequences on a CPU take the steps of `backend.recurrence`, with gradients in closed form. Single steps, CUDA, bf16 and
`vmap` take the plain steps of `GRU._run`.
"""

import torch
from torch import Tensor, nn

from mappo.backend.recurrence import has_closed_form, recur
from mappo.networks.layers import Linear


class GRU(nn.Module):
    """A gated recurrent unit, arXiv:1406.1078, in cuDNN's form: the reset gate comes after the matrix product.

        r, z = sigmoid(W x + U h),    n = tanh(W x + r * (U h)),    h' = (1 - z) * n + z * h

    Args:
        groups: as in `Linear`.
        in_features: size of the input's last axis.
        width: H, size of the memory.
        generator: as in `Linear`.
    """

    def __init__(self, groups: int, in_features: int, width: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.width = width
        self.time_axis = 0 if groups == 1 else 2
        self.input = Linear(groups, in_features, 3 * width, generator=generator)
        self.hidden = Linear(groups, width, 3 * width, generator=generator)
        for layer, size in ((self.input, in_features), (self.hidden, width)):
            for matrix in layer.weight.reshape(-1, width, size).detach():  # each gate orthogonal by itself
                nn.init.orthogonal_(matrix, generator=generator)

    def forward(self, x: Tensor, memory: Tensor, is_first: Tensor) -> Tensor:
        """Run L steps.

        Args:
            x: `(L, *B, in)`; with several groups `(G, m, L, *B, in)`.
            memory: before the first step, the axes of x without L, and H last.
            is_first: bool, the axes of x without the last: the memory starts at zero here, whatever it holds.

        Returns:
            The memory after each step, with the leading axes of x.
        """
        if x.shape[self.time_axis] > 1 and has_closed_form(x, self.hidden.weight):
            return recur(x, memory, is_first, self.input.weight, self.input.bias, self.hidden.weight, self.hidden.bias)
        return self._run(x, memory, is_first)

    def _run(self, x: Tensor, memory: Tensor, is_first: Tensor) -> Tensor:
        """Run L steps, differentiable by autograd; see `forward`."""
        split = 2 * self.width
        outputs: list[Tensor] = []
        starts = is_first.unsqueeze(-1).unbind(self.time_axis)
        for x_t, start in zip(self.input(x).unbind(self.time_axis), starts, strict=True):
            memory = torch.where(start, 0.0, memory)  # a product would keep NaN
            h = self.hidden(memory)
            reset, update = torch.sigmoid(x_t[..., :split] + h[..., :split]).chunk(2, -1)
            new = torch.tanh(x_t[..., split:] + reset * h[..., split:])
            memory = new + update * (memory - new)
            outputs.append(memory)
        return torch.stack(outputs, self.time_axis)

    def select_(self, group: int) -> None:
        """Keep the parameters of a single group, as views."""
        self.time_axis = 0
        self.input.select_(group)
        self.hidden.select_(group)
