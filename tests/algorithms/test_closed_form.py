"""The gradient in closed form is autograd's, of every loss, distribution and network that has one."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings, strategies as st
from torch import Tensor
from torch.testing import assert_close

from chaos import UNEQUAL, Chaos, spoil_absent
from mappo.algorithms import mappo as learner_module
from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.minibatch import Batch
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.core.spec import ActionHeads
from mappo.networks.encoders import ENCODERS
from mappo.networks.mlp import MLP
from mappo.rollouts.collector import Collector

CONTINUOUS = ActionHeads(low=(-1.0, -1.0), high=(1.0, 2.0))
KINDS: dict[str, Any] = {
    "choices": None,  # two heads
    "a choice": [(4, ActionHeads((3,)))] * 3,
    "numbers": [(4, CONTINUOUS)] * 3,
    "unequal": UNEQUAL,
}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(kinds: str = "choices", critic: Any = "auto", masked: bool = True, ppo: Any = None, **network: Any) -> Any:
    """A learner, and a batch that its weights have moved away from: ratios and values are clipped."""
    env = Chaos(4, kinds=KINDS[kinds], masked=masked, dtype=torch.float64)
    config = Config(
        EnvConfig(num_envs=4),
        NetworkConfig(**({"hidden": (6, 5), "activation": "tanh", "critic_input": critic} | network)),
        PPOConfig(rollout_length=12, **(ppo or {})),
        RunConfig(),
    )
    agent = MAPPO(env.spec, config, seed=1)
    generator = torch.Generator().manual_seed(3)
    rollout = Collector(env, agent, 12, env.reset(1), generator).collect()[0]
    spoil_absent(rollout)
    batch, _, _ = agent.prepare(rollout)
    for p in agent.network.parameters():
        p.data += 0.3 * torch.randn(p.shape, generator=generator)
    agent.entropy_weight.fill_(0.3)
    return agent, batch


def gradient(agent: MAPPO, batch: Batch, monkeypatch: pytest.MonkeyPatch, by_autograd: bool) -> Any:
    """Metrics, and the gradient of each weight."""
    with monkeypatch.context() as patch:
        if by_autograd:
            patch.setattr(MAPPO, "has_closed_form", False)
        assert agent.has_closed_form is not by_autograd
        agent.optimizer.zero_grad()
        metrics = agent.backward(batch)
        return metrics, {name: p.grad.clone() for name, p in agent.optimizer.parameters.items() if p.grad is not None}


def assert_closed_form_is_autograd(agent: MAPPO, batch: Batch) -> dict[str, Tensor]:
    patch = pytest.MonkeyPatch()
    metrics, result = gradient(agent, batch, patch, by_autograd=False)
    expected_metrics, expected = gradient(agent, batch, patch, by_autograd=True)
    assert_close(metrics, expected_metrics, rtol=1e-10, atol=1e-12)
    assert_close(result, expected, rtol=1e-10, atol=1e-12)
    assert all(x.isfinite().all() for x in result.values())
    return result


@given(
    st.sampled_from(list(KINDS)),
    st.sampled_from(["env", "joint", "agent", "own"]),
    st.booleans(),
    st.fixed_dictionaries(
        {
            "dual_clip": st.sampled_from([None, 1.05, 3.0]),
            "value_clip": st.sampled_from([None, 0.1]),
            "huber_delta": st.sampled_from([None, 0.2]),
            "clip_ratio": st.sampled_from([0.05, 0.3]),
            "value_norm": st.booleans(),
            "value_weight": st.sampled_from([0.5, 2.0]),
        }
    ),
    st.fixed_dictionaries(
        {
            "activation": st.sampled_from(["relu", "tanh"]),
            "layer_norm": st.booleans(),
            "sharing": st.sampled_from(["group", "all", "none"]),
            "action_std": st.sampled_from(["free", "state"]),
            "action_bounds": st.sampled_from(["clip", "tanh"]),
            "obs_norm": st.booleans(),
        }
    ),
)
@settings(max_examples=40, deadline=None)
def test_the_gradient_of_a_minibatch_is_that_of_autograd(
    kinds: str, critic: str, masked: bool, ppo: dict[str, Any], network: dict[str, Any]
):
    assume(kinds != "unequal" or network["action_bounds"] == "clip")  # some numbers have no bounds
    agent, batch = make(kinds, critic, masked, ppo, **network)
    assert_closed_form_is_autograd(agent, batch)


def test_all_branches_of_the_losses_are_taken():
    agent, batch = make(ppo={"dual_clip": 1.3, "value_clip": 0.1, "huber_delta": 0.2, "clip_ratio": 0.1})
    metrics, _ = gradient(agent, batch, pytest.MonkeyPatch(), by_autograd=False)
    assert 0.1 < metrics["clip_fraction"] < 0.99
    with torch.no_grad():
        value = agent.network.critic(batch.critic_obs)[0].squeeze(-1)
    assert 0.1 < ((value - batch.value).abs() > 0.1).double().mean() < 0.99
    assert 0.1 < ((batch.target - value).abs() > 0.2).double().mean() < 0.99


@pytest.mark.parametrize("sharing", ["group", "all", "none"])
def test_agents_of_unequal_sets_have_the_gradient_of_autograd(sharing: str):
    agent, batch = make("unequal", "own", sharing=sharing)
    sets = agent.network.actor.parameter_sets
    assert (len(sets.places) > len(sets.sets)) is (sharing == "group")  # spare places, whose outputs are dropped
    assert_closed_form_is_autograd(agent, batch)


def test_the_gradients_of_pieces_add_up(monkeypatch: pytest.MonkeyPatch):
    agent, batch = make("unequal", sharing="none")
    whole = assert_closed_form_is_autograd(agent, batch)
    monkeypatch.setattr(learner_module, "PIECE_ROWS", 30)
    assert_close(assert_closed_form_is_autograd(agent, batch), whole, rtol=1e-10, atol=1e-12)


def test_a_batch_of_weight_0_has_no_gradient():
    agent, batch = make()
    batch = replace(batch, weight=0 * batch.weight, value_weight=0 * batch.value_weight)
    result = assert_closed_form_is_autograd(agent, batch)
    assert not any(x.any() for x in result.values())


def test_rows_of_weight_0_may_hold_anything():
    agent, batch = make("choices", "own")
    expected = assert_closed_form_is_autograd(agent, batch)
    absent = batch.weight == 0
    assert absent.any()
    for name in ("log_prob", "adv"):
        getattr(batch, name)[absent] = torch.nan
    silent = batch.value_weight == 0
    for name in ("value", "target"):
        getattr(batch, name)[silent] = torch.nan
    assert_close(assert_closed_form_is_autograd(agent, batch), expected, rtol=0, atol=0)


NAN = [(field, torch.nan) for field in ("adv", "target", "value", "log_prob")]
INFINITE = [(field, torch.inf) for field in ("adv", "target", "value")]  # an infinite ratio may be clipped


@pytest.mark.parametrize(("field", "garbage"), [*NAN, *INFINITE])
def test_a_row_that_is_not_finite_skips_the_step(field: str, garbage: float):
    agent, batch = make(ppo={"value_clip": 0.1})
    before = agent.optimizer.weight.clone()
    x = getattr(batch, field).clone()
    weight = batch.weight if x.shape == batch.weight.shape else batch.value_weight
    x[tuple(weight.nonzero()[0])] = garbage
    assert agent.has_closed_form
    metrics = agent.gradient_step(replace(batch, **{field: x}))
    assert metrics["skipped_steps"] == 1
    assert torch.equal(agent.optimizer.weight, before)


def test_networks_and_losses_without_a_closed_form_are_left_to_autograd():
    assert make()[0].has_closed_form
    assert not make(memory_size=4)[0].has_closed_form
    assert not make(precision="bf16")[0].has_closed_form
    agent, batch = make()
    calls: list[Batch] = []

    def loss(batch: Batch, outputs: Any) -> Any:
        calls.append(batch)
        return MAPPO.loss(agent, batch, outputs)

    agent.loss = loss  # of a user
    assert not agent.has_closed_form
    agent.gradient_step(batch)
    assert len(calls) == 1


def test_weights_that_a_user_has_frozen_are_not_trained():
    agent, batch = make()
    agent.network.actor.encoder.requires_grad_(False)
    before = {name: p.clone() for name, p in agent.network.named_parameters()}
    agent.gradient_step(batch)
    for name, p in agent.network.named_parameters():
        assert torch.equal(p, before[name]) is name.startswith("actor.encoder"), name


@pytest.mark.parametrize("style", ["subclass", "parametrization"])
def test_an_encoder_of_a_user_is_left_to_autograd(style: str):
    class Doubled(MLP):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    def encoder(groups: int, shape: tuple[int, ...], net: NetworkConfig) -> MLP:
        if style == "subclass":
            return Doubled(*shape, net.hidden, groups=groups)
        mlp = MLP(*shape, net.hidden, groups=groups)
        torch.nn.utils.parametrizations.weight_norm(mlp.layers[0])
        return mlp

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "own", encoder)
        agent, batch = make(encoder="own")
    agent.optimizer.zero_grad()
    agent.backward(batch)
    gradient = agent.optimizer.gradient.clone()
    agent.optimizer.zero_grad()
    agent.loss(batch, agent.outputs(batch))[0].backward()
    assert_close(gradient, agent.optimizer.gradient, rtol=1e-10, atol=1e-12)
