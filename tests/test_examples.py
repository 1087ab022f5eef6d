"""The examples run, and do what they say."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import mappo
from mappo.errors import UserError
from mappo.networks.encoders import ENCODERS
from paths import ROOT

FOLDER = ROOT / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def network() -> Iterator[ModuleType]:
    yield load("custom_network")
    ENCODERS.pop("residual", None)


def test_a_network_of_ones_own_trains_is_saved_and_plays(network: ModuleType, tmp_path: Path):
    assert len((FOLDER / "custom_network.py").read_text().splitlines()) < 50
    run = network.main(total_steps=6400, directory=str(tmp_path / "run"))
    assert run.finished
    tower = mappo.load_actor(run.path).policy.network
    assert type(tower.encoder).__name__ == "Residual"
    actor = mappo.load_actor(run.path).agent("agent_1")
    assert actor(torch.zeros(18))[0].shape == ()
    del ENCODERS["residual"]
    with pytest.raises(UserError, match=r"'residual' is not known.*import the module with the call"):
        mappo.load_actor(run.path)


@pytest.mark.parametrize("changes", [{"sharing": "none"}, {"memory_size": 8}, {"sharing": "none", "memory_size": 8}])
def test_it_comes_with_groups_and_memory(network: ModuleType, changes: dict[str, object]):
    config = mappo.Config.from_dict({"env": {"num_envs": 4}, "network": {"encoder": "residual"} | changes})
    env = mappo.make("spread", 4)
    agent = mappo.MAPPO(env.spec, config, seed=0)
    noise = torch.Generator().manual_seed(0)
    rollout, _ = mappo.Collector(env, agent, 25, env.reset(0), noise).collect()
    before = [p.clone() for p in agent.network.actor.encoder.parameters()]
    agent.update(rollout)
    after = list(agent.network.actor.encoder.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_the_custom_loop_learns():
    assert load("custom_loop").main(updates=12) > -80
