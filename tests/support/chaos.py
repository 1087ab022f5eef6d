"""A fake environment where everything happens that the contract allows, at random, and soon."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.core.spec import ActionHeads, Spec
from mappo.core.timestep import Rollout, TimeStep


class Chaos:
    """Agents die and arrive, actions are masked, episodes end by themselves and by a time limit.

    Observations are noise, save that their first number is the agent's last action. An inactive agent sees
    `dead_sees`, and may have no legal action.

    Args:
        kinds: of unequal agents, how many numbers each sees and what it chooses; in place of the three before it.
    """

    def __init__(
        self,
        num_envs: int = 6,
        num_agents: int = 3,
        *,
        heads: tuple[int, ...] = (3, 2),
        obs_size: int = 4,
        kinds: Sequence[tuple[int, ActionHeads]] | None = None,
        state_size: int | None = 5,
        masked: bool = True,
        deaths: float = 0.15,
        terminations: float = 0.08,
        truncations: float = 0.08,
        dead_sees: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.num_envs, self.device, self.dtype = num_envs, torch.device("cpu"), dtype
        kinds = [(obs_size, ActionHeads(heads))] * num_agents if kinds is None else kinds
        self.spec = Spec(
            agents=tuple(f"agent_{i}" for i in range(len(kinds))),
            obs_spaces=tuple(spaces.Box(-np.inf, np.inf, (size,), np.float32) for size, _ in kinds),
            action_heads=tuple(own for _, own in kinds),
            state_shape=None if state_size is None else (state_size,),
        )
        self.state_size, self.masked = state_size, masked
        # What is padding: numbers that an agent does not see, choices that it does not have.
        self.seen = torch.arange(self.spec.obs_shape[0]) < torch.tensor([[size] for size, _ in kinds])
        self.legal = self.spec.static_mask_tensor
        self.first_column = torch.tensor([self.spec.action_columns(a)[0] for a in range(len(kinds))])
        self.deaths, self.terminations, self.truncations = deaths, terminations, truncations
        self.dead_sees = dead_sees
        self.generator = torch.Generator()
        self.active = torch.ones(num_envs, len(kinds), dtype=torch.bool)

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        if seed is not None:
            self.generator.manual_seed(seed if isinstance(seed, int) else seed[0])
        self.active = self._some_start()
        never = torch.zeros_like(self.active)
        nothing = torch.zeros(self.active.shape, dtype=self.dtype)
        obs, state = self._obs(None, self.active), self._state()
        return TimeStep(
            obs, state, self._mask(), self.active, self.active, nothing, never, never[:, 0], obs, state, self.active
        )

    def step(self, action: Tensor) -> TimeStep:
        reward = self._normal(self.active.shape) * self.active
        dies = self.active & self._happens(self.deaths, self.active.shape)
        arrives = ~self.active & self._happens(0.3, self.active.shape)
        next_active = (self.active & ~dies) | arrives
        by_itself = self._happens(self.terminations, (self.num_envs,))
        ended = by_itself | self._happens(self.truncations, (self.num_envs,))
        next_obs, next_state = self._obs(action, next_active), self._state()

        over, start = ended.unsqueeze(-1), self._some_start()
        self.active = torch.where(over, start, next_active)
        obs = torch.where(over.unsqueeze(-1), self._obs(None, start), next_obs)
        state = None if next_state is None else torch.where(over, self._normal(next_state.shape), next_state)
        return TimeStep(
            obs=obs,
            state=state,
            mask=self._mask(),
            active=self.active,
            is_first=torch.where(over, start, arrives),
            reward=reward,
            terminated=dies | by_itself.unsqueeze(-1),
            ended=ended,
            next_obs=next_obs,
            next_state=next_state,
            next_active=next_active,
        )

    def close(self) -> None:
        pass

    def _happens(self, chance: float, shape: Sequence[int]) -> Tensor:
        return torch.rand(tuple(shape), generator=self.generator) < chance

    def _normal(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self.generator, dtype=torch.float64).to(self.dtype)

    def _some_start(self) -> Tensor:
        """Who is there when an episode begins: the first agent, and most of the others."""
        start = self._happens(0.8, self.active.shape)
        start[:, 0] = True
        return start

    def _obs(self, action: Tensor | None, active: Tensor) -> Tensor:
        obs = torch.where(self.seen, self._normal((*active.shape, *self.spec.obs_shape)), 0.0)
        if action is not None:
            obs[..., 0] = action.gather(-1, self.first_column.expand(active.shape).unsqueeze(-1))[..., 0].to(self.dtype)
        return torch.where(active.unsqueeze(-1), obs, self.dead_sees)

    def _state(self) -> Tensor | None:
        return None if self.state_size is None else self._normal((self.num_envs, self.state_size))

    def _mask(self) -> Tensor | None:
        """About half of the actions are legal, in each head at least one, save for inactive agents."""
        if not self.masked or not self.spec.heads:
            return None
        parts = []
        for n, own in zip(self.spec.heads, self.legal.split(self.spec.heads, -1), strict=True):
            legal = self._happens(0.5, (*self.active.shape, n)) & own
            one = torch.randint(n, self.active.shape, generator=self.generator) % own.sum(-1)
            parts.append(legal | (torch.nn.functional.one_hot(one, n).bool() & self.active.unsqueeze(-1)))
        return torch.cat(parts, -1)


def events(rollout: Rollout) -> dict[str, int]:
    """How often each thing happened: a test of chaos without chaos would test nothing."""
    terminated = rollout.ended & rollout.terminated.all(-1)
    return {
        "terminations": int(terminated.sum()),
        "truncations": int((rollout.ended & ~rollout.terminated.all(-1)).sum()),
        "deaths": int((rollout.terminated & ~rollout.ended.unsqueeze(-1)).sum()),
        "absences": int((~rollout.active).sum()),
        "arrivals": int((rollout.is_first[1:] & ~rollout.ended[:-1].unsqueeze(-1)).sum()),
    }


def spoil_absent(rollout: Rollout, garbage: float = math.nan) -> None:
    """Writes garbage into all that belongs to an agent that is not there."""
    for name, active in (("obs", rollout.active), ("next_obs", rollout.next_active)):
        getattr(rollout, name)[~active] = garbage
    rollout.log_prob[~rollout.active] = garbage


# Choices only, numbers only, both; and two of a kind that are not neighbours.
UNEQUAL = [
    (4, ActionHeads((3, 2))),
    (2, ActionHeads(low=(-1.0, 0.0), high=(1.0, 3.0))),
    (3, ActionHeads((5,), (-math.inf,), (math.inf,))),
    (2, ActionHeads(low=(-1.0, 0.0), high=(1.0, 3.0))),
]
