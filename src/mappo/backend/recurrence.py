"""The steps of a GRU on a CPU, with gradients in closed form; `networks.gru.GRU` holds the weights and the formulas."""

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mappo.backend.matmul import add_linear, linear, weight_gradient

SLICE_ROWS = 256  # rows of consecutive steps whose derivatives are computed in one call: they fit the L2 cache
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}


def has_closed_form(x: Tensor, weight: Tensor) -> bool:
    """Return whether `recur` may take the place of autograd."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dtype in _INTEGERS
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()  # pyright: ignore  # vmap cannot write into outputs
    )


def recur(x: Tensor, memory: Tensor, is_first: Tensor, *weights: Tensor) -> Tensor:
    """Run L steps of a GRU, differentiable once.

    Args:
        x: `(L, *B, in)`; with several groups `(G, m, L, *B, in)`.
        memory: before the first step, the axes of x without L, and H last.
        is_first: the axes of x without the last; True where the memory starts at zero.
        weights: `(3 H, in)` and `(3 H,)` of the input, `(3 H, H)` and `(3 H,)` of the memory, in the order r, z, n of
            the gates; with several groups the first axis is G.

    Returns:
        The memory after each step, with the leading axes of x.
    """
    lead = weights[0].ndim - 1  # axes before the rows: L, or G and L
    if lead == 2:
        x = x.movedim(2, 1)
        is_first = is_first.movedim(2, 1)
    num_rows = math.prod(x.shape[lead:-1])
    output: Tensor = cast(Any, Recurrence).apply(
        x.reshape(*x.shape[:lead], num_rows, x.shape[-1]),
        memory.reshape(*memory.shape[: lead - 1], num_rows, memory.shape[-1]),
        is_first.reshape(*is_first.shape[:lead], num_rows, 1),
        *weights,
    )
    output = output.reshape(*x.shape[:-1], memory.shape[-1])
    return output if lead == 1 else output.movedim(1, 2)


class Recurrence(torch.autograd.Function):
    """The steps of a GRU, with gradients in closed form.

    A graph of single steps would compute the gradient of the weights step by step. Here one product covers all steps.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        memory: Tensor,
        is_first: Tensor,
        input_weight: Tensor,
        input_bias: Tensor,
        hidden_weight: Tensor,
        hidden_bias: Tensor,
    ) -> Tensor:
        """Return the memory after each step, `(L, B, H)` or `(G, L, B, H)`; see `recur`."""
        width = memory.shape[-1]
        integer = _INTEGERS[x.dtype]
        keep = is_first.to(integer) - 1  # all bits set, or none: unlike a product, a bitwise `and` clears NaN
        rows = x.flatten(-3, -2)
        rz_weight = hidden_weight[..., : 2 * width, :]
        n_weight = hidden_weight[..., 2 * width :, :]
        rz_bias = hidden_bias[..., : 2 * width]
        n_bias = hidden_bias[..., 2 * width :]
        rz_sum = linear(rows, input_weight[..., : 2 * width, :], input_bias[..., : 2 * width] + rz_bias)
        rz = rz_sum.view(*x.shape[:-1], 2 * width)
        # tanh(y) = 2 sigmoid(2 y) - 1, and torch's tanh takes four times as long.
        n = linear(rows, 2 * input_weight[..., 2 * width :, :], 2 * input_bias[..., 2 * width :])
        n = n.view(*x.shape[:-1], width)
        before, reset_n, output = (torch.empty_like(n) for _ in range(3))
        minus_one = x.new_full((), -1.0)
        steps = (keep, before, before.view(integer), rz, rz[..., :width], rz[..., width:], reset_n, n, output)
        for keep_t, h, h_bits, rz_t, r, z, reset_n_t, n_t, out in zip(*(s.unbind(-3) for s in steps), strict=True):
            torch.bitwise_and(memory.view(integer), keep_t, out=h_bits)
            torch.sigmoid(add_linear(rz_t, h, rz_weight), out=rz_t)
            torch.mul(linear(h, n_weight, n_bias), r, out=reset_n_t)
            n_t.add_(reset_n_t, alpha=2).sigmoid_()
            torch.add(minus_one, n_t, alpha=2, out=n_t)
            memory = torch.lerp(n_t, h, z, out=out)
        ctx.save_for_backward(rows, keep, before, rz, reset_n, n, input_weight, hidden_weight)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        """Return the gradients of the arguments of `forward`."""
        rows, keep, before, rz, reset_n, n, input_weight, hidden_weight = ctx.saved_tensors
        width = n.shape[-1]
        gates = rz.new_empty(*n.shape[:-1], 3 * width)  # gradients of the sums in the gates
        n_slope = torch.empty_like(n)  # of the sum in n, by the gradient of the memory
        h_grads = grad_outputs[0].clone(memory_format=torch.contiguous_format)
        transposed = hidden_weight.mT
        num_steps = n.shape[-3]
        size = max(1, SLICE_ROWS // max(1, n.shape[-2]))
        carried: Tensor | None = None
        for start in reversed(range(0, num_steps, size)):
            saved = [s[..., start : start + size, :, :] for s in (before, rz, reset_n, n, n_slope)]
            slopes = _gate_slopes(*saved)
            steps = [s[..., start : start + size, :, :].unbind(-3) for s in (h_grads, gates, rz[..., width:], keep)]
            for t in reversed(range(len(steps[0]))):
                h_grad, gate, z, keep_t = (s[t] for s in steps)
                if carried is not None:
                    h_grad.add_(carried)
                torch.mul(h_grad.unsqueeze(-2), slopes[..., t, :, :, :], out=gate.view(*gate.shape[:-1], 3, width))
                if start + t or ctx.needs_input_grad[1]:
                    carried = add_linear(h_grad * z, gate, transposed)
                    carried.view(keep.dtype).bitwise_and_(keep_t)
        gates = gates.flatten(-3, -2)
        hidden_grads = weight_gradient(gates, before.flatten(-3, -2)), gates.sum(-2)
        # The sums in r and z are common to both matrices; in n, r weighs the hidden matrix alone.
        torch.mul(h_grads.flatten(-3, -2), n_slope.flatten(-3, -2), out=gates[..., 2 * width :])
        x_grad = linear(gates, input_weight.mT).view(*n.shape[:-1], rows.shape[-1])
        bias_grad = torch.cat([hidden_grads[1][..., : 2 * width], gates[..., 2 * width :].sum(-2)], -1)
        input_grads = weight_gradient(gates, rows), bias_grad
        return x_grad, carried if ctx.needs_input_grad[1] else None, None, *input_grads, *hidden_grads


def _gate_slopes(h: Tensor, rz: Tensor, reset_n: Tensor, n: Tensor, n_slope: Tensor) -> Tensor:
    """Return the derivatives of the memory after a step by the sums in the gates, `(..., B, 3, H)`: r, z, U h of n.

    Args:
        h: the memory before the step, `(..., B, H)`.
        rz: the gates r and z, `(..., B, 2 H)`.
        reset_n: `r * (U h)` of n.
        n: the new memory.
        n_slope: receives the derivative by the sum in n.
    """
    r, z = rz.chunk(2, -1)
    slopes = n.new_empty(*n.shape[:-1], 3, n.shape[-1])
    aten: Any = torch.ops.aten
    scratch = torch.sub(1, z)
    aten.tanh_backward.grad_input(scratch, n, grad_input=n_slope)  # (1 - z) (1 - n^2)
    aten.sigmoid_backward.grad_input(h - n, z, grad_input=slopes[..., 1, :])  # (h - n) z (1 - z)
    torch.mul(n_slope, r, out=slopes[..., 2, :])
    torch.mul(n_slope, reset_n, out=scratch)
    torch.addcmul(scratch, scratch, r, value=-1, out=slopes[..., 0, :])  # n_slope (U h) r (1 - r)
    return slopes
