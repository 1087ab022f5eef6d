"""A setting without effect is named before the run begins, and one with effect is not."""

from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

import mappo
from games import Game
from mappo.cli.main import main
from mappo.config import Config
from mappo.core.protocols import Environment
from mappo.envs.vector.pool import WorkerPool
from mappo.envs.vector.serial import SerialEnvs
from mappo.training.unused_settings import unused_notes

OPTIONS = str.split(
    "--env.num-envs 2 --network.hidden 8 --ppo.rollout-length 5 --ppo.epochs 1 --ppo.minibatches 1 "
    "--run.total-steps 10 --run.eval-episodes 2 --run.device cpu --run.progress plain"
)


def notes(env: Environment, /, **sections: dict[str, Any]) -> list[str]:
    config = Config()
    sections = {name: replace(getattr(config, name), **values) for name, values in sections.items()}  # type: ignore
    return unused_notes(replace(config, **sections), env)


@pytest.mark.parametrize(
    ("name", "section", "values", "words"),
    [
        ("spread", "env", {"workers": 2}, "env.workers 2 has no effect: these environments are stepped at once"),
        ("spread", "env", {"restart": True}, "env.restart True has no effect: no worker process"),
        ("probe/image", "env", {"worker_timeout": 5.0}, "env.worker-timeout 5.0 has no effect"),
        ("spread", "network", {"precision": "tf32"}, "network.precision tf32 has no effect: it needs CUDA"),
        ("spread", "network", {"encoder": "cnn"}, "network.encoder cnn has no effect: no observation holds an image"),
        ("battle", "network", {"encoder": "cnn"}, "network.encoder cnn has no effect"),
        ("spread", "network", {"channels": "first"}, "network.channels first has no effect"),
        ("spread", "network", {"action_bounds": "tanh"}, "has no effect: all actions are discrete"),
        ("spread", "network", {"initial_std": 0.1}, "has no effect: all actions are discrete"),
        ("spread", "ppo", {"n_step": 3}, "ppo.n-step 3 has no effect: ppo.returns is gae"),
        ("spread", "ppo", {"returns": "n_step", "gae_lambda": 0.0}, "ppo.gae-lambda 0.0 has no effect: ppo.returns is"),
        ("spread", "ppo", {"chunk_length": 5}, "ppo.chunk-length 5 has no effect: single steps are shuffled"),
        ("spread", "ppo", {"value_norm": False, "value_norm_decay": 0.5}, "ppo.value-norm-decay 0.5 has no effect"),
    ],
)
def test_a_setting_without_effect_is_named(name: str, section: str, values: dict[str, Any], words: str):
    (note,) = notes(mappo.make(name, 2), **{section: values})
    assert words in note


@pytest.mark.parametrize(
    ("name", "section", "values"),
    [
        ("spread", "env", {"workers": 0}),
        ("probe/image", "network", {"encoder": "cnn", "channels": "last"}),
        ("spread", "network", {"encoder": "mlp", "precision": "bf16", "sharing": "all"}),
        ("probe/target", "network", {"action_bounds": "tanh", "action_std": "state", "initial_std": 0.1}),
        ("probe/mixed", "network", {"initial_std": 0.1}),
        ("spread", "ppo", {"returns": "n_step", "n_step": 3}),
        ("spread", "ppo", {"gae_lambda": 0.0, "value_norm_decay": 0.5}),
        ("spread", "ppo", {"minibatch_by": "sequence", "chunk_length": 5}),
    ],
)
def test_a_setting_with_effect_is_not(name: str, section: str, values: dict[str, Any]):
    assert notes(mappo.make(name, 2), **{section: values}) == []


def test_workers_of_environments_in_python():
    env = SerialEnvs(Game, 1)
    assert notes(env, env={"workers": 2}) == ["env.workers 2 has no effect: one environment needs no worker"]
    assert notes(env, env={"workers": 0}) == []
    assert notes(env, env={"restart": True, "workers": 0}) == [
        "env.restart True has no effect: no worker process steps the environments"
    ]
    with closing(WorkerPool(Game, 2, mappo.EnvConfig(workers=1).env_options)) as pool:
        assert notes(pool, env={"workers": 1, "restart": True, "worker_timeout": 5.0}) == []


def test_the_command_line_says_so_and_trains(tmp_path: Any, capsys: pytest.CaptureFixture[str]):
    ignored = ["--env.workers", "2", "--network.precision", "tf32", "--network.encoder", "cnn"]
    assert main(["train", "probe/signal", *OPTIONS, *ignored, "--run.dir", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    for option in ("env.workers 2", "network.precision tf32", "network.encoder cnn"):
        assert f"{option} has no effect: " in out
