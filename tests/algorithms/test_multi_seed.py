"""Many seeds at once: each learns what it would alone."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import batch_norm
from torch.testing import assert_close

from chaos import UNEQUAL, Chaos
from mappo.algorithms import mappo as learner_module
from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.multi_seed import MultiSeed
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig
from mappo.envs.batched.concat import ConcatEnv
from mappo.envs.batched.spread import Spread
from mappo.errors import UserError
from mappo.networks.encoders import ENCODERS
from mappo.rollouts.collector import Collector

SEEDS, ENVS, STEPS = 3, 4, 10
BASE = Config(
    EnvConfig(num_envs=ENVS),
    NetworkConfig((16, 8), "tanh", actor_gain=1.0),
    PPOConfig(rollout_length=STEPS, epochs=3, minibatches=4),
)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def chaos(**settings: Any) -> Any:
    return Chaos(ENVS, dtype=torch.float64, **settings)


def spread() -> Any:
    return Spread(ENVS, 3, dtype=torch.float64)


CASES = {
    "spread": (spread, BASE),
    "deaths, masks, a state": (chaos, replace(BASE, ppo=replace(BASE.ppo, value_clip=0.2, huber_delta=1.0))),
    "a critic's row for each agent, the team's reward": (
        chaos,
        replace(BASE, network=replace(BASE.network, critic_input="agent")),
    ),
    "unequal agents": (
        lambda: chaos(kinds=UNEQUAL, masked=True),
        replace(BASE, network=replace(BASE.network, layer_norm=True, obs_norm=True)),
    ),
    "a memory": (
        lambda: chaos(kinds=UNEQUAL, masked=True),
        replace(BASE, network=replace(BASE.network, memory_size=6, obs_norm=True, layer_norm=True)),
    ),
    "agents' rewards, a network for each, no shuffle": (
        chaos,
        Config(
            EnvConfig(num_envs=ENVS, reward="agent"),
            replace(BASE.network, sharing="none", memory_size=6),
            replace(BASE.ppo, minibatches=1, value_norm=False, lr_final=0.0, max_grad_norm=0.1),
        ),
    ),
    "popart, values anew, stopped by the KL": (
        chaos,
        replace(
            BASE,
            network=replace(BASE.network, memory_size=6),
            ppo=replace(BASE.ppo, popart=True, recompute_advantages=True, target_kl=0.0008, actor_lr=3e-3),
        ),
    ),
}


def alone(make: Any, config: Config) -> list[tuple[MAPPO, Collector]]:
    made = [(make(), seed) for seed in range(SEEDS)]
    agents = [MAPPO(env.spec, config, seed=seed) for env, seed in made]
    noise = [torch.Generator().manual_seed(seed) for seed in range(SEEDS)]
    return [
        (agent, Collector(env, agent, STEPS, env.reset(100 * seed), generator))
        for (env, seed), agent, generator in zip(made, agents, noise, strict=True)
    ]


def together(make: Any, config: Config) -> tuple[MultiSeed, Collector]:
    envs = [make() for _ in range(SEEDS)]
    agents = MultiSeed([MAPPO(envs[0].spec, config, seed=seed) for seed in range(SEEDS)])
    noise = [torch.Generator().manual_seed(seed) for seed in range(SEEDS)]
    env = ConcatEnv(envs)
    seeds = [100 * seed + e for seed in range(SEEDS) for e in range(ENVS)]
    return agents, Collector(env, agents, STEPS, env.reset(seeds), noise)


def at_once(monkeypatch: Any, config: Config) -> Config:
    """From here on all seeds are computed in one call, as on a GPU, but without graphs."""
    monkeypatch.setattr(learner_module, "supports_cuda_graphs", lambda _device: True)
    return replace(config, run=replace(config.run, graphs=False))


@pytest.mark.parametrize("in_turn", [False, True], ids=["at once", "in turn"])
@pytest.mark.parametrize("name", CASES)
def test_each_seed_learns_what_it_learns_alone(name: str, in_turn: bool, monkeypatch: Any):
    make, config = CASES[name]
    runs = alone(make, config)
    seeds, collector = together(make, config if in_turn else at_once(monkeypatch, config))
    precision = 0 if in_turn else 1e-9  # in turn bit for bit
    for _ in range(3):
        expected: list[dict[str, Any]] = []
        for agent, own in runs:
            rollout, episodes = own.collect()
            expected.append(episodes | agent.update(rollout))
        rollout, episodes = collector.collect()
        metrics = episodes | seeds.update(rollout)
        assert list(metrics) == list(expected[0])
        for k, told in enumerate(expected):
            assert_close(
                {n: x[k].double() for n, x in metrics.items()},
                {n: x.double() for n, x in told.items()},
                rtol=precision,
                atol=precision,
                equal_nan=True,
            )
    for k, (agent, own) in enumerate(runs):
        assert_close(seeds.agents[k].state_dict(), agent.state_dict(), rtol=precision, atol=precision)
        assert_close(collector.state_dict(k), own.state_dict(), rtol=precision, atol=precision)
    first, second = (agent.network.actor.head.weight for agent in seeds.agents[:2])
    assert (first - second).abs().max() > 1e-3


class AsksForNumbers(torch.nn.Linear):
    """An encoder whose steps depend on the numbers: it cannot be computed for several seeds in a single call."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class BatchStatistics(torch.nn.Linear):
    """An encoder that needs more than one row."""

    def forward(self, x: Tensor) -> Tensor:
        features = super().forward(x)
        return batch_norm(features.flatten(0, -2), None, None, training=True).reshape(features.shape)


@pytest.mark.parametrize("encoder", [AsksForNumbers, BatchStatistics])
def test_only_encoders_that_ask_for_numbers_are_refused_where_seeds_are_computed_at_once(
    encoder: type[torch.nn.Linear], monkeypatch: Any
):
    monkeypatch.setitem(ENCODERS, "own", lambda _, shape, net: encoder(shape[0], net.hidden[-1]))
    config = at_once(monkeypatch, replace(BASE, network=replace(BASE.network, encoder="own")))
    agents = MultiSeed([MAPPO(spread().spec, config, seed=seed) for seed in range(SEEDS)])
    refused = pytest.raises(UserError, match="encoder own cannot be computed for several seeds at once")
    with refused if encoder is AsksForNumbers else nullcontext():
        agents.check_encoder()


def test_some_seeds_are_stopped_by_the_kl_and_others_go_on():
    make, config = CASES["popart, values anew, stopped by the KL"]
    seeds, collector = together(make, config)
    epochs = torch.stack([seeds.update(collector.collect()[0])["epochs"] for _ in range(6)])
    assert len(epochs.unique()) > 1, epochs
    assert any(len(row.unique()) > 1 for row in epochs), epochs


def test_what_was_saved_of_each_goes_on_together_and_alone():
    make, config = spread, CASES["a memory"][1]
    seeds, collector = together(make, config)
    for _ in range(2):
        seeds.update(collector.collect()[0])
    kept = (
        [{n: x.clone() for n, x in agent.state_dict().items()} for agent in seeds.agents],
        [{n: x.clone() for n, x in collector.state_dict(k).items()} for k in range(SEEDS)],
    )
    seeds.update(collector.collect()[0])

    agents = [MAPPO(collector.env.spec, config, seed=99) for _ in range(SEEDS)]
    for agent, state in zip(agents, kept[0], strict=True):
        agent.load_state_dict(state)
    again, (_, fresh) = MultiSeed(agents), together(make, config)
    fresh.agent = again
    fresh.load_state_dict(*kept[1])
    again.update(fresh.collect()[0])
    for agent, other in zip(seeds.agents, again.agents, strict=True):
        assert_close(agent.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_loaded_into_seeds_that_are_there_it_is_computed_with():
    make, config = CASES["spread"]
    (seeds, _), (other, collector) = together(make, config), together(make, config)
    other.update(collector.collect()[0])
    for agent, source in zip(seeds.agents, other.agents, strict=True):
        agent.load_state_dict(source.state_dict())
    step = ConcatEnv([make() for _ in range(SEEDS)]).reset(0)
    noise = torch.rand(SEEDS * ENVS, 3, 1)
    assert_close(seeds.act(step, noise=noise)[:2], other.act(step, noise=noise)[:2], rtol=0, atol=0)


@pytest.mark.parametrize("in_turn", [False, True], ids=["at once", "in turn"])
def test_a_seed_whose_gradient_is_not_finite_stands_still_and_the_others_learn(in_turn: bool, monkeypatch: Any):
    make, config = CASES["spread"]
    runs = alone(make, config)
    seeds, collector = together(make, config if in_turn else at_once(monkeypatch, config))
    for k in (0, 2):
        runs[k][0].update(runs[k][1].collect()[0])
    rollout = collector.collect()[0]
    rollout.reward[3, ENVS] = math.nan  # the second's
    before = [p.clone() for p in seeds.agents[1].network.parameters()]
    metrics = seeds.update(rollout)
    assert metrics["skipped_steps"].tolist() == [0, 12, 0]
    assert_close(list(seeds.agents[1].network.parameters()), before, rtol=0, atol=0)
    for k in (0, 2):
        assert_close(seeds.agents[k].state_dict(), runs[k][0].state_dict(), rtol=1e-9, atol=1e-9)


def record_calls(owner: Any, name: str, monkeypatch: Any) -> list[str]:
    """A list that grows by the name at each call of the method."""
    calls: list[str] = []
    function = getattr(owner, name)

    def recorded(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, recorded)
    return calls


@pytest.mark.parametrize("name", CASES)
def test_a_minibatch_in_pieces_is_the_minibatch(name: str, monkeypatch: Any):
    make, config = CASES[name]
    if config.chunk_length is not None:  # of which a minibatch then has several
        config = replace(config, ppo=replace(config.ppo, chunk_length=5, minibatches=2))
    states: list[Any] = []
    calls: list[int] = []
    for most in (7, 10**9):  # rows of a piece: pieces of unequal weight, some of agents that do not act
        monkeypatch.setattr(learner_module, "PIECE_ROWS", most)
        agent, collector = alone(make, config)[0]
        num_losses = record_calls(agent, "loss", monkeypatch)
        monkeypatch.setattr(agent, "loss_adds_up", True)
        metrics = [agent.update(collector.collect()[0]) for _ in range(3)]
        states.append([agent.state_dict(), metrics])
        calls.append(len(num_losses))
    assert_close(*states, rtol=1e-9, atol=1e-9)
    assert calls[0] > calls[1] > 0
