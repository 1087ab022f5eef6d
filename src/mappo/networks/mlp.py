"""The encoder of vectors."""

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from mappo.networks.layers import GAIN, Activation, LayerNorm, Linear, NormedLinear, Saved


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
        layers: list[Any] = list(self.layers)
        if layer_norm:
            layers[0] = NormedLinear(cast(LayerNorm, self.norms[0]), layers[0])
        stages = [[layer, Activation(activation), *self.norms[k : k + 1]] for k, layer in enumerate(layers, 1)]
        self.stages: list[Any] = list(chain.from_iterable(stages))  # in the order of computation

    def forward(self, x: Tensor) -> Tensor:
        """Map `(*B, in)` to `(*B, hidden[-1])`."""
        for stage in self.stages:
            x = stage(x)
        return x

    def record(self, x: Tensor) -> tuple[Tensor, list[Saved]]:
        """Compute `forward`; return the output, and for each stage the tensors that `backward` reads."""
        saved: list[Saved] = []
        for stage in self.stages:
            x, tensors = stage.record(x)
            saved.append(tensors)
        return x, saved

    def backward(self, dy: Tensor, saved: list[Saved]) -> None:
        """Add the gradients of the weights, for the gradient of the output, `(*B, hidden[-1])`; the input has none."""
        for k, stage in reversed(list(enumerate(self.stages))):
            dy = stage.backward(dy, *saved[k], needs_dx=k > 0)

    def select_(self, group: int) -> None:
        """Keep the parameters of a single group, as views."""
        for module in (*self.layers, *self.norms):
            cast(Linear, module).select_(group)
