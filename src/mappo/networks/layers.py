"""Dense and norm layers, each with a single set of parameters, or with a set for each of several groups.

A group stands for an agent or a kind of agent. With `groups = 1` rows are `(*B, F)`; with more, `(G, *B, F)`.

Linear, LayerNorm, NormedLinear and Activation have their gradients in closed form too, in less time than autograd:
`record` returns the output and the tensors that `backward` reads; `backward` adds to the gradients of the weights, and
returns the gradient of the input, or None without `needs_dx`. Call both under `torch.no_grad`.

Initialisation as in the code of the MAPPO paper (arXiv:2103.01955): orthogonal matrices, biases 0.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from mappo.backend.matmul import affine, linear, weight_gradient

GAIN = {"relu": 2.0**0.5, "tanh": 5.0 / 3.0}  # torch.nn.init.calculate_gain
Saved = tuple[Tensor, ...]  # tensors that `backward` reads


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

    def add_gradients(self, dw: Tensor, db: Tensor) -> None:
        """Add to the gradients of weight and bias."""
        cast(Tensor, self.weight.grad).add_(dw)
        cast(Tensor, self.bias.grad).add_(db)

    def select_(self, group: int) -> None:
        """Keep the parameters of a single group, as views."""
        self.groups = 1
        self.weight = nn.Parameter(self.weight.detach()[group])
        self.bias = nn.Parameter(self.bias.detach()[group])


class Linear(_Grouped):
    """`y = x W^T + b`, with a single W, `(out, in)`, or with a W for each of `groups` along the first axis of x.

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

    def forward(self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Compute y; weight and bias may be given in place of the layer's own."""
        weight = self.weight if weight is None else weight
        bias = self.bias if bias is None else bias
        if self.groups == 1:
            return affine(x, weight, bias)
        if x.ndim < 2 or x.shape[0] != self.groups:
            raise ValueError(f"Linear of {self.groups} groups got an input of shape {tuple(x.shape)}")
        y = affine(self.rows(x), weight, bias)
        return y.reshape(*x.shape[:-1], y.shape[-1])

    def record(self, x: Tensor) -> tuple[Tensor, Saved]:
        return self(x), (x,)

    def backward(self, dy: Tensor, x: Tensor, needs_dx: bool = True) -> Tensor | None:
        """Compute `dW = dy^T x`, `db = sum dy` and `dx = dy W`."""
        dy = self.rows(dy)
        self.add_gradients(weight_gradient(dy, self.rows(x)), dy.sum(-2))
        return linear(dy, self.weight.mT).reshape(x.shape) if needs_dx else None

    def rows(self, x: Tensor) -> Tensor:
        """Return x as `(B, F)`, or as `(G, m, F)`."""
        return x.reshape(-1, x.shape[-1]) if self.groups == 1 else x.reshape(self.groups, -1, x.shape[-1])


class LayerNorm(_Grouped):
    """Layer normalisation, arXiv:1607.06450: `x^ = (x - mean) / std`, `y = w x^ + b`, with w and b for each group."""

    EPSILON = 1e-5  # added to the variance

    def forward(self, x: Tensor) -> Tensor:
        return self.record(x)[0]

    def record(self, x: Tensor) -> tuple[Tensor, Saved]:
        scale_and_offset = (self.weight, self.bias) if self.groups == 1 else (None, None)
        y, mean, inverse_std = torch.native_layer_norm(x, x.shape[-1:], *scale_and_offset, self.EPSILON)
        if self.groups > 1:
            y = y * self._spread(self.weight, x) + self._spread(self.bias, x)
        return y, (x, mean, inverse_std)

    def backward(
        self, dy: Tensor, x: Tensor, mean: Tensor, inverse_std: Tensor, needs_dx: bool = True
    ) -> Tensor | None:
        """Compute `dw = sum dy x^`, `db = sum dy`, and the gradient of x.

        dx = (dx^ - mean(dx^) - x^ mean(dx^ x^)) / std,    dx^ = w dy
        """
        rows = (dy, x, x.shape[-1:], mean, inverse_std)
        layer_norm_backward = cast(Any, torch.ops.aten).native_layer_norm_backward
        if self.groups == 1:
            dx, dw, db = layer_norm_backward(*rows, self.weight, self.bias, [needs_dx, True, True])
        else:
            sums = (self.groups, -1, x.shape[-1])
            dw = (dy * (x - mean) * inverse_std).reshape(sums).sum(1)
            db = dy.reshape(sums).sum(1)
            rows = (dy * self._spread(self.weight, x), *rows[1:])
            dx = layer_norm_backward(*rows, None, None, [True, False, False])[0] if needs_dx else None
        self.add_gradients(dw, db)
        return dx

    def _spread(self, parameter: Tensor, x: Tensor) -> Tensor:
        """Reshape a parameter `(G, F)` to broadcast against x, `(G, *B, F)`."""
        return parameter.reshape(self.groups, *(1,) * (x.ndim - 2), x.shape[-1])


class NormedLinear:
    """LayerNorm and Linear in a single product: `y = x^ W'^T + c'` with `W' = W w` and `c' = c + W b`.

    For the input of a network, which needs no gradient: `dy W'` is then never computed.

    Args:
        norm: has w and b.
        linear: has W and c.
    """

    def __init__(self, norm: LayerNorm, linear: Linear) -> None:
        self.norm = norm
        self.linear = linear

    def __call__(self, x: Tensor) -> Tensor:
        return self.record(x)[0]

    def record(self, x: Tensor) -> tuple[Tensor, Saved]:
        x = torch.native_layer_norm(x, x.shape[-1:], None, None, self.norm.EPSILON)[0]
        bias = self.linear.bias + torch.matmul(self.linear.weight, self.norm.bias.unsqueeze(-1)).squeeze(-1)
        weight = self.linear.weight * self.norm.weight.unsqueeze(-2)
        return self.linear(x, weight, bias), (x,)

    def backward(self, dy: Tensor, x: Tensor, needs_dx: bool = False) -> None:
        """Compute `dW = dW' w + dc' b^T`, `dc = dc'`, `dw = sum_out dW' W` and `db = W^T dc'`."""
        weight = self.linear.weight
        dy = self.linear.rows(dy)
        dw = weight_gradient(dy, self.linear.rows(x))
        dc = dy.sum(-2)
        self.norm.add_gradients((dw * weight).sum(-2), torch.matmul(dc.unsqueeze(-2), weight).squeeze(-2))
        dw = dw * self.norm.weight.unsqueeze(-2) + dc.unsqueeze(-1) * self.norm.bias.unsqueeze(-2)
        self.linear.add_gradients(dw, dc)


class Activation:
    """ReLU or tanh. Without a graph a CPU overwrites the input: no other code reads the output of the layer before.

    Args:
        name: `relu` or `tanh`.
    """

    def __init__(self, name: str) -> None:
        self.is_relu = name == "relu"

    def __call__(self, x: Tensor) -> Tensor:
        has_graph = torch.is_grad_enabled()
        if self.is_relu:
            return torch.relu(x) if has_graph else torch.relu_(x)
        if x.device.type != "cpu":
            return torch.tanh(x)
        return cast(Any, _Tanh).apply(x) if has_graph else _tanh_(x)

    def record(self, x: Tensor) -> tuple[Tensor, Saved]:
        y = self(x)
        return y, (y,)

    def backward(self, dy: Tensor, y: Tensor, needs_dx: bool = True) -> Tensor | None:
        """Compute `dx = dy [y > 0]` for ReLU, `dx = dy (1 - y^2)` for tanh; `dy` is overwritten."""
        aten: Any = torch.ops.aten
        if self.is_relu:
            return aten.threshold_backward(dy, y, 0, grad_input=dy)
        return aten.tanh_backward(dy, y, grad_input=dy)


def _tanh_(x: Tensor) -> Tensor:
    """Compute `tanh(x) = 2 sigmoid(2 x) - 1` in place: on a CPU torch's own takes longer than the product beside it."""
    if x.dtype.itemsize <= 2:  # the difference would leave no digit near 0
        return x.copy_(_tanh_(x.float()))
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


class _Tanh(torch.autograd.Function):
    """`_tanh_` for autograd."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _tanh_(x.clone())

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (y,) = ctx.saved_tensors
        return cast(Any, torch.ops.aten).tanh_backward(dy, y)
