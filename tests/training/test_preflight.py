"""What wastes time or memory is said before a run begins, and good settings are not nagged about."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import mappo
from games import Game
from mappo.config.presets import PRESETS, presets_of
from mappo.envs.vector.serial import SerialEnvs
from mappo.system import hardware as machine
from mappo.training.preflight import memory_needed, preflight_notes


def config_of(name: str = "spread", **sections: dict[str, Any]) -> mappo.Config:
    config = mappo.preset(name)
    return replace(config, **{s: replace(getattr(config, s), **values) for s, values in sections.items()})


def told(config: mappo.Config, name: str = "spread") -> list[str]:
    return preflight_notes(name, config, mappo.make(name.split("/")[0], config.env.num_envs))


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(machine, "memory_gib", lambda: 7.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("name", [name for name in PRESETS if "/" not in name])
def test_presets_are_not_advised_upon(name: str):
    for config in presets_of(name).values():
        assert not told(config, name)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"run": {"threads": 4}}, ["run.threads 4 on 2 cores", "--run.threads 1"]),
        ({"env": {"num_envs": 8}, "ppo": {"minibatches": 1}}, ["env.num-envs 8", "128"]),
        ({"run": {"total_steps": 10_000}}, ["4 updates", "--run.total-steps", "3,200"]),
        (
            {"env": {"num_envs": 8192}, "run": {"total_steps": 10**8}},
            ["25,600 steps", "chosen for 400", "--ppo.minibatches 512 makes it 400"],
        ),
        ({"ppo": {"minibatches": 64}}, ["from 50 steps", "chosen for 400", "--ppo.actor-lr"]),
        (
            {"env": {"num_envs": 2**17}, "ppo": {"minibatches": 1024}, "run": {"total_steps": 10**9}},
            ["GiB", "7.0", "--env.num-envs"],
        ),
    ],
)
def test_each_waste_is_named_with_its_cure(sections: dict[str, dict[str, Any]], words: list[str]):
    (sentence,) = told(config_of(**sections))
    assert all(word in sentence for word in words), sentence


def test_a_python_environment_may_have_few_games_and_a_gpu_that_it_cannot_use_is_named(
    monkeypatch: pytest.MonkeyPatch,
):
    env = SerialEnvs(Game, 4)
    config = config_of(env={"num_envs": 4}, ppo={"minibatches": 1})
    assert not preflight_notes("game", config, env)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (sentence,) = preflight_notes("game", config, env)
    assert "the GPU is not used" in sentence
    assert not preflight_notes("game", replace(config, run=replace(config.run, device="cpu")), env)


@pytest.mark.parametrize(
    ("envs", "minibatches", "mib"), [(1024, 1, 408), (4096, 4, 576), (16_384, 16, 1159), (65_536, 64, 3069)]
)
def test_the_memory_that_is_told_is_near_what_was_measured(envs: int, minibatches: int, mib: float):
    """benchmarks/results/scaling.csv, less the 320 MiB of Python and torch."""
    config = config_of(env={"num_envs": envs}, ppo={"minibatches": minibatches})
    needed = memory_needed(config, mappo.make("spread", 1).spec, torch.device("cpu"))
    assert needed * 1024 + 320 == pytest.approx(mib, rel=0.2)


def test_seeds_that_learn_in_turn_share_what_learning_takes():
    """512 environments, 512-512: one seed took 0.47 GiB, four 0.51, Python and torch left out."""
    net = {"hidden": (512, 512)}
    spec, cpu = mappo.make("spread", 1).spec, torch.device("cpu")
    one, four = (
        config_of(env={"num_envs": 512}, ppo={"minibatches": 1}, network=net, run={"seeds": n}) for n in (1, 4)
    )
    assert memory_needed(four, spec, cpu) < 1.2 * memory_needed(one, spec, cpu)
    assert memory_needed(four, spec, torch.device("cuda")) == 4 * memory_needed(one, spec, torch.device("cuda"))
