"""A loss of the user: a subclass of `MAPPO` that overrides `loss`."""

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from chaos import UNEQUAL, Chaos, spoil_absent
from mappo.algorithms import mappo as learner_module
from mappo.algorithms.epochs import METRICS
from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.minibatch import Batch
from mappo.algorithms.multi_seed import MultiSeed
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig
from mappo.core.timestep import Rollout
from mappo.errors import UserError
from mappo.rollouts.collector import Collector


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Same(MAPPO):
    """The parent's loss."""

    def loss(self, batch: Any, outputs: Any) -> Any:
        return super().loss(batch, outputs)


class Curious(MAPPO):
    """A larger entropy bonus, by a term of its own."""

    extra_metrics = ("bonus",)
    loss_adds_up = True
    calls: ClassVar[list[int]] = []

    def loss(self, batch: Any, outputs: Any) -> Any:
        self.calls.append(batch.weight.numel())
        total, metrics = super().loss(batch, outputs)
        bonus = batch.mean(outputs.entropy)
        return total - 0.2 * bonus, {**metrics, "bonus": bonus}


def rolled(kind: type[MAPPO], seed: int = 1, **network: Any) -> tuple[Any, Rollout]:
    """A learner, and a rollout of unequal agents; agents die and arrive."""
    env = Chaos(4, kinds=UNEQUAL, dtype=torch.float64)
    config = Config(
        EnvConfig(num_envs=4),
        NetworkConfig(**({"hidden": (6, 5), "activation": "tanh"} | network)),
        PPOConfig(rollout_length=12, epochs=2, entropy_weight=0.1, actor_lr=5e-3, chunk_length=4),
    )
    agent = kind(env.spec, config, seed=seed)
    rollout = Collector(env, agent, 12, env.reset(1), torch.Generator().manual_seed(3)).collect()[0]
    spoil_absent(rollout)
    return agent, rollout


def weights(agent: MAPPO) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in agent.network.state_dict().items()}


@given(st.sampled_from([0, 4]), st.sampled_from(["group", "none"]), st.sampled_from(["joint", "own"]))
@settings(max_examples=6, deadline=None)
def test_the_parents_loss_in_a_subclass_learns_the_same(memory: int, sharing: str, critic: str):
    network = {"memory_size": memory, "sharing": sharing, "critic_input": critic}
    agent, rollout = rolled(MAPPO, **network)
    same, _ = rolled(Same, **network)
    assert agent.has_closed_form is (memory == 0)
    assert not same.has_closed_form
    assert_close(same.update(rollout), agent.update(rollout), rtol=1e-9, atol=1e-12)
    assert_close(weights(same), weights(agent), rtol=1e-9, atol=1e-12)


def test_by_autograd_the_bits_are_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MAPPO, "has_closed_form", False)
    agent, rollout = rolled(MAPPO)
    same, _ = rolled(Same)
    assert_close(same.update(rollout), agent.update(rollout), rtol=0, atol=0)
    assert_close(weights(same), weights(agent), rtol=0, atol=0)


def test_a_term_of_ones_own_is_learned_from():
    agent, rollout = rolled(MAPPO)
    curious, _ = rolled(Curious)
    agent.config = Config(
        agent.config.env, agent.config.network, PPOConfig(**(vars(agent.config.ppo) | {"entropy_weight": 0.3}))
    )
    expected = agent.update(rollout)
    metrics = curious.update(rollout)
    assert_close(weights(curious), weights(agent), rtol=1e-9, atol=1e-12)
    assert_close(metrics["bonus"], expected["entropy"])
    assert_close(metrics["total_loss"], expected["total_loss"])


def test_a_loss_is_computed_in_pieces_only_if_it_adds_up(monkeypatch: pytest.MonkeyPatch):
    agent, rollout = rolled(Curious)
    Curious.calls.clear()
    expected = agent.update(rollout)
    monkeypatch.setattr(learner_module, "PIECE_ROWS", 40)
    agent, _ = rolled(Curious)
    assert_close(agent.update(rollout), expected, rtol=1e-9, atol=1e-12)
    assert len(Curious.calls) > 2 + 2
    agent, _ = rolled(Curious)
    monkeypatch.setattr(Curious, "loss_adds_up", False)
    Curious.calls.clear()
    assert_close(agent.update(rollout), expected, rtol=1e-9, atol=1e-12)
    assert len(Curious.calls) == 2


@pytest.mark.parametrize("value_rows", [False, True])
def test_the_means_of_pieces_add_up(value_rows: bool):
    agent, rollout = rolled(MAPPO, critic_input="own")
    batch: Batch = agent.prepare(rollout)[0]
    x = torch.randn(batch.weight.shape)

    def mean(rows: Batch, y: Tensor) -> Tensor:
        return rows.value_mean(y) if value_rows else rows.mean(y)

    weight = batch.value_weight if value_rows else batch.weight
    whole = mean(batch, x)
    assert_close(whole, (x * weight).sum() / weight.sum())
    pieces = batch.pieces(3, 0)
    sizes = [len(piece.weight) for piece in pieces]
    assert_close(sum(mean(*pair) for pair in zip(pieces, x.split(sizes), strict=True)), whole)


class Predicting(MAPPO):
    """A module of its own, which learns to answer 1."""

    def build_network(self, seed: int) -> Any:
        network = super().build_network(seed)
        network.add_module("predictor", nn.Linear(self.spec.obs_shape[0], 1))
        return network

    def loss(self, batch: Any, outputs: Any) -> Any:
        total, _ = super().loss(batch, outputs)
        predicted = self.network.get_submodule("predictor")(batch.obs).squeeze(-1)
        return total + batch.mean((predicted - 1).square()), {}


def test_modules_of_a_subclass_are_trained_and_saved():
    agent, rollout = rolled(Predicting)
    before = weights(agent)
    metrics = agent.update(rollout)
    assert list(metrics)[: len(METRICS)] == list(METRICS)
    assert math.isnan(metrics["policy_loss"])
    assert metrics["total_loss"].isfinite()
    state = agent.state_dict()
    assert not torch.equal(state["network.predictor.weight"], before["predictor.weight"])
    assert "optimizer.predictor.weight.exp_avg" in state
    other, _ = rolled(Predicting, seed=2)
    other.load_state_dict(state)
    assert_close(other.update(rollout), agent.update(rollout), rtol=0, atol=0, equal_nan=True)


def test_an_update_that_is_skipped_has_the_metrics_of_the_others():
    agent, rollout = rolled(Curious)
    skipped = agent.update(rollout, [True])
    assert math.isnan(skipped["bonus"])
    assert set(skipped) == set(agent.update(rollout))


def test_seeds_have_their_own_loss():
    agents = [rolled(Curious, seed=seed)[0] for seed in (1, 2)]
    singles = [rolled(Curious, seed=seed) for seed in (1, 2)]
    rollouts = [rollout for _, rollout in singles]
    metrics = MultiSeed(agents).update(Rollout.join(rollouts, lambda xs: torch.cat(xs, 1)))
    for k, (single, rollout) in enumerate(singles):
        for name, x in single.update(rollout).items():
            assert_close(metrics[name][k], x, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda total, _: total, r"Odd\.loss must return \(loss, metrics\)"),
        (lambda total, _: (total.detach(), {}), "a scalar tensor with a gradient"),
        (lambda total, _: (total.expand(2), {}), "a scalar tensor"),
        (lambda total, _: (total, []), "and a dict"),
        (lambda total, found: (total, found, 0), r"must return \(loss, metrics\)"),
        (lambda total, _: (total, {"mine": total}), r"the metric 'mine': add its name to Odd\.extra_metrics"),
        (lambda total, _: (total, {"entropy": total.expand(2)}), r"'entropy', which is no scalar: take batch\.mean"),
        (lambda total, _: (total, {"entropy": "high"}), r"'entropy', which is no scalar"),
    ],
)
def test_a_result_that_is_no_loss_is_refused(result: Any, message: str):
    class Odd(MAPPO):
        def loss(self, batch: Any, outputs: Any) -> Any:
            return result(*super().loss(batch, outputs))

    agent, rollout = rolled(Odd)
    with pytest.raises(UserError, match=message):
        agent.update(rollout)
