"""`ValueNorm`: running moments of what the critic learns."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mappo.networks.normalizers import ValueNorm


def returns(seed: int = 0, shape: tuple[int, ...] = (25, 8)) -> torch.Tensor:
    return 5 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)) - 30


def test_without_memory_it_has_the_moments_of_the_last_batch():
    norm = ValueNorm(decay=0.0)
    norm.update(returns(0), torch.ones(25, 8))
    norm.update(returns(1), torch.ones(25, 8))
    mean, std = norm.mean_std()
    last = returns(1).double().numpy()
    np.testing.assert_allclose(mean.item(), last.mean(), rtol=1e-6)
    np.testing.assert_allclose(std.item(), last.std(), rtol=1e-6)


def test_weights_weigh():
    norm, x = ValueNorm(decay=0.0), returns()
    weight = torch.randint(0, 4, (25, 8), generator=torch.Generator().manual_seed(0))
    norm.update(x, weight)
    repeated = np.repeat(x.double().numpy().ravel(), weight.numpy().ravel())
    mean, std = norm.mean_std()
    np.testing.assert_allclose([mean.item(), std.item()], [repeated.mean(), repeated.std()], rtol=1e-6)


def test_moments_move_exponentially_and_their_start_at_0_is_divided_out():
    norm, decay = ValueNorm(decay=0.9), 0.9
    batches = [returns(seed).double().numpy() for seed in range(3)]
    for x in batches:
        norm.update(torch.from_numpy(x), torch.ones(25, 8))
    shares = np.array([(1 - decay) * decay ** (2 - k) for k in range(3)])
    shares /= shares.sum()
    mean = sum(w * x.mean() for w, x in zip(shares, batches, strict=True))
    square = sum(w * (x**2).mean() for w, x in zip(shares, batches, strict=True))
    np.testing.assert_allclose(norm.mean_std()[0].item(), mean, rtol=1e-6)
    np.testing.assert_allclose(norm.mean_std()[1].item(), (square - mean**2) ** 0.5, rtol=1e-6)


def test_after_one_update_the_decay_does_not_matter():
    slow, fast = ValueNorm(decay=0.999), ValueNorm(decay=0.0)
    for norm in (slow, fast):
        norm.update(returns(), torch.ones(25, 8))
    assert_close(slow.mean_std(), fast.mean_std(), rtol=1e-6, atol=1e-6)


def test_before_the_first_update_it_is_the_identity():
    norm, x = ValueNorm(), returns()
    assert torch.equal(norm.normalize(x), x)
    assert torch.equal(norm.denormalize(x), x)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e30])
def test_samples_of_weight_0_are_never_heard(garbage: float):
    x, weight = returns(), torch.ones(25, 8)
    weight[3], weight[:, 2] = 0, 0
    clean, spoilt = ValueNorm(), ValueNorm()
    clean.update(x, weight)
    spoilt.update(torch.where(weight == 0, garbage, x), weight)
    assert torch.equal(clean.moments, spoilt.moments)


def test_a_batch_of_weight_0_changes_nothing():
    norm = ValueNorm()
    norm.update(torch.full((3,), math.nan), torch.zeros(3))
    assert norm.mean_std() == (0, 1)
    norm.update(returns(), torch.ones(25, 8))
    before = norm.moments.clone()
    norm.update(returns(1), torch.zeros(25, 8))
    assert torch.equal(norm.moments, before)


@pytest.mark.parametrize("garbage", [math.nan, math.inf])
def test_returns_that_are_not_finite_change_nothing(garbage: float):
    # Once NaN, the moments would stay NaN, and every step after it would be skipped.
    norm, spoilt = ValueNorm(), returns(1)
    norm.update(returns(), torch.ones(25, 8))
    before = norm.moments.clone()
    spoilt[3, 4] = garbage
    norm.update(spoilt, torch.ones(25, 8))
    assert torch.equal(norm.moments, before)


def test_normalize_and_denormalize_are_inverse():
    norm, x = ValueNorm(), returns()
    norm.update(x, torch.ones(25, 8))
    assert_close(norm.denormalize(norm.normalize(x)), x)
    normal = norm.normalize(x)
    assert normal.mean().item() == pytest.approx(0, abs=1e-5)
    assert normal.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_equal_returns_do_not_divide_by_0():
    norm = ValueNorm()
    norm.update(torch.full((10,), 7.0), torch.ones(10))
    assert norm.normalize(torch.full((2,), 7.0)).tolist() == pytest.approx([0.0, 0.0], abs=1e-3)


def test_the_state_dict_carries_the_moments():
    norm, other = ValueNorm(), ValueNorm()
    norm.update(returns(), torch.ones(25, 8))
    other.load_state_dict(norm.state_dict())
    assert torch.equal(other.moments, norm.moments)
    assert other.moments.dtype == torch.float64
    for x in (norm, other):
        x.update(returns(1), torch.ones(25, 8))
    assert torch.equal(other.moments, norm.moments)


def test_no_gradient_passes_into_the_moments():
    norm = ValueNorm()
    norm.update(returns(), torch.ones(25, 8))
    assert not any(p.requires_grad for p in norm.parameters())
    assert not norm.mean_std()[0].requires_grad
