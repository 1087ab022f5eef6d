"""`network.precision`: the layers' arithmetic, and nothing else's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import mappo
from chaos import Chaos
from losses import loss_of
from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.multi_seed import MultiSeed
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig
from mappo.rollouts.collector import Collector
from mappo.training import device
from mappo.training.train import train
from training_runs import CONFIG, within

NETS = {
    "tanh": NetworkConfig((32, 16), "tanh", actor_gain=1.0),
    "relu, norms": NetworkConfig((32, 16), "relu", layer_norm=True, actor_gain=1.0),
    "tanh, norms": NetworkConfig((32, 16), "tanh", layer_norm=True, actor_gain=1.0),
    "a memory": NetworkConfig((32, 16), "tanh", memory_size=8, actor_gain=1.0),
    "a network for each": NetworkConfig((32, 16), "tanh", sharing="none", actor_gain=1.0),
}


def learner(net: NetworkConfig, precision: str = "bf16") -> tuple[MAPPO, Collector]:
    env = Chaos(8)
    config = Config(
        EnvConfig(num_envs=8), replace(net, precision=precision), PPOConfig(rollout_length=10, epochs=2, minibatches=2)
    )
    agent = MAPPO(env.spec, config, seed=1)
    return agent, Collector(env, agent, 10, env.reset(0), torch.Generator().manual_seed(0))


def numbers(agent: MAPPO, rollout: mappo.Rollout) -> tuple[Tensor, list[Tensor]]:
    """Losses, and the gradient of each parameter."""
    batch, *_ = agent.prepare(rollout)
    agent.optimizer.zero_grad()
    total, metrics = loss_of(agent, batch)
    total.backward()
    told = torch.stack([metrics["policy_loss"], metrics["value_loss"], metrics["entropy"]])
    return told, [p.grad.clone() for p in agent.network.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", NETS)
def test_bf16_is_float32_up_to_its_rounding(name: str):
    (exact, collector), (rough, _) = learner(NETS[name], "float32"), learner(NETS[name])
    rollout, _ = collector.collect()
    (losses, gradients), (others, other_gradients) = numbers(exact, rollout), numbers(rough, rollout)
    assert_close(others, losses, rtol=0.05, atol=0.02)
    assert not torch.equal(others, losses)
    for own, other in zip(gradients, other_gradients, strict=True):
        assert other.dtype == torch.float32
        assert (own - other).norm() < 0.1 * own.norm() + 1e-3
        assert not torch.equal(own, other)


@pytest.mark.parametrize("name", NETS)
def test_all_but_the_layers_stays_float32(name: str):
    agent, collector = learner(NETS[name])
    rollout, _ = collector.collect()
    assert rollout.log_prob.dtype == torch.float32
    assert rollout.memory is None or rollout.memory.dtype == torch.float32
    metrics = agent.update(rollout)
    assert all(x.isfinite() for x in metrics.values())
    assert {x.dtype for n, x in agent.state_dict().items() if n.startswith(("network", "optimizer"))} == {torch.float32}
    assert agent.value_norm.moments.dtype == torch.float64


def test_at_the_first_gradient_step_the_policy_is_the_one_that_acted():
    agent, collector = learner(NETS["tanh"])
    batch, *_ = agent.prepare(collector.collect()[0])
    assert loss_of(agent, batch)[1]["approx_kl"] < 1e-4


def test_small_numbers_are_not_lost_in_bf16():
    from mappo.networks.encoders import MLP

    x, mlp = torch.randn(64, 4) * 1e-3, MLP(4, (16,), "tanh")
    with torch.autocast("cpu", torch.bfloat16):
        rough = mlp(x).float()
    assert (rough - mlp(x)).norm() < 0.02 * mlp(x).norm()


def test_many_seeds_learn_in_bf16_what_each_learns_alone():
    agent, collector = learner(NETS["a memory"])
    rollout, _ = collector.collect()
    seeds = MultiSeed([learner(NETS["a memory"])[0]])
    alone, together = agent.update(rollout), seeds.update(rollout)
    for name, x in alone.items():
        assert_close(together[name][0].float(), x.float(), rtol=0.05, atol=0.02)


def test_a_saved_actor_acts_as_it_was_trained(tmp_path: Path):
    config = replace(CONFIG, network=replace(CONFIG.network, precision="bf16"))
    run = train("spread", within(config, tmp_path / "run"))
    actor = mappo.load_actor(run.path)
    assert actor.policy.network.uses_bf16
    assert run.evaluate(8)["return_sum"]["mean"] < 0


@pytest.mark.parametrize(("allowed", "rounding"), [(False, "ieee"), (True, "tf32")])
def test_what_cuda_may_round_is_set_for_a_while(allowed: bool, rounding: str):
    places = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [place.fp32_precision for place in places]
    with device.tf32_allowed(allowed):
        assert [place.fp32_precision for place in places] == [rounding] * 2
    assert [place.fp32_precision for place in places] == before


@pytest.mark.parametrize("place", [torch.backends.cuda.matmul, torch.backends.cudnn.conv])
def test_a_run_goes_with_whatever_torch_was_told_before(place: Any, tmp_path: Path):
    before = place.fp32_precision
    place.fp32_precision = "ieee"
    try:
        train("spread", within(CONFIG, tmp_path / "run"))
        with device.tf32_allowed(True):
            pass
    finally:
        place.fp32_precision = before
