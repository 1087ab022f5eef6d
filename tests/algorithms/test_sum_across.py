"""Statistics and losses of parts of a rollout, with the sums of the other parts, are those of the whole."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from chaos import UNEQUAL, Chaos
from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.minibatch import Batch
from mappo.backend.ranks import Ranks
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig
from mappo.core.timestep import Rollout
from mappo.functional.weighted import weighted_mean, weighted_mean_variance
from mappo.rollouts.collector import Collector

PARTS, ENVS, STEPS = 2, 6, 10
CONFIG = Config(
    EnvConfig(num_envs=ENVS),
    NetworkConfig((8,), "tanh", obs_norm=True, memory_size=4),
    PPOConfig(rollout_length=STEPS, popart=True, chunk_length=5),
)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Sums:
    """The sums of several threads, each of which stands for a process."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(PARTS, timeout=600)
        self.sums: list[Any] = [None] * PARTS

    def ranks(self, rank: int) -> Ranks:
        found = Ranks()
        found.rank, found.size = rank, PARTS
        found.sum = self.of(rank)
        return found

    def of(self, rank: int) -> Callable[[Tensor], Tensor]:
        def sum_across(sums: Tensor) -> Tensor:
            self.sums[rank] = sums
            self.barrier.wait()
            total = torch.stack(self.sums).sum(0)
            self.barrier.wait()
            return total

        return sum_across


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    def run(rank: int) -> Any:
        torch.set_default_dtype(torch.float64)
        return work(rank)

    with ThreadPoolExecutor(PARTS) as pool:
        return list(pool.map(run, range(PARTS)))


def test_means_and_variances_of_parts_are_those_of_the_whole():
    x, weight = torch.randn(7, 6), torch.rand(7, 6) * (torch.rand(7, 6) > 0.3)
    sums = Sums()
    halves = (slice(0, 2), slice(2, 6))  # of unequal weight
    found = in_threads(lambda k: weighted_mean_variance(x[:, halves[k]], weight[:, halves[k]], sums.of(k)))
    for part in found:
        assert_close(part, weighted_mean_variance(x, weight), rtol=1e-12, atol=1e-12)
    parts = [weighted_mean(x[:, part], weight[:, part], weight.sum()) for part in halves]
    assert_close(sum(parts), weighted_mean(x, weight), rtol=1e-12, atol=1e-12)
    assert_close(x[:, :2].sum() / 42, weighted_mean(x[:, :2], None, torch.tensor(42.0)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("critic", ["env", "agent"])
def test_an_update_is_prepared_and_finished_as_for_the_whole(critic: Any):
    config = replace(CONFIG, network=replace(CONFIG.network, critic_input=critic))
    env = Chaos(ENVS, kinds=UNEQUAL, dtype=torch.float64, deaths=0.3)
    whole = MAPPO(env.spec, config, seed=1)
    collector = Collector(env, whole, STEPS, env.reset(0), torch.Generator().manual_seed(1))
    rollouts = [collector.collect()[0].map(torch.clone) for _ in range(2)]
    slices = (slice(0, 2), slice(2, 6))
    sums = Sums()

    def train(agent: MAPPO, envs: slice) -> tuple[Batch, dict[str, Tensor], dict[str, Tensor]]:
        for rollout in rollouts:
            part: Rollout = rollout.slice_envs(envs)
            batch, metrics, values = agent.prepare(part)
            agent.finish_update(part, values)
        state = agent.state_dict()
        state.pop("critic_memory")
        return batch, metrics, state

    expected = train(whole, slice(0, ENVS))

    # Not in the threads: the weights of all come from one global generator.
    agents = [MAPPO(env.spec, config, seed=1, ranks=sums.ranks(rank)) for rank in range(PARTS)]
    found = in_threads(lambda rank: train(agents[rank], slices[rank]))
    for envs, (batch, metrics, state) in zip(slices, found, strict=True):
        assert_close(metrics, expected[1], rtol=1e-9, atol=1e-9)
        assert_close(state, expected[2], rtol=1e-9, atol=1e-9)
        for name in ("adv", "target", "value", "obs", "critic_obs"):
            rows = getattr(expected[0], name).unflatten(1, (-1, ENVS))[:, :, envs].flatten(1, 2)
            assert_close(getattr(batch, name), rows, rtol=1e-9, atol=1e-9, msg=name)
    assert whole.value_norm.moments.any()
