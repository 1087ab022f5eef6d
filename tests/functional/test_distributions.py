"""Law 6: a masked action is never sampled and never learned from. Else: `torch.distributions`, by hand."""

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor
from torch.distributions import Categorical, Normal, TanhTransform, TransformedDistribution
from torch.testing import assert_close

from mappo.functional.distributions import (
    categorical_log_prob,
    categorical_mode,
    categorical_sample,
    gaussian_log_prob,
    gaussian_sample,
    log_prob_of_heads,
    mode_of_heads,
    sample_heads,
    sum_tensors,
    tanh_gaussian_log_prob,
    vjp_of_heads,
)

LAST = {torch.float32: 1 - 2.0**-24, torch.float64: 1 - 2.0**-53}  # the largest number below 1
HEADS = (3, 2, 4)


def random_mask(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """About half legal, at least one in each row."""
    mask = torch.rand(shape, generator=generator) < 0.5
    one = torch.randint(shape[-1], shape[:-1], generator=generator)
    return mask | torch.nn.functional.one_hot(one, shape[-1]).bool()


def by_torch(logit: Tensor, mask: Tensor) -> Categorical:
    return Categorical(logits=logit.masked_fill(~mask, -math.inf))


@given(
    seed=st.integers(0, 2**31),
    actions=st.integers(1, 20),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_masked_action_is_never_sampled_whatever_the_noise(seed: int, actions: int, scale: float, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(seed)
    logit = scale * torch.randn(64, actions, dtype=dtype, generator=generator)
    mask = random_mask(generator, (64, actions))
    ends = [0.0, 2.0**-24, 0.5, 1 - 2.0**-24, LAST[dtype]]
    steps = by_torch(logit, mask).probs.cumsum(-1)  # the noise that falls on the edges between actions
    edges = [x.clamp(0, LAST[dtype]) for x in steps.unbind(-1)]
    for noise in [torch.full((64,), x, dtype=dtype) for x in ends] + edges:
        action, log_prob = categorical_sample(logit, noise, mask)
        assert mask.gather(-1, action.unsqueeze(-1)).all()
        assert log_prob.isfinite().all()


def test_float32_noise_does_for_float64_logits():
    logit, mask = torch.randn(8, 5, dtype=torch.float64), torch.tensor([False, True, False, True, False])
    for noise, action in ((0.0, 1), (1 - 2.0**-24, 3)):
        assert (categorical_sample(logit, torch.full((8,), noise), mask.expand(8, 5))[0] == action).all()


def test_an_action_of_probability_0_is_never_sampled():
    logit = torch.tensor([[-1e4, 0.0, -1e4, 0.0, -1e4]])
    assert categorical_sample(logit, torch.zeros(1))[0].item() == 1
    assert categorical_sample(logit, torch.full((1,), LAST[torch.float32]))[0].item() == 3


def test_a_masked_action_is_never_learned_from():
    generator = torch.Generator().manual_seed(0)
    logit = torch.randn(50, 6, generator=generator, requires_grad=True)
    mask = random_mask(generator, (50, 6))
    action, _ = categorical_sample(logit, torch.rand(50, generator=generator), mask)
    log_prob, entropy = categorical_log_prob(logit, action, mask)
    (log_prob.sum() + entropy.sum()).backward()
    assert logit.grad is not None
    assert (logit.grad[~mask] == 0).all()
    assert (logit.grad[mask] != 0).any()


@pytest.mark.parametrize("hidden", [math.nan, math.inf, -math.inf])
def test_what_a_masked_logit_holds_is_never_seen(hidden: float):
    generator = torch.Generator().manual_seed(0)
    logit, mask = torch.randn(50, 6, generator=generator), random_mask(generator, (50, 6))
    spoilt, noise = torch.where(mask, logit, hidden), torch.rand(50, generator=generator)
    assert_close(categorical_sample(spoilt, noise, mask), categorical_sample(logit, noise, mask), rtol=0, atol=0)
    assert torch.equal(categorical_mode(spoilt, mask), categorical_mode(logit, mask))


@given(seed=st.integers(0, 2**31), heads=st.sampled_from([(4,), HEADS]), masked=st.booleans())
def test_the_gradient_in_closed_form_is_that_of_autograd(seed: int, heads: tuple[int, ...], masked: bool):
    generator = torch.Generator().manual_seed(seed)
    make = {"dtype": torch.float64, "generator": generator}
    logit = torch.randn(5, 3, sum(heads), **make).requires_grad_()
    # Some actions are not legal, and some rows have no legal action.
    mask = torch.rand(5, 3, sum(heads), **make) < 0.6 if masked else None
    action = torch.stack([torch.randint(n, (5, 3), generator=generator) for n in heads], -1)
    gradients = torch.rand(2, 5, 3, **make) - 0.5  # larger than 1, autograd's overflow behind the mask
    outputs = log_prob_of_heads(logit, action, heads, mask)
    (expected,) = torch.autograd.grad(outputs, logit, list(gradients))
    *result, vjp = vjp_of_heads(logit.detach(), action, heads, mask)
    assert_close(result, [x.detach() for x in outputs], rtol=0, atol=0)
    assert_close(vjp(*gradients), expected, rtol=1e-12, atol=1e-12)
    assert mask is None or not vjp(*gradients)[~mask].any()


def test_a_row_with_nothing_legal_is_finite_and_uniform():
    logit = torch.randn(2, 4, requires_grad=True)
    mask = torch.tensor([[False] * 4, [True] * 4])
    log_prob, entropy = categorical_log_prob(logit, torch.tensor([2, 2]), mask)
    assert log_prob[0].item() == pytest.approx(-math.log(4))
    assert entropy[0].item() == pytest.approx(math.log(4))
    action, sampled = categorical_sample(logit, torch.tensor([0.6, 0.6]), mask)
    assert action[0] == 2
    assert sampled.isfinite().all()
    (log_prob.sum() + entropy.sum()).backward()
    assert logit.grad is not None
    assert logit.grad.isfinite().all()
    assert not logit.grad[0].any()


def test_sampling_frequencies_match_the_probabilities():
    rows, generator = 20_000, torch.Generator().manual_seed(0)
    logit = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0])
    mask = torch.tensor([True, True, False, True, True])
    noise = torch.rand(rows, generator=generator)
    action, _ = categorical_sample(logit.expand(rows, -1), noise, mask.expand(rows, -1))
    seen = torch.bincount(action, minlength=5)[mask].double()
    expected = rows * by_torch(logit, mask).probs[mask].double()
    assert seen.sum() == rows
    assert ((seen - expected) ** 2 / expected).sum() < 11.34  # chi-square of 3 degrees of freedom, 1 %


def test_sampling_inverts_the_cumulative_distribution():
    logit = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    noise = torch.tensor([0.0, 0.09, 0.11, 0.29, 0.31, 0.59, 0.61, 0.99])
    assert categorical_sample(logit.expand(8, -1), noise)[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("batch", [(), (7,), (3, 2, 4)])
def test_log_probability_and_entropy_equal_torch_distributions(batch: tuple[int, ...]):
    generator = torch.Generator().manual_seed(1)
    logit = 3 * torch.randn(*batch, 5, dtype=torch.float64, generator=generator)
    mask = random_mask(generator, (*batch, 5))
    noise = torch.rand(batch, dtype=torch.float64, generator=generator)
    action, sampled = categorical_sample(logit, noise, mask)
    log_prob, entropy = categorical_log_prob(logit, action, mask)
    expected = by_torch(logit, mask)
    assert_close(log_prob, expected.log_prob(action), rtol=1e-12, atol=1e-12)
    assert_close(sampled, log_prob, rtol=0, atol=0)
    plain = (expected.probs * expected.logits.clamp_min(-1e300)).sum(-1)
    assert_close(entropy, -plain, rtol=1e-12, atol=1e-12)
    assert_close(categorical_log_prob(logit, action)[1], Categorical(logits=logit).entropy(), rtol=1e-12, atol=1e-12)


def test_the_mode_is_the_likeliest_legal_action_and_the_first_of_equals():
    logit = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [2.0, 2.0, 1.0]])
    mask = torch.tensor([[True, True, True], [True, False, True], [True, True, True]])
    assert categorical_mode(logit, mask).tolist() == [1, 2, 0]
    assert categorical_mode(logit).tolist() == [1, 1, 0]


@pytest.mark.parametrize("masked", [False, True])
def test_heads_are_independent_and_their_log_probabilities_add_up(masked: bool):
    generator = torch.Generator().manual_seed(2)
    logit = torch.randn(5, 2, sum(HEADS), dtype=torch.float64, generator=generator)
    parts = logit.split(HEADS, -1)
    masks = [random_mask(generator, x.shape) if masked else None for x in parts]
    mask = torch.cat([m for m in masks if m is not None], -1) if masked else None
    noise = torch.rand(5, 2, len(HEADS), dtype=torch.float64, generator=generator)

    action, sampled = sample_heads(logit, noise, HEADS, mask)
    assert action.shape == (5, 2, len(HEADS))
    assert action.dtype == torch.int64
    alone = [categorical_sample(x, noise[..., d], m) for d, (x, m) in enumerate(zip(parts, masks, strict=True))]
    assert torch.equal(action, torch.stack([a for a, _ in alone], -1))
    log_prob, entropy = log_prob_of_heads(logit, action, HEADS, mask)
    again = [categorical_log_prob(x, action[..., d], m) for d, (x, m) in enumerate(zip(parts, masks, strict=True))]
    assert_close(log_prob, torch.stack([p for p, _ in again]).sum(0), rtol=1e-12, atol=1e-12)
    assert_close(entropy, torch.stack([h for _, h in again]).sum(0), rtol=1e-12, atol=1e-12)
    assert_close(sampled, log_prob, rtol=0, atol=0)
    modes = [categorical_mode(x, m) for x, m in zip(parts, masks, strict=True)]
    assert torch.equal(mode_of_heads(logit, HEADS, mask), torch.stack(modes, -1))


@pytest.mark.parametrize("heads", [(3, 3), (2, 2), (4,), (6,)])
def test_heads_must_fit_the_logits(heads: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"logits \(2, 5\) do not fit heads of sizes"):
        mode_of_heads(torch.zeros(2, 5), heads)


def test_sum_of_adds_and_leaves_its_parts_alone():
    parts = [torch.ones(2), torch.full((2,), 2.0), torch.full((2,), 3.0)]
    assert sum_tensors(parts).tolist() == [6.0, 6.0]
    assert parts[0].tolist() == [1.0, 1.0]


# Densities of one number


def numbers(count: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """Means, log standard deviations and drawn numbers, float64."""
    mean, log_std, z = torch.randn(3, count, dtype=torch.float64)
    return mean, log_std, mean + log_std.exp() * z


def even_noise(count: int) -> Tensor:
    """Noise that is spread evenly in place of at random: means over it converge fast."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def test_log_density_and_entropy_of_a_gaussian_are_those_of_torch():
    mean, log_std, u = numbers()
    log_prob, entropy = gaussian_log_prob(mean, log_std, u)
    assert_close(log_prob, Normal(mean, log_std.exp()).log_prob(u), rtol=1e-12, atol=1e-12)
    assert_close(entropy, Normal(mean, log_std.exp()).entropy(), rtol=1e-12, atol=1e-12)


def test_log_density_of_a_squashed_gaussian_is_that_of_torch():
    mean, log_std, u = numbers()
    kept = u.abs() < 5  # torch's density is rounded where tanh(u) comes close to 1
    squashed = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1))
    log_prob, _ = tanh_gaussian_log_prob(mean, log_std, u)
    assert_close(log_prob[kept], squashed.log_prob(torch.tanh(u))[kept], rtol=1e-9, atol=1e-9)
    assert kept.sum() > 150


def squashed_density(mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor, float]:
    """The density of y = tanh(u), and its logarithm, at evenly spread y in (-1, 1); and their distance."""
    count = 400_000
    y = (torch.arange(count, dtype=torch.float64) + 0.5) * (2 / count) - 1
    log_prob, _ = tanh_gaussian_log_prob(mean, log_std, torch.atanh(y))
    return log_prob.exp(), log_prob, 2 / count


SHAPES = [(0.0, -1.0), (0.7, -0.7), (-1.5, -0.4), (0.3, -0.1)]  # mean, log std


@pytest.mark.parametrize(("mean", "log_std"), SHAPES)
def test_the_density_of_a_squashed_gaussian_integrates_to_1(mean: float, log_std: float):
    density, _, width = squashed_density(torch.tensor(mean), torch.tensor(log_std))
    assert density.sum().item() * width == pytest.approx(1, abs=1e-5)


def entropy_by_integration(mean: float, log_std: float) -> float:
    density, log_prob, width = squashed_density(torch.tensor(mean).double(), torch.tensor(log_std).double())
    return -(density * log_prob).nan_to_num(0.0).sum().item() * width


@pytest.mark.parametrize(("mean", "log_std"), SHAPES)
def test_the_entropy_of_a_squashed_gaussian_is_estimated_without_bias_and_so_is_its_gradient(
    mean: float, log_std: float
):
    at = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (mean, log_std)]
    u = gaussian_sample(at[0], at[1], even_noise(200_000)).detach()
    estimate = tanh_gaussian_log_prob(at[0], at[1], u)[1].mean()
    assert estimate.item() == pytest.approx(entropy_by_integration(mean, log_std), abs=1e-4)
    step = 1e-3
    by_mean = entropy_by_integration(mean + step, log_std) - entropy_by_integration(mean - step, log_std)
    by_std = entropy_by_integration(mean, log_std + step) - entropy_by_integration(mean, log_std - step)
    gradient = [x.item() for x in torch.autograd.grad(estimate, at)]
    assert gradient == pytest.approx([by_mean / (2 * step), by_std / (2 * step)], abs=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("u", [20.0, -20.0, 100.0])
def test_far_beyond_the_bounds_density_and_gradient_are_exact_and_finite(dtype: torch.dtype, u: float):
    mean = torch.tensor(u - 0.5, dtype=dtype, requires_grad=True)
    log_std = torch.tensor(0.0, dtype=dtype, requires_grad=True)
    log_prob, entropy = tanh_gaussian_log_prob(mean, log_std, torch.tensor(u, dtype=dtype))
    slope = 2 * math.log(2) - 2 * abs(u)  # log(1 - tanh(u)^2), so far out
    assert log_prob.item() == pytest.approx(-0.125 - 0.5 * math.log(2 * math.pi) - slope, rel=1e-6)
    assert entropy.item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e) + slope, rel=1e-6)
    by_mean, by_std = torch.autograd.grad(log_prob + entropy, [mean, log_std])
    sign = math.copysign(1, u)
    assert by_mean.item() == pytest.approx(0.5 - 2 * sign, rel=1e-5)
    assert by_std.item() == pytest.approx(0.25 - 1 + 1 - 2 * sign * 0.5, rel=1e-5, abs=1e-6)


def test_numbers_are_drawn_by_the_quantiles_of_a_normal_distribution():
    noise, mean, log_std = even_noise(100_001), torch.tensor(3.0).double(), torch.tensor(-0.5).double()
    drawn = gaussian_sample(mean, log_std, noise)
    z = (drawn - mean) / log_std.exp()
    moments = [z.mean().item(), z.square().mean().item(), z.pow(3).mean().item(), z.pow(4).mean().item()]
    assert moments == pytest.approx([0, 1, 0, 3], abs=5e-3)
    assert_close(drawn, Normal(mean, log_std.exp()).icdf(noise), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_least_and_the_most_noise_draw_finite_numbers(dtype: torch.dtype):
    most = 1 - 2.0 ** (-24 if dtype == torch.float32 else -53)
    mean = torch.zeros(2, dtype=dtype)
    drawn = gaussian_sample(mean, mean, torch.tensor([0.0, most], dtype=dtype))
    assert drawn.isfinite().all()
    assert -5.5 < drawn[0] < -5  # below the quantile of the least positive noise, 2^-24, and not far below
    assert drawn[1] > 5
    assert tanh_gaussian_log_prob(mean, mean, drawn)[0].isfinite().all()
