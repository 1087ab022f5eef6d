"""Trainings whose updates and rollouts are recorded, on a CPU or on a GPU."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import mappo
from mappo.algorithms.multi_seed import MultiSeed
from mappo.envs.batched.concat import ConcatEnv

ENVS, UPDATES = 8, 6


# Environment, options of it, network, ppo: what each kind of learner and game does in an update or a step.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "spread": ("spread", {}, {}, {"lr_final": 0.0, "entropy_final": 0.0}),
    "two phases": ("spread", {"horizon": 20}, {}, {"rollout_length": 10, "minibatches": 1}),
    "more phases than recordings": ("spread", {}, {}, {"rollout_length": 24, "epochs": 1, "minibatches": 1}),
    "memory": (
        "spread",
        {},
        {"memory_size": 8, "obs_norm": True, "layer_norm": True, "activation": "tanh"},
        {"popart": True, "value_clip": 0.2, "huber_delta": 10.0, "rollout_length": 20, "chunk_length": 5},
    ),
    "values anew": ("spread", {}, {"critic_input": "agent"}, {"recompute_advantages": True, "dual_clip": 3.0}),
    "n steps": ("reference", {}, {"sharing": "none"}, {"returns": "n_step"}),
    "all rewards": ("speaker_listener", {}, {}, {"returns": "discounted"}),
    "battle": ("battle", {}, {"memory_size": 8}, {"rollout_length": 20}),
    "lives": ("probe/combined", {}, {"memory_size": 8, "critic_input": "agent", "death_mask": True}, {}),
    "numbers": ("probe/mixed", {}, {"action_bounds": "tanh"}, {}),
    "images": ("probe/image", {}, {"critic_input": "own"}, {}),
    "bf16": ("spread", {}, {"precision": "bf16"}, {}),
}


SEVERAL = ("spread", "two phases", "memory", "lives", "numbers")  # seeds at once


def config_of(kind: str) -> mappo.Config:
    name, _, network, ppo = KINDS[kind]
    base = mappo.preset(name)
    return replace(
        base,
        env=replace(base.env, num_envs=ENVS),
        network=replace(base.network, **{"hidden": (8,), "memory_size": 0, **network}),
        ppo=replace(base.ppo, **{"minibatches": 2, "epochs": 2, "rollout_length": 25, **ppo}),
        run=replace(base.run, total_steps=UPDATES * 25 * ENVS),
    )


def training(kind: str, seeds: int = 1, device: str = "cpu") -> tuple[Any, mappo.Collector]:
    config, name = config_of(kind), KINDS[kind][0]
    options, apart = KINDS[kind][1], kind == "memory"  # environments for each seed, or one with a share for each
    games = [mappo.make(name, ENVS, options=options, device=device) for _ in range(seeds)]
    agents = [mappo.MAPPO(games[0].spec, config, device, seed=k) for k in range(seeds)]
    env, learner = (games[0], agents[0]) if seeds == 1 else (ConcatEnv(games), MultiSeed(agents))
    if seeds > 1 and not apart:
        env = mappo.make(name, ENVS * seeds, options=options, device=device)
        env.set_num_seeds(seeds)
    noise = [torch.Generator(device).manual_seed(k) for k in range(seeds)]
    step = env.reset(range(ENVS * seeds))
    return learner, mappo.Collector(env, learner, config.ppo.rollout_length, step, noise if seeds > 1 else noise[0])


Between = Callable[[Any, mappo.Collector, int], None]


def nothing(*_: Any) -> None:
    pass


def trained(kind: str, seeds: int, between: Between = nothing, device: str = "cpu") -> list[dict[str, Tensor]]:
    """All numbers of each update, and at last all that the learners hold."""
    learner, collector = training(kind, seeds, device)
    told: list[dict[str, Tensor]] = []
    for index in range(UPDATES):
        rollout, episodes = collector.collect()
        told.append({k: x.clone() for k, x in {**episodes, **learner.update(rollout)}.items()})
        told[-1] |= {f"rollout {k}": x.clone() for k, x in vars(rollout).items() if x is not None}
        between(learner, collector, index)
    for k, agent in enumerate(getattr(learner, "agents", [learner])):
        told.append({name: x.clone() for name, x in {**agent.state_dict(), **collector.state_dict(k)}.items()})
    return told


def load_again(learner: Any, collector: mappo.Collector, index: int) -> None:
    """In the middle of it, all that was saved is loaded where it was."""
    if index != 3:
        return
    agents = getattr(learner, "agents", [learner])
    for agent in agents:
        agent.load_state_dict({k: x.clone() for k, x in agent.state_dict().items()})
    collector.load_state_dict(*({n: x.clone() for n, x in collector.state_dict(k).items()} for k in range(len(agents))))


def same(first: list[dict[str, Tensor]], second: list[dict[str, Tensor]]) -> None:
    assert len(first) == len(second)
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(b[name], a[name], rtol=0, atol=0, equal_nan=True, msg=f"{index}: {name}")
