"""The losses with their gradients in closed form: `losses.py` by autograd, in float64."""

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor
from torch.testing import assert_close

from mappo.functional.gradients import ppo_clip_gradient, ppo_value_gradient
from mappo.functional.losses import ppo_clip_loss, ppo_value_data, ppo_value_error

ROWS = (7, 5)
GARBAGE = st.sampled_from([0.0, torch.nan, torch.inf])
SEEDS = st.integers(0, 2**31)


def normal(seed: int, count: int) -> Tensor:
    return torch.randn(count, *ROWS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def weights(seed: int, garbage: float, *rows: Tensor) -> Tensor:
    """A third of 0, and garbage in the rows of weight 0."""
    weight = torch.randint(3, ROWS, generator=torch.Generator().manual_seed(seed)).double()
    for x in rows:
        x[weight == 0] = garbage
    return weight


@given(SEEDS, st.sampled_from([0.1, 0.5]), st.sampled_from([None, 1.05, 2.0]), GARBAGE)
def test_the_clipped_surrogate(seed: int, clip_ratio: float, dual_clip: float | None, garbage: float):
    new, old, adv = 0.5 * normal(seed, 3)
    weight = weights(seed, garbage, old, adv)
    new.requires_grad_()
    expected, expected_info = ppo_clip_loss(new, old, adv, weight, clip_ratio, dual_clip)
    (expected_gradient,) = torch.autograd.grad(expected, new)
    fraction = weight / weight.sum()
    loss, info, gradient = ppo_clip_gradient(new.detach(), old, adv, fraction, clip_ratio, dual_clip)
    assert_close(loss, expected.detach())
    assert_close(list(info), list(expected_info))
    assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-14)
    assert not gradient[weight == 0].any()


@given(
    SEEDS,
    st.sampled_from([None, 0.3]),
    st.sampled_from([None, 0.5, 10.0]),
    st.sampled_from([0.0, torch.nan, torch.inf]),
)
def test_the_value_loss(seed: int, clip_ratio: float | None, huber_delta: float | None, garbage: float):
    new, old, return_ = normal(seed, 3)
    weight = weights(seed, garbage, old, return_)
    new.requires_grad_()
    expected = ppo_value_error(ppo_value_data(new, old, return_, weight), clip_ratio, huber_delta)
    (expected_gradient,) = torch.autograd.grad(expected, new)
    data = ppo_value_data(new.detach(), old, return_)
    loss, gradient = ppo_value_gradient(data, weight / weight.sum(), clip_ratio, huber_delta)
    assert_close(loss, expected.detach())
    assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-14)
    assert not gradient[weight == 0].any()


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf])
def test_a_weighted_row_that_is_not_finite_makes_a_loss_that_is_not_finite(garbage: float):
    x = torch.zeros(3, 4)
    spoilt = torch.tensor([0.0, garbage, 0.0, 0.0])
    fraction = torch.full((4,), 0.25)
    assert not ppo_clip_gradient(x[0], x[1], spoilt, fraction, 0.2)[0].isfinite()
    assert not ppo_value_gradient(ppo_value_data(x[0], x[1], spoilt), fraction, 0.2, None)[0].isfinite()
