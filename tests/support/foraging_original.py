"""lbforaging behind the batched interface, to hold the batched twin against it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mappo import envs
from mappo.config.settings import EnvOptions
from mappo.core.timestep import TimeStep
from mappo.envs.batched.foraging import LOAD, Foraging

# Names of each kind: full and limited sight, cooperation, penalties, food of level 1, sizes not registered.
NAMES = (
    "Foraging-8x8-2p-2f-coop-v3",
    "Foraging-2s-8x8-2p-2f-coop-v3",
    "Foraging-10x10-3p-3f-v3",
    "Foraging-2s-10x10-3p-3f-v3",
    "Foraging-15x15-4p-3f-v3",
    "Foraging-15x15-4p-5f-v3",
    "Foraging-5x5-2p-1f-v3",
    "Foraging-5x5-9p-4f-v3",
    "Foraging-2s-5x5-4p-3f-pen-v3",
    "Foraging-6x6-3p-2f-coop-pen-v3",
    "Foraging-1s-6x6-5p-3f-coop-pen-v3",
    "Foraging-3s-7x7-3p-2f-pen-v3",
    "Foraging-5x5-6p-2f-ind-v3",
    "Foraging-9x9-4p-4f-coop-ind-v3",
    "Foraging-2s-19x19-9p-4f-v3",
    "Foraging-19x19-2p-1f-coop-v3",
    "Foraging-3x3-2p-2f-v3",
    "Foraging-4x4-3p-1f-v3",
    "Foraging-2s-12x12-6p-4f-coop-v3",
    "Foraging-12x12-12p-8f-v3",
)


@dataclass
class Counts:
    """Steps, ends and payments of a comparison, to show that it saw some of each."""

    steps: int = 0
    ended: int = 0
    terminated: int = 0
    paid: int = 0
    fined: int = 0
    shared_cells: int = 0


class Original:
    """Environments of lbforaging's adapter, one for each seed."""

    def __init__(self, name: str, seeds: Sequence[int], **options: Any) -> None:
        make = envs.factory(f"lbf/{name}", EnvOptions(options=options))
        self.envs: list[Any] = [make() for _ in seeds]
        self.agents = self.envs[0].possible_agents
        starts = [env.reset(seed) for env, seed in zip(self.envs, seeds, strict=True)]
        self.obs = self._stack([obs for obs, _ in starts])
        self.mask = self._masks([infos for _, infos in starts])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, ...]:
        """Step by actions `(E, A)`; return observations, rewards, terminated and truncated, each `(E, A, ...)`."""
        results = [
            env.step(dict(zip(self.agents, choice, strict=True))) for env, choice in zip(self.envs, action, strict=True)
        ]
        obs, reward, terminated, truncated, infos = zip(*results, strict=True)
        self.obs = self._stack(obs)
        self.mask = self._masks(infos)
        return self.obs, self._stack(reward), self._stack(terminated), self._stack(truncated)

    def begin_like(self, twin: Foraging, index: int) -> None:
        """Begin the episode that the twin has begun in environment `index`."""
        env = self.envs[index]
        env.reset(0)
        game = env.env
        state = {name: x[index].tolist() for name, x in twin.state_dict().items() if name != "generator"}
        game.field[:] = 0
        for cell, level in zip(state["food"], state["food_level"], strict=True):
            if level:
                game.field[divmod(cell, game.cols)] = level
        for player, cell, level in zip(game.players, state["cell"], state["level"], strict=True):
            player.position = divmod(cell, game.cols)
            player.level = level
        game._food_spawned = game.field.sum()
        game._gen_valid_moves()
        self.obs[index] = game._make_gym_obs()
        self.mask[index] = self._masks([env._infos()])[0]

    def _stack(self, by_name: Sequence[dict[str, Any]]) -> np.ndarray:
        return np.array([[values[agent] for agent in self.agents] for values in by_name])

    def _masks(self, infos: Sequence[dict[str, Any]]) -> np.ndarray:
        return np.array([[info[agent]["action_mask"] for agent in self.agents] for info in infos])


def follow(name: str, num_envs: int, steps: int, seed: int = 0, **options: Any) -> Counts:
    """Hold `steps` steps of each environment against the package, bit for bit, illegal actions among them."""
    seeds = range(seed, seed + num_envs)
    twin = twin_of(name, num_envs, options)
    original = Original(name, seeds, **options)
    rng = np.random.default_rng(seed)
    counts = Counts()
    step = twin.reset(seeds)
    assert list(twin.spec.obs_spaces) == [original.envs[0].observation_space(agent) for agent in original.agents]
    for _ in range(steps):
        assert step.mask is not None
        assert np.array_equal(step.obs.numpy(), original.obs)
        assert np.array_equal(step.mask.numpy(), original.mask)
        action = rng.integers(0, 6, original.mask.shape[:2])
        action[original.mask[..., LOAD] & (rng.random(action.shape) < 0.7)] = LOAD
        step = twin.step(torch.as_tensor(action).unsqueeze(-1))
        _compare(step, original.step(action), counts)
        place = twin.state_tensors()["cell"].sort(1).values
        counts.shared_cells += int((place[:, 1:] == place[:, :-1]).any(1).sum())
        for index in step.ended.nonzero().flatten().tolist():
            original.begin_like(twin, index)
    return counts


def twin_of(name: str, num_envs: int, options: dict[str, Any]) -> Foraging:
    twin = envs.make(f"foraging/{name}", num_envs, options=options)
    assert isinstance(twin, Foraging)
    return twin


def _compare(step: TimeStep, result: tuple[np.ndarray, ...], counts: Counts) -> None:
    obs, reward, terminated, truncated = result
    assert np.array_equal(step.next_obs.numpy(), obs)
    assert np.array_equal(step.reward.numpy(), reward.astype(np.float32))
    assert np.array_equal(step.terminated.numpy(), terminated)
    ended = (terminated | truncated).all(1)
    assert np.array_equal(step.ended.numpy(), ended)
    counts.steps += len(obs)
    counts.ended += int(ended.sum())
    counts.terminated += int(terminated.all(1).sum())
    counts.paid += int((reward > 0).sum())
    counts.fined += int((reward < 0).sum())
