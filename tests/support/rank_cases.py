"""Trainings of several processes, and of one process over the union of their environments (law 8).

Run as a program, it is one of the processes: `rank_cases.py FOLDER DTYPE CASE...` saves what each case has come to.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from chaos import Chaos
from mappo.algorithms.mappo import MAPPO
from mappo.backend.process_group import joined
from mappo.backend.process_settings import TorchDefaults
from mappo.backend.ranks import Ranks
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig
from mappo.core.protocols import Environment
from mappo.core.timestep import Rollout, TimeStep
from mappo.envs import make
from mappo.envs.batched.battle import Battle
from mappo.envs.batched.concat import ConcatEnv
from mappo.envs.batched.spread import Spread
from mappo.rollouts.collector import Collector
from mappo.system.launched import find_place

ENVS, STEPS, UPDATES, FIRST_SEED = 16, 20, 3, 11
SPREAD = Config(
    EnvConfig(num_envs=ENVS), NetworkConfig((16,), "tanh"), PPOConfig(rollout_length=STEPS, epochs=3, actor_lr=3e-3)
)


def _with(base: Config, network: dict[str, Any] | None = None, reward: Any = "team", **ppo: Any) -> Config:
    return replace(
        base,
        env=replace(base.env, reward=reward),
        network=replace(base.network, **(network or {})),
        ppo=replace(base.ppo, **ppo),
    )


CLIPPED = _with(SPREAD, {"obs_norm": True}, minibatches=4, max_grad_norm=0.05)
CASES: dict[str, tuple[str, Config]] = {
    "spread": ("spread", SPREAD),
    "spread-minibatches": ("spread", _with(SPREAD, minibatches=4, value_clip=0.2, huber_delta=1.0)),
    "spread-own-loss": ("spread", _with(SPREAD, minibatches=4, value_clip=0.2)),
    "spread-gru": ("spread", _with(SPREAD, {"memory_size": 8}, minibatches=4)),
    "battle": ("battle", CLIPPED),
    "battle-gru": ("battle", _with(CLIPPED, {"memory_size": 8, "layer_norm": True})),
    "battle-agent-rows": (
        "battle",
        _with(CLIPPED, {"critic_input": "agent"}, value_clip=0.2, huber_delta=1.0),
    ),
    "battle-popart": (
        "battle",
        _with(CLIPPED, popart=True, target_kl=2e-3, recompute_advantages=True, actor_lr=2e-2),
    ),
    "chaos-own-reward": ("chaos", _with(CLIPPED, reward="agent")),
    "chaos-gru": ("chaos", _with(CLIPPED, {"memory_size": 8}, popart=True)),
    "foraging": ("lbf/Foraging-5x5-2p-1f-v3", _with(CLIPPED)),
    "mpe2": ("mpe2/simple_spread_v3", _with(CLIPPED)),
}
FAST = ["spread-own-loss", "spread-gru", "battle", "battle-gru", "battle-agent-rows", "battle-popart"]


class Bold(MAPPO):
    """A loss of the user, with terms over the rows of actors and of critics."""

    extra_metrics = ("boldness",)
    loss_adds_up = True

    def loss(self, batch: Any, outputs: Any) -> Any:
        total, metrics = super().loss(batch, outputs)
        boldness = batch.mean(outputs.entropy.square()) + batch.value_mean(outputs.value.square())
        return total + 0.3 * boldness, metrics | {"boldness": boldness}


def _make_env(name: str, num_envs: int, parts: int) -> Environment:
    """Make environments whose random numbers come from equal parts."""
    if name == "chaos":
        return Wrapped(ConcatEnv([Chaos(num_envs // parts) for _ in range(parts)]))
    if name not in ("spread", "battle"):
        return Wrapped(make(name, num_envs, workers=2))
    env = (Spread if name == "spread" else Battle)(num_envs)
    env.set_num_seeds(parts)
    return Wrapped(env)


class Wrapped:
    """An environment that computes in float32, whatever the networks compute in."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self.spec, self.device, self.num_envs, self.close = env.spec, env.device, env.num_envs, env.close

    def reset(self, seed: Any = None) -> TimeStep:
        with TorchDefaults(torch.float32):
            return self._env.reset(seed)

    def step(self, action: Tensor) -> TimeStep:
        with TorchDefaults(torch.float32):
            return self._env.step(action)


def train(name: str, parts: list[int], size: int, ranks: Ranks, dtype: torch.dtype) -> dict[str, Tensor]:
    """Train on the environments of some parts of `size`, with the streams of their processes; return everything."""
    kind, config = CASES[name]
    own = ENVS // size
    env = _make_env(kind, own * len(parts), len(parts))
    torch.set_default_dtype(dtype)
    agent = (Bold if name == "spread-own-loss" else MAPPO)(env.spec, config, seed=1, ranks=ranks)
    # Each process samples its minibatches, its actions and its episodes from streams of its own.
    orders = [torch.Generator().manual_seed(100 + part) for part in parts]
    noise = [torch.Generator().manual_seed(200 + part) for part in parts]
    step = env.reset([FIRST_SEED + part * own + e for part in parts for e in range(own)])
    collector = Collector(env, agent, STEPS, step, noise, ranks)
    agent.epoch_orders = lambda rollout: _union(agent, rollout, orders)
    found: dict[str, Tensor] = {}
    for update in range(UPDATES):
        rollout, _ = collector.collect()
        metrics = agent.update(rollout)
        found |= {f"{update}.{key}": x.clone() for key, x in (agent.state_dict() | metrics).items()}
    env.close()
    torch.set_default_dtype(torch.float32)
    return {key: x for key, x in found.items() if not key.endswith(("generator", "critic_memory"))}


def _union(agent: MAPPO, rollout: Rollout, generators: list[torch.Generator]) -> Tensor | None:
    """Return the orders of all parts as one: each minibatch joins the minibatches of the parts."""
    ppo = agent.config.ppo
    if ppo.minibatches == 1:
        return None
    length, num_envs = rollout.ended.shape
    own = num_envs // len(generators)
    times = length // (agent.config.chunk_length or 1)
    parts: list[Tensor] = []
    for k, generator in enumerate(generators):
        order = torch.stack([torch.randperm(times * own, generator=generator) for _ in range(ppo.epochs)])
        rows = order // own * num_envs + k * own + order % own
        parts.append(rows.unflatten(1, (ppo.minibatches, -1)))
    return torch.cat(parts, 2).flatten(1)


def main(folder: str, dtype: str, *names: str) -> None:
    place = find_place()
    torch.set_num_threads(1)
    with joined(place, False, 60) as ranks:
        for name in names:
            found = train(name, [place.rank], place.size, ranks, getattr(torch, dtype))
            save_file({key: x.contiguous().clone() for key, x in found.items()}, Path(folder, f"{name}-{place.rank}"))


if __name__ == "__main__":
    main(*sys.argv[1:])
