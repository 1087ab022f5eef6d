"""rware's environments behind the batched interface, to hold the batched warehouse against them."""

import warnings
from typing import Any

import numpy as np
import torch
from rware.warehouse import RewardType, Warehouse as Package
from torch import Tensor

from mappo.envs.batched import warehouse
from mappo.envs.batched.warehouse import Warehouse
from mappo.envs.batched.warehouse_rules import read_name

LIKELY = torch.tensor([0.05, 0.5, 0.15, 0.15, 0.15])  # random robots that get about


def package(name: str, **options: Any) -> Package:
    settings = {**(read_name(name) or {}), **options}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Box (low|high)'s precision lowered")  # of normalised coordinates
        return Package(**{**settings, "reward_type": RewardType[settings["reward_type"].upper()]})


def random_actions(env: Warehouse, generator: torch.Generator) -> Tensor:
    """Actions `(E, A, 1 + M)`."""
    shape = (env.num_envs, env.spec.num_agents)
    moves = torch.multinomial(LIKELY, shape[0] * shape[1], True, generator=generator).view(*shape, 1)
    return torch.cat([moves, torch.randint(2, (*shape, env.rules.msg_bits), generator=generator)], -1)


def state_of(env: Package) -> dict[str, Any]:
    """Robots and shelves of the package: places, loads, requests."""
    queue = {shelf.id for shelf in env.request_queue}
    return {
        "robots": [(a.y, a.x, a.dir.value, bool(a.carrying_shelf), bool(a.has_delivered)) for a in env.agents],
        "shelves": {(s.y, s.x): (s.id, s.id in queue) for s in env.shelfs},
    }


def state_of_twin(env: Warehouse, index: int) -> dict[str, Any]:
    """The same of an environment of the twin."""
    state = {name: x[index].numpy() for name, x in env.state_tensors().items()}
    cells = state["shelves"].nonzero()[0]
    names = ("direction", "load", "has_delivered")
    robots = zip(*env.layout.rows_and_columns(state["cell"]), *(state[name] for name in names), strict=True)
    places = zip(*env.layout.rows_and_columns(cells), strict=True)
    return {
        "robots": [(y, x, way, bool(load), bool(delivered)) for y, x, way, load, delivered in robots],
        "shelves": {
            place: (code // 2, code % 2 == 1) for place, code in zip(places, state["shelves"][cells], strict=True)
        },
    }


def follow(name: str, seeds: range, steps: int, state_every: int = 50, **options: Any) -> float:
    """Play an episode of each seed in both by random actions, compare each step; return the rewards' sum."""
    twin = warehouse.make(name, len(seeds), "cpu", {**options, "ties": "package"})
    originals = [package(name, **options) for _ in seeds]
    obs = twin.reset(list(seeds)).obs
    first = [original.reset(seed=seed)[0] for original, seed in zip(originals, seeds, strict=True)]
    np.testing.assert_array_equal(obs.numpy(), np.array(first))
    generator = torch.Generator().manual_seed(seeds[0])
    total = 0.0
    for t in range(steps):
        before = [state_of_twin(twin, index) for index in range(len(seeds))] if t % state_every == 0 else []
        for original, state in zip(originals, before, strict=False):
            assert state == state_of(original)
        action = random_actions(twin, generator)
        step = twin.step(action)
        choices = (action if twin.rules.msg_bits else action.squeeze(-1)).tolist()
        results = [original.step(choice) for original, choice in zip(originals, choices, strict=True)]
        obs, reward, over, _, _ = zip(*results, strict=True)
        np.testing.assert_array_equal(step.reward.numpy(), np.array(reward, np.float32))
        np.testing.assert_array_equal(step.next_obs.numpy(), np.array(obs))
        np.testing.assert_array_equal(step.ended.numpy(), np.array(over))
        assert not step.terminated.any()
        total += float(step.reward.sum())
        if any(over):  # rware begins no episode by itself
            break
    return total
