"""mpe2's environments behind the batched interface, to hold the batched twins against them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from mappo.core.timestep import TimeStep
from mappo.envs.batched.particles import Particles

HORIZON = 25
SEEDS = [0, 1, 7, 123, 9999, 2**31]


class Original:
    """mpe2's environments, one for each seed; observations are padded with zeros.

    Args:
        module: such as `mpe2.simple_spread_v3`.
        seeds: one for each environment.
        options: of mpe2's `parallel_env`.
    """

    def __init__(self, module: Any, seeds: Sequence[int], **options: Any) -> None:
        self.envs = [module.parallel_env(**options) for _ in seeds]
        self.names = self.envs[0].possible_agents
        self.size = max(self.envs[0].observation_space(name).shape[0] for name in self.names)
        self.obs = np.stack([self._padded(e.reset(seed=s)[0]) for e, s in zip(self.envs, seeds, strict=True)])

    def step(self, action: Tensor) -> tuple[np.ndarray, np.ndarray, bool, bool]:
        """Observations, rewards, terminated, truncated; the flags are the same in all environments."""
        results = []
        for env, row in zip(self.envs, action.numpy(), strict=True):
            obs, *rest = env.step({name: self._own(name, x) for name, x in zip(self.names, row, strict=True)})
            results.append([self._padded(obs), *([by_name[name] for name in self.names] for by_name in rest[:3])])
        obs, reward, terminated, truncated = (np.stack(x) for x in zip(*results, strict=True))
        assert truncated.all() or not truncated.any()
        return obs, reward, bool(terminated.any()), bool(truncated.all())

    def _own(self, name: str, columns: np.ndarray) -> Any:
        """An agent's action in its own space, from the columns of the padded layout."""
        space = self.envs[0].action_space(name)
        return int(columns[0]) if isinstance(space, Discrete) else columns[: space.shape[0]]

    def world(self, index: int) -> Any:
        return self.envs[index].unwrapped.world

    def _padded(self, by_name: dict[str, np.ndarray]) -> np.ndarray:
        assert all(x.dtype == np.float32 for x in by_name.values())
        return np.stack([np.pad(by_name[name], (0, self.size - len(by_name[name]))) for name in self.names])


def random_actions(env: Particles, generator: torch.Generator) -> Tensor:
    """Legal actions `(E, A, D)`."""
    if env.spec.continuous:
        return torch.rand(env.num_envs, env.spec.num_agents, env.spec.action_size, generator=generator)
    sizes = [heads.categorical[0] for heads in env.spec.action_heads]
    return torch.stack([torch.randint(n, (env.num_envs, 1), generator=generator) for n in sizes], 1)


def assert_follows(env: Particles, original: Original, act: Callable[[Tensor], Tensor], tolerance: float) -> None:
    """One episode in both, by a policy of the original's observations."""
    obs = original.obs
    for t in range(1, HORIZON + 1):
        action = act(torch.as_tensor(obs))
        step = env.step(action)
        obs, reward, terminated, truncated = original.step(action)
        np.testing.assert_allclose(step.reward.numpy(), reward, rtol=0, atol=tolerance)
        np.testing.assert_allclose(step.next_obs.numpy(), obs, rtol=0, atol=max(tolerance, 1e-6))
        assert not terminated
        assert not step.terminated.any()
        assert truncated == bool(step.ended.all()) == bool(step.ended.any()) == (t == HORIZON)


def assert_same(a: TimeStep, b: TimeStep) -> None:
    for name, x in vars(a).items():
        y = getattr(b, name)
        assert (x is None and y is None) or torch.equal(x, y), name


def team_returns(env: Particles, policy: Any) -> Tensor:
    """The team's return of each environment, `(E,)`, from seeds 0, 1, ..."""
    obs = env.reset(0).obs
    total = torch.zeros(env.num_envs)
    for _ in range(HORIZON):
        action = policy(obs)[0]
        assert action.shape == (env.num_envs, env.spec.num_agents, env.spec.action_size)
        assert all((x >= 0).all() and (x <= most).all() for x, most in zip(action.unbind(1), largest(env), strict=True))
        step = env.step(action)
        obs = step.obs
        total += env.spec.team_reward(step.reward)
    return total


def largest(env: Particles) -> list[float]:
    """The largest number in an action of each agent."""
    return [1.0 if heads.low else heads.categorical[0] - 1 for heads in env.spec.action_heads]


def count_pixels(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    """Pixels of about a colour."""
    return int((abs(picture.astype(int) - color).max(-1) <= 8).sum())
