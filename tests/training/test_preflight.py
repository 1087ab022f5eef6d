"""What wastes time or memory is said before a run begins, and good settings are not nagged about."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from gymnasium import spaces

import mappo
from games import Game
from mappo.algorithms.mappo import MAPPO
from mappo.config import EnvConfig, NetworkConfig, PPOConfig
from mappo.config.presets import PRESETS, presets_of
from mappo.core.observations import parts_of
from mappo.core.spec import ActionHeads, Spec
from mappo.envs.vector.serial import SerialEnvs
from mappo.system import hardware as machine
from mappo.training.preflight import memory_needed, preflight_notes


def config_of(name: str = "spread", **sections: dict[str, Any]) -> mappo.Config:
    config = mappo.preset(name)
    return replace(config, **{s: replace(getattr(config, s), **values) for s, values in sections.items()})


def told(config: mappo.Config, name: str = "spread") -> list[str]:
    env = mappo.make(name.split("/")[0], config.env.num_envs)
    return preflight_notes(name, config, env, MAPPO(env.spec, config))


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
        ({"run": {"total_steps": 10_000}}, ["updates: 4,", "--run.total-steps", "3,200"]),
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


def test_threads_that_spin_are_named_where_torch_was_loaded_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert not told(config_of(run={"threads": 2}))
    monkeypatch.delenv("OMP_WAIT_POLICY")
    (sentence,) = told(config_of(run={"threads": 2}))
    assert "OMP_WAIT_POLICY=PASSIVE" in sentence
    assert not told(config_of(run={"threads": 1}))


def test_a_python_environment_may_have_few_games_and_a_gpu_that_it_cannot_use_is_named(
    monkeypatch: pytest.MonkeyPatch,
):
    env = SerialEnvs(Game, 4)
    config = config_of(env={"num_envs": 4}, ppo={"minibatches": 1})
    agent = MAPPO(env.spec, config)
    assert not preflight_notes("game", config, env, agent)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (sentence,) = preflight_notes("game", config, env, agent)
    assert "the GPU is not used" in sentence
    assert not preflight_notes("game", replace(config, run=replace(config.run, device="cpu")), env, agent)


@pytest.mark.parametrize(
    ("envs", "minibatches", "mib"), [(1024, 1, 408), (4096, 4, 576), (16_384, 16, 1159), (65_536, 64, 3069)]
)
def test_the_memory_that_is_told_is_near_what_was_measured(envs: int, minibatches: int, mib: float):
    """benchmarks/results/scaling.csv, less the 320 MiB of Python and torch."""
    config = config_of(env={"num_envs": envs}, ppo={"minibatches": minibatches})
    needed = memory_needed(MAPPO(mappo.make("spread", 1).spec, config))
    assert needed * 1024 + 320 == pytest.approx(mib, rel=0.2)


def test_seeds_that_learn_in_turn_share_what_learning_takes():
    """512 environments, 512-512: one seed took 0.47 GiB, four 0.51, Python and torch left out."""
    net = {"hidden": (512, 512)}
    spec, cuda = mappo.make("spread", 1).spec, torch.device("cuda")
    one, four = (
        MAPPO(spec, config_of(env={"num_envs": 512}, ppo={"minibatches": 1}, network=net, run={"seeds": n}))
        for n in (1, 4)
    )
    assert memory_needed(four) < 1.2 * memory_needed(one)
    assert memory_needed(four, cuda) == 4 * memory_needed(one, cuda)


def box(*shape: int, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(0, 255 if dtype == np.uint8 else 1, shape, dtype)


@pytest.mark.parametrize(
    ("space", "num_agents", "num_envs", "minibatches", "network", "mib"),
    [
        (box(10), 200, 16, 1, {}, 78),
        (box(10), 200, 16, 1, {"critic_input": "agent"}, 1376),
        (box(10), 200, 64, 1, {"critic_input": "own"}, 391),
        (box(30), 50, 64, 2, {"critic_input": "agent"}, 1135),
        (box(18), 3, 512, 1, {"memory_size": 64}, 170),
        (box(128, dtype=np.uint8), 2, 512, 4, {}, 114),
        (box(8, 8, 3, dtype=np.uint8), 2, 256, 4, {}, 117),
        (box(84, 84, 3, dtype=np.uint8), 2, 16, 4, {}, 334),
        (box(84, 84, 3, dtype=np.uint8), 2, 16, 4, {"critic_input": "agent"}, 730),
        (box(210, 160, 3, dtype=np.uint8), 2, 8, 2, {}, 753),
    ],
)
def test_rows_of_agents_images_and_memories_are_counted(
    space: Any, num_agents: int, num_envs: int, minibatches: int, network: Any, mib: float
):
    """Peaks of two updates of 25 steps on one thread, less what the process held before."""
    spec = Spec(tuple(map(str, range(num_agents))), (space,) * num_agents, (ActionHeads((5,)),) * num_agents)
    ppo = PPOConfig(25, epochs=2, minibatches=minibatches)
    agent = MAPPO(spec, mappo.Config(EnvConfig(num_envs), NetworkConfig(**network), ppo))
    assert mib / 1.5 < 1024 * memory_needed(agent) < 1.5 * mib


@pytest.mark.parametrize(
    ("space", "network", "words"),
    [
        (box(280, 480, 3, dtype=np.uint8), {}, ["images of 280 x 480 x 3", "supersuit", "GiB"]),
        (spaces.Dict(a=box(200, 200), b=box(3, 240, 240)), {}, ["images of 3 x 240 x 240"]),
        (box(84, 84, 4, dtype=np.uint8), {}, []),
        (box(200, 200), {}, []),  # a table of floats
        (box(5, 7, 6), {}, ["5 x 7 x 6: the first axis is read as channels", "--network.channels first or last"]),
        (box(12, 12, 13), {}, ["the last axis is read as channels"]),
        (box(12, 12, 13), {"channels": "first"}, []),
        (box(8, 9, 3), {}, []),
    ],
)
def test_images_that_are_large_or_have_unclear_channels_are_told(space: Any, network: Any, words: list[str]):
    box_of_all = spaces.flatten_space(space) if isinstance(space, spaces.Dict) else space
    spec = Spec(("a",), (box_of_all,), (ActionHeads((5,)),), obs_parts=(parts_of(space),))
    config = config_of(env={"num_envs": 4}, network=network, ppo={"minibatches": 1})
    env = SerialEnvs(Game, 4)
    env.spec = spec
    notes = preflight_notes("game", config, env, MAPPO(spec, config))
    assert [word for note in notes for word in words if word in note] == words
    assert len(notes) == bool(words)


@pytest.mark.parametrize(("critic_input", "is_told"), [("env", True), ("joint", False)])
def test_a_large_state_is_told_where_the_critic_reads_it(critic_input: Literal["env", "joint"], is_told: bool):
    wall = box(280, 480, 3, dtype=np.uint8)
    spec = Spec(("a",), (box(84, 84, 1, dtype=np.uint8),), (ActionHeads((5,)),), state_shape=wall.shape)
    spec = replace(spec, state_parts=parts_of(wall))
    config = config_of(env={"num_envs": 4}, network={"critic_input": critic_input}, ppo={"minibatches": 1})
    env = SerialEnvs(Game, 4)
    env.spec = spec
    notes = preflight_notes("game", config, env, MAPPO(spec, config))
    assert ["state() returns images of 280 x 480 x 3" in note for note in notes] == [True] * is_told
    # The rollout keeps the state and the next state of each step, whatever the critic reads.
    assert memory_needed(MAPPO(spec, config)) > 2 * config.steps_per_update * 280 * 480 * 3 / 2**30
