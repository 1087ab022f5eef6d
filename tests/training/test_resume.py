"""Whole runs of every kind of agent: train, resume (law 7), score, and the actors that are left (law 5)."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mappo
from mappo import envs
from mappo.cli import main as cli
from mappo.config import Config
from mappo.core.timestep import TimeStep
from mappo.errors import UserError
from mappo.evaluation.episodes import play_episodes
from mappo.networks import encoders
from training_runs import assert_same, stop_after

BASE: dict[str, Any] = {
    "env": {"num_envs": 8},
    "network": {"hidden": (12,)},
    "ppo": {"rollout_length": 10, "epochs": 2, "minibatches": 2, "actor_lr": 5e-3},
    "run": {"total_steps": 480, "eval_interval": 160, "eval_episodes": 16, "progress": "off"},
}
GRU = {"memory_size": 8}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "all at once": ("probe/combined", {"network": GRU | {"obs_norm": True}, "env": {"reward": "agent"}}),
    "own networks": (
        "probe/combined",
        {"network": GRU | {"sharing": "none", "critic_input": "agent", "death_mask": True}},
    ),
    "one network": ("probe/unequal", {"network": {"sharing": "all"}, "ppo": {"popart": True, "target_kl": 0.01}}),
    "numbers": ("probe/mixed", {"network": {"action_bounds": "tanh", "action_std": "state"}}),
    "two numbers": ("probe/target", {"network": GRU, "ppo": {"returns": "n_step", "weight_decay": 0.01}}),
    "two choices": ("probe/multidiscrete", {"ppo": {"recompute_advantages": True, "dual_clip": 3.0}}),
    "images": ("probe/image", {"network": {"critic_input": "agent"}, "ppo": {"minibatch_by": "sequence"}}),
    "speaker and listener": ("speaker_listener", {"network": GRU | {"layer_norm": True}}),
    "paper's spread": ("spread/paper", {}),
    "a matrix game": ("matrix/climbing", {"ppo": {"returns": "discounted"}}),
}


def make_config(changes: dict[str, Any], path: Path) -> Config:
    config = Config.from_dict(changes, Config.from_dict(BASE))
    return replace(config, run=replace(config.run, dir=str(path)))


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing a curve and the baselines beside it takes longer than these runs."""
    monkeypatch.setattr("mappo.training.session.draw_curve", lambda *_: None)
    monkeypatch.setattr("mappo.training.evaluator.Evaluator.measure_at_end", lambda *_: {})


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_stopped_and_resumed_is_the_run_that_was_not(kind: str, tmp_path: Path):
    name, changes = KINDS[kind]
    whole, parted = (make_config(changes, tmp_path / place) for place in ("whole", "parted"))
    mappo.train(name, whole)
    for count in (1, 4):  # in the middle of episodes, and of what their memories hold
        mappo.train(name, parted, callback=stop_after(count), resume=count > 1)
    run = mappo.train(name, parted, resume=True)
    assert run.finished
    assert_same(tmp_path / "whole", tmp_path / "parted")


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_team_plays_as_it_did_in_training(kind: str, tmp_path: Path):
    """And so does each of its agents alone, by its own observation and in its own actions."""
    name, changes = KINDS[kind]
    config = make_config(changes, tmp_path / "run")
    run = mappo.train(name, config)
    env = envs.make(name, 16)
    team = mappo.load_actor(run.path)
    assert team.policy.network.training is False or not any(p.requires_grad for p in team.policy.network.parameters())
    got = run.evaluate(episodes=16)
    assert got["return_sum"]["mean"] == pytest.approx(
        play_episodes(env, team, range(1_000_000, 1_000_016)).team_returns.mean()
    )
    spec = env.spec
    alone = [team.agent(agent) for agent in spec.agents]
    memories: list[Any] = [None] * spec.num_agents
    memory: Any = None
    step: TimeStep = env.reset(5)
    for _ in range(12):
        action, memory = team(step.obs, memory, mask=step.mask, is_first=step.is_first)
        for a, actor in enumerate(alone):
            there = step.active[:, a]
            own = step.obs[:, a] if len(spec.obs_shape) == 3 else step.obs[:, a, : spec.obs_size(a)]
            mask = None if step.mask is None else step.mask[:, a, spec.choice_indices(a)]
            mine, memories[a] = actor(own, memories[a], mask=mask, is_first=step.is_first[:, a])
            theirs = spec.action_heads[a].to_space_action(action[:, a, spec.action_columns(a)])
            assert mine.shape == theirs.shape
            assert torch.allclose(mine[there].double(), theirs[there].double(), atol=1e-5)
        step = env.step(action)


def test_the_command_line_takes_every_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = str(tmp_path / "run")
    options = "--env.num-envs 8 --env.reward agent --network.memory-size 8 --network.hidden 12 --ppo.chunk-length 5"
    small = f"--ppo.rollout-length 10 --run.total-steps 160 --run.eval-episodes 8 --run.progress plain --run.dir {run}"
    assert cli.main(["train", "probe/combined", *options.split(), *small.split()]) == 0
    shown = capsys.readouterr().out
    assert "3 actors for agent_0 | agent_1 | agent_2, a memory of 8" in shown
    assert "(agent), 31 numbers, a row for each agent" in " ".join(shown.split())
    assert cli.main(["evaluate", run, "--episodes", "8", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["return_per_agent"]) == 3
    assert set(result["baselines"]) == {"random"}


def test_what_is_scored_on_the_package_is_what_was_trained_on_its_twin(tmp_path: Path):
    run = mappo.train("speaker_listener", make_config({}, tmp_path / "run"))
    here, there = run.evaluate(episodes=20), run.evaluate(episodes=20, on="mpe2")
    assert there["package_version"].startswith("mpe2 1")
    assert there["return_sum"]["mean"] == pytest.approx(here["return_sum"]["mean"], abs=0.2)
    assert set(there["baselines"]) == {"random", "scripted pair"}
    pairs = [r["baselines"]["scripted pair"]["mean"] for r in (here, there)]
    assert pairs[0] == pytest.approx(pairs[1], abs=1e-3)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", ["spread", "speaker_listener", "reference"])
def test_continuous_actions_are_scored_on_the_package_with_the_same_option(tmp_path: Path, name: str):
    config = make_config({}, tmp_path / "run")
    config = replace(config, env=replace(config.env, options=("continuous_actions=true",)))
    run = mappo.train(name, config)
    here, there = run.evaluate(episodes=5), run.evaluate(episodes=5, on="mpe2")
    assert there["env"].startswith("mpe2/")
    for policy in ("greedy", "sampled"):
        assert there["scores"][policy]["returns"] == pytest.approx(here["scores"][policy]["returns"], abs=0.05), policy
    (scripted,) = set(here["baselines"]) - {"random"}
    assert there["baselines"][scripted]["mean"] == pytest.approx(here["baselines"][scripted]["mean"], abs=1e-3)


def test_a_critic_may_read_what_a_function_makes(tmp_path: Path):
    def only_the_first(obs: torch.Tensor, state: Any, active: torch.Tensor) -> torch.Tensor:
        return obs[..., 0, :]

    config = make_config({}, tmp_path / "run")
    run = mappo.train("spread", config, critic_input=only_the_first, callback=stop_after(2))
    assert not run.finished
    with pytest.raises(UserError, match=r"give the function, mappo.train\(..., critic_input=function\)"):
        mappo.train("spread", replace(config, network=replace(config.network, critic_input="user")), resume=True)
    assert mappo.train("spread", config, critic_input=only_the_first, resume=True).finished
    assert np.isfinite(run.evaluate(episodes=4)["return_sum"]["mean"])


@pytest.mark.parametrize("seeds", [1, 2])
def test_what_never_had_a_gradient_is_resumed(seeds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A layer that an encoder does not use has no moments."""

    class Encoder(nn.Module):
        def __init__(self, features: int, width: int) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(features, width), nn.Linear(2, 2)

        def forward(self, x: Any) -> Any:
            return torch.tanh(self.used(x))

    monkeypatch.setitem(encoders.ENCODERS, "half", lambda _, shape, net: Encoder(shape[0], net.hidden[-1]))
    base = mappo.Config.from_dict(
        {
            "env": {"num_envs": 4},
            "network": {"hidden": [4], "encoder": "half"},
            "ppo": {"rollout_length": 5, "epochs": 1, "minibatches": 1},
            "run": {"total_steps": 60, "eval_interval": 20, "eval_episodes": 2, "progress": "off", "seeds": seeds},
        }
    )

    def stop(update: Any) -> None:
        if update.index == 1:
            raise mappo.StopTraining

    config = replace(base, run=replace(base.run, dir=str(tmp_path / "run")))
    assert not mappo.train("spread", config, callback=stop).finished
    assert mappo.train("spread", config, resume=True).finished
