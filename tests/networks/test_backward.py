"""`record` and `backward` of layers and of MLPs: autograd's numbers, in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mappo.networks.layers import Activation, LayerNorm, Linear, NormedLinear
from mappo.networks.mlp import MLP


def randomise(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Random parameters with gradients of 0, in float64."""
    parameters = list(module.double().parameters())
    for p in parameters:
        p.data.normal_()
        p.grad = torch.zeros_like(p)
    return parameters


def assert_backward_is_autograd(stage: Any, parameters: Any, x: Tensor, has_dx: bool = True) -> None:
    dy = torch.randn_like(stage(x))
    x.requires_grad_()
    expected = torch.autograd.grad(stage(x), [x, *parameters], dy)
    with torch.no_grad():
        y, saved = stage.record(x.detach().clone())
        assert_close(y, stage(x.detach().clone()), rtol=0, atol=0)
        dx = stage.backward(dy.clone(), *saved)
        if has_dx:
            assert_close(dx, expected[0], rtol=1e-10, atol=1e-12)
            stage.backward(dy.clone(), *saved, needs_dx=False)  # adds the gradients again
        else:
            stage.backward(dy.clone(), *saved)
    for p, gradient in zip(parameters, expected[1:], strict=True):
        assert_close(p.grad, 2 * gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("out_features", [1, 5, 20])
def test_linear(groups: int, out_features: int):
    layer = Linear(groups, 6, out_features)
    parameters = randomise(layer)
    assert_backward_is_autograd(layer, parameters, torch.randn(3, 4, 2, 6, dtype=torch.float64))


@pytest.mark.parametrize("groups", [1, 3])
def test_layer_norm(groups: int):
    layer = LayerNorm(groups, 6)
    parameters = randomise(layer)
    assert_backward_is_autograd(layer, parameters, torch.randn(3, 4, 2, 6, dtype=torch.float64))


@pytest.mark.parametrize("groups", [1, 3])
def test_layer_norm_and_linear_in_a_product(groups: int):
    norm, linear = LayerNorm(groups, 6), Linear(groups, 6, 5)
    parameters = [*randomise(norm), *randomise(linear)]
    stage = NormedLinear(norm, linear)
    x = torch.randn(3, 4, 2, 6, dtype=torch.float64)
    assert_close(stage(x), linear(norm(x)), rtol=1e-12, atol=1e-12)
    assert_backward_is_autograd(stage, parameters, x, has_dx=False)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_activation(name: str):
    x = torch.randn(8, 6, dtype=torch.float64)
    assert_backward_is_autograd(Activation(name), [], x)
    assert_close(Activation(name)(x.detach()), torch.tanh(x) if name == "tanh" else torch.relu(x))


def test_the_gradient_of_tanh_passes_gradcheck():
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Activation("tanh"), [x])  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_an_mlp(activation: str, layer_norm: bool, groups: int):
    mlp = MLP(6, (5, 20), activation, layer_norm, groups)
    parameters = randomise(mlp)
    x = torch.randn(2, 7, 3, 6, dtype=torch.float64)
    y = mlp(x)
    dy = torch.randn_like(y)
    expected = torch.autograd.grad(y, parameters, dy)
    with torch.no_grad():
        result, saved = mlp.record(x)
        mlp.backward(dy, saved)
    assert_close(result, y.detach(), rtol=1e-12, atol=1e-12)
    for p, gradient in zip(parameters, expected, strict=True):
        assert_close(p.grad, gradient, rtol=1e-10, atol=1e-12)
