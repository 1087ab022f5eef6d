"""The encoder of vectors."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from mappo.networks.layers import GAIN, LayerNorm, Linear


class MLP(nn.Module):
    """Linear layers, each followed by the activation and, if set, by LayerNorm: the order of the paper.

    Args:
        in_features: size of the input's last axis.
        hidden: the width of each layer.
        activation: `relu` or `tanh`.
        layer_norm: LayerNorm after each activation and on the input (the paper's `feature_normalization`).
        groups: as in `Linear`.
        generator: as in `Linear`.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        activation: str = "relu",
        layer_norm: bool = False,
        groups: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = [in_features, *hidden]
        self.layers = nn.ModuleList(Linear(groups, a, b, GAIN[activation], generator) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(LayerNorm(groups, n) for n in (sizes if layer_norm else ()))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map `(*B, in)` to `(*B, hidden[-1])`."""
        norms: list[LayerNorm] = [*cast(Any, self.norms)]
        activation = torch.relu if self.activation == "relu" else torch.tanh
        # tanh(z) = 2 (sigmoid(2 z) - 1/2). On a CPU tanh takes longer than the matrix product beside it, and the
        # factors cost nothing inside the next matrix or LayerNorm. In bf16 the 1/2 would leave no digit near 0.
        exact = bool(norms) or not torch.is_autocast_enabled("cpu")
        by_sigmoid = self.activation == "tanh" and x.device.type == "cpu" and exact
        x = norms[0](x) if norms else x
        factor = 1.0
        for k, layer in enumerate(self.layers):
            x = torch.sigmoid(layer(x, 2.0, factor)) if by_sigmoid else activation(layer(x))
            if norms:
                x = norms[k + 1](x, LayerNorm.EPSILON / 4 if by_sigmoid else LayerNorm.EPSILON)
            elif by_sigmoid:
                x = x - 0.5
                factor = 2.0
        return x if factor == 1 else x * factor

    def select_(self, group: int) -> None:
        """Keep the parameters of a single group, as views."""
        for module in (*self.layers, *self.norms):
            cast(Linear, module).select_(group)
