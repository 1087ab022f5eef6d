"""Laws 2 and 6: the losses equal numpy's, and a sample of weight 0 is never heard, whatever it holds."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.testing import assert_close

from mappo.functional.losses import ppo_clip_loss, ppo_policy_data, ppo_policy_error, ppo_value_data, ppo_value_error
from mappo.functional.weighted import weighted_mean

Array = NDArray[np.float64]
GARBAGE = [math.nan, math.inf, -math.inf, 1e300]


def policy_data(seed: int = 0, batch: tuple[int, ...] = (4, 5), actions: int = 6) -> ppo_policy_data:
    """Random policies, far enough apart that clipping matters, one weight in three 0."""
    generator = torch.Generator().manual_seed(seed)
    logit_new, logit_old = torch.randn(2, *batch, actions, dtype=torch.float64, generator=generator)
    action = torch.randint(actions, batch, generator=generator)
    adv = torch.randn(batch, dtype=torch.float64, generator=generator)
    weight = 3 * torch.rand(batch, dtype=torch.float64, generator=generator)
    weight = torch.where(torch.rand(batch, generator=generator) < 1 / 3, 0.0, weight)
    return ppo_policy_data(logit_new, logit_old, action, adv, weight)


def value_data(seed: int = 0, batch: tuple[int, ...] = (4, 5)) -> ppo_value_data:
    generator = torch.Generator().manual_seed(seed)
    new, old, return_ = torch.randn(3, *batch, dtype=torch.float64, generator=generator)
    weight = 3 * torch.rand(batch, dtype=torch.float64, generator=generator)
    return ppo_value_data(new, old, return_, torch.where(weight < 1, 0.0, weight))


def numpy_log_softmax(logit: Array) -> Array:
    return logit - np.log(np.exp(logit).sum(-1, keepdims=True))


def numpy_mean(x: Array, weight: Array) -> float:
    return float((x * weight).sum() / weight.sum()) if weight.sum() > 0 else 0.0


def numpy_policy_error(data: ppo_policy_data, clip: float, dual: float | None) -> tuple[float, float, float, float]:
    """Policy loss, entropy, k3 estimate of the KL divergence and share of clipped ratios, sample by sample."""
    logit_new, logit_old, action, adv, weight = (x.numpy() for x in data if x is not None)
    new, old = numpy_log_softmax(logit_new), numpy_log_softmax(logit_old)
    objective, entropy, kl, clipped = np.zeros((4, *adv.shape))
    for i in np.ndindex(adv.shape):
        log_ratio = new[i][action[i]] - old[i][action[i]]
        ratio = math.exp(log_ratio)
        objective[i] = min(ratio * adv[i], min(max(ratio, 1 - clip), 1 + clip) * adv[i])
        if dual is not None and adv[i] < 0:
            objective[i] = max(objective[i], dual * adv[i])
        entropy[i] = -sum(math.exp(p) * p for p in new[i])
        kl[i] = ratio - 1 - log_ratio
        clipped[i] = abs(ratio - 1) > clip
    policy, entropy, kl, clipped = (numpy_mean(x, weight) for x in (objective, entropy, kl, clipped))
    return -policy, entropy, kl, clipped


def numpy_value_error(data: ppo_value_data, clip: float | None, delta: float | None) -> float:
    new, old, return_, weight = (x.numpy() for x in data if x is not None)

    def penalty(error: Array) -> Array:
        if delta is None:
            return error**2 / 2
        return np.where(np.abs(error) <= delta, error**2 / 2, delta * (np.abs(error) - delta / 2))

    loss = penalty(return_ - new)
    if clip is not None:
        loss = np.maximum(loss, penalty(return_ - (old + np.clip(new - old, -clip, clip))))
    return numpy_mean(loss, weight)


@given(st.integers(0, 2**31), st.floats(0.01, 1.0), st.none() | st.floats(1.01, 5.0), st.integers(1, 9))
def test_policy_error_equals_numpy(seed: int, clip: float, dual: float | None, rows: int):
    data = policy_data(seed, (rows,))
    loss, info = ppo_policy_error(data, clip, dual)
    result = [x.item() for x in (*loss, *info)]
    np.testing.assert_allclose(result, numpy_policy_error(data, clip, dual), rtol=1e-10, atol=1e-12)


@given(st.integers(0, 2**31), st.none() | st.floats(0.01, 2.0), st.none() | st.floats(0.01, 2.0))
def test_value_error_equals_numpy(seed: int, clip: float | None, delta: float | None):
    data = value_data(seed)
    result = ppo_value_error(data, clip, delta).item()
    np.testing.assert_allclose(result, numpy_value_error(data, clip, delta), rtol=1e-10, atol=1e-12)


def test_policy_error_clips_at_both_ends_and_dual_clip_bounds_bad_actions():
    # Two actions; the old policy is even. The ratio of action 0 is 2 * sigmoid(logit_0 - logit_1): 1.5 at log 3.
    up, even = torch.tensor([math.log(3.0), 0.0]), torch.zeros(2)

    def loss(new: Tensor, action: int, adv: float, dual: float | None = None) -> float:
        data = ppo_policy_data(new[None], even[None], torch.tensor([action]), torch.tensor([adv]))
        return ppo_policy_error(data, 0.2, dual)[0].policy_loss.item()

    assert loss(up, 0, 1.0) == pytest.approx(-1.2)  # ratio 1.5, good: no more than 1.2 counts
    assert loss(up, 1, -1.0) == pytest.approx(0.8)  # ratio 0.5, bad: no less than 0.8 counts
    assert loss(up, 0, -1.0) == pytest.approx(1.5)  # ratio 1.5, bad: counts in full
    assert loss(up, 0, -1.0, dual=1.25) == pytest.approx(1.25)  # but for the dual clip
    assert loss(up, 1, 1.0) == pytest.approx(-0.5)


def test_the_weighted_mean_divides_by_the_sum_of_the_weights():
    # Regression: an earlier program divided by the count of all samples.
    x, weight = torch.tensor([1.0, 5.0, 100.0]), torch.tensor([3.0, 1.0, 0.0])
    assert weighted_mean(x, weight).item() == 2.0
    assert weighted_mean(x, torch.zeros(3)).item() == 0.0
    assert weighted_mean(x, None).item() == pytest.approx(106 / 3)


def test_padding_with_samples_of_weight_0_changes_nothing():
    data = policy_data()
    kept = data.weight != 0
    assert not kept.all()
    alone = ppo_policy_error(ppo_policy_data(*(x[kept] for x in data)))
    for x, y in zip(ppo_policy_error(data), alone, strict=True):
        assert_close(x, y, rtol=1e-12, atol=0)


def test_a_single_choice_has_no_entropy_and_the_advantages_as_its_loss():
    data = policy_data(actions=1)
    assert data.weight is not None
    assert (data.weight == 0).any()
    loss, info = ppo_policy_error(data)
    assert loss.policy_loss.item() == pytest.approx(-numpy_mean(data.adv.numpy(), data.weight.numpy()))
    assert loss.entropy_loss == info.approx_kl == info.clipfrac == 0


def test_no_weight_means_weight_1():
    data = policy_data()._replace(weight=torch.ones(4, 5))
    assert_close(ppo_policy_error(data._replace(weight=None)), ppo_policy_error(data))
    values = value_data()._replace(weight=torch.ones(4, 5))
    assert_close(ppo_value_error(values._replace(weight=None)), ppo_value_error(values))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_weights_may_be_flags(dtype: torch.dtype):
    data, values = policy_data(), value_data()
    flags = data.weight != 0
    assert_close(
        ppo_policy_error(data._replace(weight=flags.to(dtype))),
        ppo_policy_error(data._replace(weight=flags.double())),
    )
    assert_close(
        ppo_value_error(values._replace(weight=flags.to(dtype))),
        ppo_value_error(values._replace(weight=flags.double())),
    )


@given(st.integers(0, 2**31))
def test_the_kl_estimate_is_never_negative(seed: int):
    # Regression: the plain mean of log-ratios can be.
    assert ppo_policy_error(policy_data(seed))[1].approx_kl >= 0


def test_equal_policies_have_kl_0_and_nothing_clipped():
    data = policy_data()
    loss, info = ppo_policy_error(data._replace(logit_new=data.logit_old))
    assert info.approx_kl == 0
    assert info.clipfrac == 0
    assert_close(loss.policy_loss, -weighted_mean(data.adv, data.weight))


def test_losses_and_metrics_are_scalar_tensors_and_metrics_have_no_gradient():
    # Regression: an earlier program called .item(), one wait for the device each.
    data = policy_data()
    data.logit_new.requires_grad_()
    loss, info = ppo_policy_error(data)
    assert all(isinstance(x, Tensor) and x.shape == () and x.requires_grad for x in loss)
    assert all(isinstance(x, Tensor) and x.shape == () and not x.requires_grad for x in info)
    assert isinstance(ppo_value_error(value_data()), Tensor)


def gradients(loss: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss, and its gradients with respect to the inputs."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    result = loss(*leaves)
    return result.detach(), torch.autograd.grad(result, leaves, materialize_grads=True)


def policy_total(data: ppo_policy_data) -> Callable[[Tensor], Tensor]:
    def total(logit_new: Tensor) -> Tensor:
        loss, _ = ppo_policy_error(data._replace(logit_new=logit_new), 0.2, 3.0)
        return loss.policy_loss - 0.1 * loss.entropy_loss

    return total


def spoil(x: Tensor, weight: Tensor, garbage: float) -> Tensor:
    """`x` with garbage in every sample of weight 0."""
    silent = (weight == 0).reshape(*weight.shape, *[1] * (x.ndim - weight.ndim))
    return torch.where(silent, torch.tensor(garbage, dtype=x.dtype), x)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("field", ["logit_new", "logit_old", "adv", "action", "all"])
def test_policy_samples_of_weight_0_are_never_heard(field: str, garbage: float):
    data = policy_data()
    weight = data.weight
    changes: dict[str, Tensor] = {
        name: spoil(getattr(data, name), weight, garbage) for name in ("logit_new", "logit_old", "adv")
    }
    changes["action"] = torch.where(weight == 0, -(10**6), data.action)
    if field != "all":
        changes = {field: changes[field]}
    spoilt = data._replace(**changes)
    loss, (grad,) = gradients(policy_total(data), data.logit_new)
    spoilt_loss, (spoilt_grad,) = gradients(policy_total(spoilt), spoilt.logit_new)
    assert spoilt_loss == loss
    assert torch.equal(spoilt_grad, grad)
    assert not spoilt_grad[weight == 0].any()
    assert_close(ppo_policy_error(spoilt), ppo_policy_error(data), rtol=0, atol=0)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("field", ["value_new", "value_old", "return_", "all"])
@pytest.mark.parametrize(("clip", "delta"), [(None, None), (0.2, None), (0.2, 0.5)])
def test_value_samples_of_weight_0_are_never_heard(field: str, garbage: float, clip: float | None, delta: float | None):
    data = value_data()
    names = ("value_new", "value_old", "return_") if field == "all" else (field,)
    spoilt = data._replace(**{name: spoil(getattr(data, name), data.weight, garbage) for name in names})

    def loss(*inputs: Tensor) -> Tensor:
        return ppo_value_error(ppo_value_data(*inputs, data.weight), clip, delta)

    expected, expected_grads = gradients(loss, *data[:3])
    result, grads = gradients(loss, *spoilt[:3])
    assert result == expected
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert torch.equal(grad, expected_grad)
        assert not grad[data.weight == 0].any()


def test_a_network_feeding_the_logits_learns_nothing_from_samples_of_weight_0():
    # What the network read must be zeroed before it (0 * NaN in its own backward pass); the loss does the rest.
    data = policy_data()
    heard = (data.weight != 0).unsqueeze(-1)
    features = torch.randn(4, 5, 3, dtype=torch.float64)
    network = nn.Linear(3, 6, dtype=torch.float64)

    def parameter_gradients(features: Tensor, data: ppo_policy_data) -> list[Tensor]:
        network.zero_grad()
        policy_total(data)(network(features)).backward()
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    zeroed = torch.where(heard, features, 0.0)
    spoilt = data._replace(adv=spoil(data.adv, data.weight, math.nan))
    expected = parameter_gradients(features, data)
    for grad, clean in zip(parameter_gradients(zeroed, spoilt), expected, strict=True):
        assert grad.isfinite().all()
        assert_close(grad, clean, rtol=1e-12, atol=1e-14)


def test_all_weights_0_give_loss_0_and_gradient_0():
    data = policy_data()._replace(weight=torch.zeros(4, 5, dtype=torch.float64))
    loss, (grad,) = gradients(policy_total(data), data.logit_new)
    assert loss == 0
    assert not grad.any()


@pytest.mark.parametrize("dual", [None, 3.0])
def test_the_gradient_is_that_of_torch_distributions(dual: float | None):
    data = policy_data()
    adv, weight = data.adv, data.weight

    def by_distributions(logit_new: Tensor) -> Tensor:
        new = torch.distributions.Categorical(logits=logit_new)
        old = torch.distributions.Categorical(logits=data.logit_old)
        ratio = (new.log_prob(data.action) - old.log_prob(data.action)).exp()
        objective = torch.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv)
        if dual is not None:
            objective = torch.where(adv < 0, torch.max(objective, dual * adv), objective)
        return -((objective + 0.1 * new.entropy()) * weight).sum() / weight.sum()

    def by_us(logit_new: Tensor) -> Tensor:
        loss, _ = ppo_policy_error(data._replace(logit_new=logit_new), 0.2, dual)
        return loss.policy_loss - 0.1 * loss.entropy_loss

    assert_close(gradients(by_us, data.logit_new), gradients(by_distributions, data.logit_new), rtol=1e-10, atol=1e-12)


def test_a_team_value_does_not_broadcast_against_the_returns_of_agents():
    # Regression: (B, 1) against (B, A) once made a loss of every agent's return with one value.
    team, agents = torch.zeros(4, 1), torch.zeros(4, 5)
    with pytest.raises(ValueError, match=r"value_new must have the shape of return_, \(4, 5\), got \(4, 1\)"):
        ppo_value_error(ppo_value_data(team, team, agents))
    with pytest.raises(ValueError, match=r"value_old must have the shape of return_"):
        ppo_value_error(ppo_value_data(agents, team, agents))


def small() -> dict[str, Tensor]:
    return {
        "logit_new": torch.zeros(2, 3),
        "logit_old": torch.zeros(2, 3),
        "action": torch.zeros(2, dtype=torch.long),
        "adv": torch.zeros(2),
        "weight": torch.ones(2),
    }


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"logit_new": torch.zeros(3, 3)}, ValueError, r"logit_new must be \(\*B, N\) for adv of shape \(2,\)"),
        ({"logit_new": torch.zeros(())}, ValueError, r"logit_new must be \(\*B, N\) .* got \(\)"),
        ({"logit_old": torch.zeros(2)}, ValueError, r"logit_old must be \(\*B, N\) .* got \(2,\)"),
        ({"logit_old": torch.zeros(2, 4)}, ValueError, r"logit_new \(2, 3\) and logit_old \(2, 4\) must be"),
        ({"action": torch.zeros(2, 1).long()}, ValueError, r"action must have adv's shape \(2,\), got \(2, 1\)"),
        ({"action": torch.zeros(2)}, TypeError, r"action must be of an integer type, got torch.float32"),
        ({"action": torch.zeros(2).bool()}, TypeError, r"action must be of an integer type, got torch.bool"),
        ({"adv": torch.zeros(2).long()}, TypeError, r"adv must be floating point, got torch.int64"),
        ({"weight": torch.ones(2, 1)}, ValueError, r"weight must have the shape of adv, \(2,\), got \(2, 1\)"),
    ],
)
def test_policy_error_names_what_is_wrong(changes: dict[str, Tensor], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        ppo_policy_error(ppo_policy_data(**(small() | changes)))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"return_": torch.zeros(2).int()}, TypeError, r"return_ must be floating point, got torch.int32"),
        ({"value_new": torch.zeros(2).int()}, TypeError, r"value_new must be floating point"),
        ({"weight": torch.zeros(2, 1)}, ValueError, r"weight must have the shape of return_, \(2,\), got"),
    ],
)
def test_value_error_names_what_is_wrong(changes: dict[str, Tensor], error: type[Exception], message: str):
    good = dict.fromkeys(("value_new", "value_old", "return_"), torch.zeros(2))
    with pytest.raises(error, match=message):
        ppo_value_error(ppo_value_data(**(good | changes)))


def test_clips_must_be_sensible():
    data, values = ppo_policy_data(**small()), ppo_value_data(*torch.zeros(3, 2))
    with pytest.raises(ValueError, match="clip_ratio must be above 0, got 0"):
        ppo_policy_error(data, clip_ratio=0)
    with pytest.raises(ValueError, match="dual_clip must be above 1, got 1"):
        ppo_policy_error(data, dual_clip=1)
    with pytest.raises(ValueError, match=r"clip_ratio must be above 0 or None, got -0\.2"):
        ppo_value_error(values, clip_ratio=-0.2)
    for delta in (0, -1):
        with pytest.raises(ValueError, match=f"huber_delta must be above 0 or None, got {delta}"):
            ppo_value_error(values, huber_delta=delta)


def test_log_probabilities_must_fit_the_advantage():
    with pytest.raises(ValueError, match=r"log_prob_old must have the shape of adv, \(2, 3\), got \(2, 1\)"):
        ppo_clip_loss(torch.zeros(2, 3), torch.zeros(2, 1), torch.zeros(2, 3))


def test_compiled_as_one_graph_they_give_the_same():
    cases: list[tuple[Callable[..., Any], Any]] = [
        (ppo_policy_error, policy_data()),
        (ppo_value_error, value_data()),
    ]
    for function, data in cases:
        compiled = torch.compile(function, fullgraph=True, backend="eager")
        assert_close(compiled(data), function(data), rtol=0, atol=0)


def test_clips_are_a_fifth_unless_told():
    policy, value = policy_data(), value_data()
    assert_close(ppo_policy_error(policy), ppo_policy_error(policy, clip_ratio=0.2), rtol=0, atol=0)
    assert_close(ppo_value_error(value), ppo_value_error(value, clip_ratio=0.2), rtol=0, atol=0)
    adv, new, old = policy.adv, policy.adv / 10, policy.adv / 7
    assert_close(ppo_clip_loss(new, old, adv), ppo_clip_loss(new, old, adv, clip_ratio=0.2), rtol=0, atol=0)
