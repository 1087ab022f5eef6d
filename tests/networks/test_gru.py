"""A GRU is torch's own, starts anew where it must, and its gradients in closed form are those of autograd."""

import math
from contextlib import nullcontext
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.func import vmap  # pyright: ignore[reportUnknownVariableType]
from torch.testing import assert_close

from mappo.backend import matmul as products, recurrence
from mappo.networks import gru as module
from mappo.networks.gru import GRU


def unlike(module: nn.Module) -> None:
    """Parameters that are all different, biases and scales too."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def sequence(
    groups: int, length: int, rows: tuple[int, ...], dtype: torch.dtype = torch.float64
) -> tuple[GRU, Tensor, Tensor, Tensor]:
    """A GRU of 4 inputs and a memory of 5, and the arguments of its `forward`."""
    generator = torch.Generator().manual_seed(length)
    gru = GRU(groups, 4, 5).to(dtype)
    unlike(gru)
    lead = () if groups == 1 else (groups, 2)
    x = torch.randn(*lead, length, *rows, 4, generator=generator, dtype=dtype).requires_grad_()
    memory = torch.randn(*lead, *rows, 5, generator=generator, dtype=dtype).requires_grad_()
    return gru, x, memory, torch.rand(*lead, length, *rows, generator=generator) < 0.3


def with_gradients(gru: GRU, run: Any, x: Tensor, memory: Tensor, is_first: Tensor) -> list[Tensor]:
    output = run(x, memory, is_first)
    weight = torch.linspace(-1, 1, output.numel(), dtype=x.dtype).view_as(output)
    inputs = [t for t in (x, memory, *gru.parameters()) if t.requires_grad]
    return [output.detach(), *torch.autograd.grad((output * weight).sum(), inputs)]


@settings(max_examples=25, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 3]),
    length=st.integers(2, 9),
    rows=st.sampled_from([(1,), (3,), (2, 3), (0,), ()]),
    size=st.sampled_from([1, 12, 256]),
    is_learned=st.booleans(),
)
def test_gradients_in_closed_form_are_those_of_autograd(
    groups: int, length: int, rows: tuple[int, ...], size: int, is_learned: bool
):
    gru, *arguments = sequence(groups, length, rows)
    arguments[1].requires_grad_(is_learned)  # the memory before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recurrence, "SLICE_ROWS", size)  # steps of a slice: one, some, all
        result = with_gradients(gru, gru, *arguments)
    expected = with_gradients(gru, cast(Any, gru)._run, *arguments)
    for x, y in zip(result, expected, strict=True):
        assert_close(x, y, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_in_closed_form_are_differences(groups: int):
    gru, x, memory, is_first = sequence(groups, 3, (2,))

    def run(x: Tensor, memory: Tensor, *weights: Tensor) -> Tensor:
        names = [name for name, _ in gru.named_parameters()]
        return torch.func.functional_call(gru, dict(zip(names, weights, strict=True)), (x, memory, is_first))

    assert torch.autograd.gradcheck(run, (x, memory, *gru.parameters()))


@pytest.mark.parametrize("library", ["mkl", "onednn"])
def test_in_float32_both_libraries_are_as_exact_as_autograd(library: Any, monkeypatch: Any):
    monkeypatch.setattr(products, "MIN_LINEAR_WORK", 1)
    gru, *arguments = sequence(1, 8, (6, 3), torch.float32)
    with products.use_library(library):
        result = with_gradients(gru, gru, *arguments)
    x, memory, is_first = arguments
    exact = with_gradients(gru.double(), cast(Any, gru)._run, x.double(), memory.double(), is_first)
    for a, b in zip(result, exact, strict=True):
        assert_close(a, b.float(), rtol=1e-5, atol=1e-5 * float(b.abs().max()))


def test_a_rollout_without_gradients_is_read_again_with_the_same_bits():
    gru, *arguments = sequence(1, 8, (6, 3), torch.float32)
    with torch.no_grad():
        before = gru(*arguments)
    assert torch.equal(gru(*arguments).detach(), before)


@pytest.mark.parametrize("kind", ["a sequence", "a single step", "bf16", "vmap", "other numbers"])
def test_what_the_closed_form_is_for(kind: str, monkeypatch: Any):
    calls: list[int] = []
    recur: Any = module.recur
    monkeypatch.setattr(module, "recur", lambda *args: calls.append(1) or recur(*args))
    gru, *arguments = sequence(1, 1 if kind == "a single step" else 4, (3,), torch.float32)
    expected = gru._run(*arguments)  # pyright: ignore
    if kind == "other numbers":
        gru.bfloat16()
        arguments = [x.bfloat16() if x.is_floating_point() else x for x in arguments]
    with torch.autocast("cpu", torch.bfloat16) if kind == "bf16" else nullcontext():
        if kind == "vmap":
            result = vmap(gru)(*[x.unsqueeze(0) for x in arguments])[0]
        else:
            result = gru(*arguments)
    assert bool(calls) == (kind == "a sequence")
    assert_close(result.float(), expected, rtol=0, atol=0.2 if kind in ("bf16", "other numbers") else 1e-6)


@pytest.mark.parametrize("groups", [1, 2])
def test_each_gate_of_each_group_starts_orthogonal(groups: int):
    gru = GRU(groups, 4, 6)
    for weight, size in ((gru.input.weight, 4), (gru.hidden.weight, 6)):
        gates = weight.detach().reshape(groups * 3, 6, size)
        assert_close(gates.mT @ gates, torch.eye(size).expand(groups * 3, -1, -1), rtol=0, atol=1e-5)


def test_a_gru_is_that_of_torch():
    gru, torchs = GRU(1, 4, 5).double(), nn.GRU(4, 5).double()
    unlike(gru)
    names = {"weight_ih_l0": gru.input.weight, "weight_hh_l0": gru.hidden.weight}
    torchs.load_state_dict(names | {"bias_ih_l0": gru.input.bias, "bias_hh_l0": gru.hidden.bias})
    x, memory = torch.randn(7, 3, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    never = torch.zeros(7, 3, dtype=torch.bool)
    after, expected = gru(x, memory, never), torchs(x, memory.unsqueeze(0))[0]
    assert_close(after, expected, rtol=1e-12, atol=1e-12)
    after.square().sum().backward()
    expected.square().sum().backward()
    for ours, name in ((gru.input, "ih"), (gru.hidden, "hh")):
        assert_close(ours.weight.grad, getattr(torchs, f"weight_{name}_l0").grad, rtol=1e-12, atol=1e-12)
        assert_close(ours.bias.grad, getattr(torchs, f"bias_{name}_l0").grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("is_closed", [False, True])
def test_where_memory_starts_anew_nothing_of_before_is_left(is_closed: bool, monkeypatch: Any):
    """Neither in what follows, though it was NaN, nor in the gradient."""
    monkeypatch.setattr(module, "has_closed_form", lambda *_: is_closed)
    gru = GRU(1, 4, 5)
    x, memory = torch.randn(6, 2, 4, requires_grad=True), torch.full((2, 5), math.nan, requires_grad=True)
    first = torch.zeros(6, 2, dtype=torch.bool)
    first[0, :], first[3, 0] = True, True
    after = gru(x, memory, first)
    assert after.isfinite().all()
    alone = gru(x[3:, :1], torch.zeros(1, 5), torch.zeros(3, 1, dtype=torch.bool))
    assert_close(after[3:, :1], alone)
    after[4, 0].sum().backward()
    assert x.grad is not None
    assert memory.grad is not None
    assert x.grad[3:5, 0].any(-1).all()
    assert not x.grad[:3].any()
    assert not memory.grad.any()


def test_memory_that_is_no_number_is_forgotten_within_a_sequence():
    """What follows a start has the gradients of a sequence without the steps before."""
    gru, x, memory, is_first = sequence(1, 6, (1,))
    is_first = torch.tensor([[False], [False], [False], [True], [False], [False]])
    spoilt = x.detach().clone()
    spoilt[1] = math.nan
    spoilt.requires_grad_()
    output = gru(spoilt, memory, is_first)
    alone = gru(x[3:], torch.zeros_like(memory), torch.zeros_like(is_first[3:]))
    assert output[1:3].isnan().all()
    assert_close(output[3:], alone, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(output[3:].square().sum(), spoilt)
    (expected,) = torch.autograd.grad(alone.square().sum(), x)
    assert_close(gradient[3:], expected[3:], rtol=1e-12, atol=1e-12)
