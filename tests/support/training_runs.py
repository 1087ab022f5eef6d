"""Small training runs, and how they are compared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.errors import StopTraining
from mappo.runs import checkpoint
from mappo.runs.logger import Update
from mappo.system.shutdown import Interrupts

# Rollouts of 10 steps and episodes of 25: updates, checkpoints and stops fall into the middle of games.
SIZE, UPDATES = 80, 6


CONFIG = Config(
    env=EnvConfig(num_envs=8),
    network=NetworkConfig(hidden=(16,)),
    ppo=PPOConfig(rollout_length=10, epochs=2, minibatches=2, actor_lr=5e-3, lr_final=0.1, entropy_final=0.5),
    run=RunConfig(total_steps=SIZE * UPDATES, eval_interval=2 * SIZE, eval_episodes=256, progress="off"),
)


SETTINGS = {
    "team": CONFIG,
    "agent": replace(
        CONFIG,
        env=EnvConfig(num_envs=8, reward="agent"),
        ppo=replace(CONFIG.ppo, value_norm=False, minibatches=1, value_clip=0.2, huber_delta=10.0),
        network=NetworkConfig(hidden=(16,), activation="tanh", layer_norm=True),
    ),
    "memory": replace(
        CONFIG,
        network=NetworkConfig(hidden=(16,), memory_size=8, obs_norm=True),
        ppo=replace(CONFIG.ppo, popart=True, chunk_length=5),
    ),
}


def within(config: Config, path: Path, **run: Any) -> Config:
    return replace(config, run=replace(config.run, dir=str(path), **run))


def stop_after(count: int, error: type[Exception] = StopTraining) -> Any:
    def callback(update: Update) -> None:
        if update.index == count:
            raise error

    return callback


class StopAtCheck(Interrupts):
    """Stops a run at the check of this number, counted from 1."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number

    def check(self) -> None:
        self.left -= 1
        if not self.left:
            raise StopTraining


def everything(path: Path) -> tuple[bytes, dict[str, Any], dict[str, Tensor], str]:
    """All that a run has come to, but for clock times."""
    found = checkpoint.load(path)
    state = {k: v for k, v in found.state.items() if k != "sha256"}
    best = checkpoint.load(path, "best").path.name
    tables = b"".join((path / name).read_bytes() for name in ("metrics.csv", "returns.csv"))
    return tables, state, found.model | found.trainer, best


def assert_same(a: Path, b: Path) -> None:
    """Bit for bit."""
    (numbers, state, tensors, best), (other_numbers, other_state, other_tensors, other_best) = map(everything, (a, b))
    assert numbers == other_numbers
    assert state == other_state
    assert best == other_best
    assert set(tensors) == set(other_tensors)
    assert len(tensors) > 30
    for name, tensor in tensors.items():
        assert torch.equal(tensor, other_tensors[name]), name
