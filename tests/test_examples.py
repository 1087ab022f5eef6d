"""The examples run, and do what they say."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.testing import assert_close

import mappo
from mappo.cli.main import main
from mappo.errors import UserError
from mappo.networks.encoders import ENCODERS
from paths import ROOT
from training_runs import assert_same, stop_after

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


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder to work in; modules of the examples are found, and forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr("mappo.training.session.draw_curve", lambda *_: None)
    monkeypatch.setattr("mappo.training.evaluator.Evaluator.measure_at_end", lambda *_: {})
    yield tmp_path
    for name in ("custom_loss", "attention_critic"):
        sys.modules.pop(name, None)


QUICK = ["--run.score-episodes", "0", "--run.replay-episodes", "0", "--run.eval-episodes", "8", "--run.progress", "off"]


def test_a_loss_of_ones_own_is_resumed_and_evaluated_by_the_command_line(folder: Path):
    custom_loss = importlib.import_module("custom_loss")
    whole = custom_loss.main(total_steps=6400, directory="whole")
    assert whole.config.ppo.learner == "custom_loss:Penalised"
    assert whole.metrics["kl_weight"].tolist() == [1.0, 0.5]
    assert (whole.metrics["kl_penalty"] > 0).all()
    settings = {"run.total_steps": 6400, "run.dir": "cut", "run.score_episodes": 0, "run.replay_episodes": 0}
    mappo.train("spread", settings, learner=custom_loss.Penalised, callback=stop_after(1))
    assert main(["resume", "cut", "--allow-code", "--progress", "off"]) == 0
    assert_same(folder / "whole", folder / "cut")
    assert main(["evaluate", "cut", "--episodes", "2"]) == 0


def test_attention_reads_any_number_of_entities_in_any_order(folder: Path):
    attention = importlib.import_module("attention_critic")
    make = partial(attention.make_encoder, net=mappo.NetworkConfig((8,)))
    specs = {count: mappo.make("spread", 1, num_agents=count).spec for count in (3, 5)}
    encoders = {n: make(1, shape=spec.obs_spaces[0].shape, role="actor", spec=spec) for n, spec in specs.items()}
    encoders[5].load_state_dict(encoders[3].state_dict())
    obs = torch.randn(4, 30)
    features = encoders[5](obs)
    ways = obs[:, 4:22].unflatten(-1, (9, 2))
    order = torch.tensor([3, 0, 4, 2, 1, 8, 5, 7, 6])  # landmarks among themselves, and agents
    moved = torch.cat([obs[:, :4], ways[:, order].flatten(1), obs[:, 22:]], -1)
    assert_close(encoders[5](moved), features)
    assert not torch.allclose(encoders[5](torch.cat([obs[:, :4], ways.flip(1).flatten(1), obs[:, 22:]], -1)), features)
    team = make(1, shape=(54,), role="critic", spec=specs[3])
    joint = torch.randn(4, 3, 18)
    assert_close(team(joint[:, [2, 0, 1]].flatten(1)), team(joint.flatten(1)))
    with pytest.raises(UserError, match="reads spread's observations, 18 numbers for the actor"):
        make(1, shape=(20,), role="actor", spec=specs[3])


def test_five_agents_start_from_three_with_attention(folder: Path):
    words = ["train", "spread", "--network.encoder", "attention_critic:make_encoder", "--network.hidden", "8"]
    words += ["--run.total-steps", "200", "--env.num-envs", "8", *QUICK]
    assert main([*words, "--run.name", "three"]) == 0
    assert main([*words, "--env.num-agents", "5", "--run.init-from", "runs/three", "--run.name", "five"]) == 0
    assert main(["evaluate", "runs/five", "--allow-code", "--episodes", "2"]) == 0
    assert mappo.load_run("runs/five").finished


def test_a_run_is_fine_tuned_on_another_task(tmp_path: Path):
    run = load("fine_tune").main(tmp_path, total_steps=6_400)
    assert (run.step, run.finished) == (3200, True)
    assert json.loads((run.path / "config.json").read_text())["source"]["run"] == str(tmp_path / "first")


def test_a_curriculum_goes_on_from_stage_to_stage(tmp_path: Path):
    small = {"env.num_envs": 8, "env.workers": 0, "run.eval_episodes": 2, "ppo.epochs": 1}
    stages = ("lbf/Foraging-5x5-2p-1f-v3", "lbf/Foraging-8x8-2p-1f-v3")
    run = load("curriculum").main(tmp_path, stages, 800, **small)
    assert run.env == stages[1]
    assert json.loads((run.path / "config.json").read_text())["source"]["run"] == str(tmp_path / "stage-1")
