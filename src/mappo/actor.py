"""A policy alone: own observation in, action out. The one piece that training, evaluation and use share."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from mappo.distributions import mode_of_heads, sample_heads


class Policy(Protocol):
    """Anything that acts: actors, baselines, a user's function."""

    def __call__(
        self, obs: Tensor, memory: Any = None, *, mask: Tensor | None = None, is_first: Tensor | None = None
    ) -> tuple[Tensor, Any]: ...


class Actor:
    """Decentralised execution: each agent's action from its own observation.

    Args:
        logit: maps observations `(*B, O)` to logits `(*B, N)`, such as `network.logit`.
        obs_size: O. heads: sizes of the categorical heads, N in sum.
        sampled: draw from the policy, in place of its likeliest action.
        generator: of the draws.
    """

    def __init__(
        self,
        logit: Callable[[Tensor], Tensor],
        obs_size: int,
        heads: Sequence[int],
        sampled: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        self.logit, self.obs_size, self.heads = logit, obs_size, tuple(heads)
        self.sampled, self.generator = sampled, generator

    @torch.no_grad()
    def __call__(self, obs: Any, memory: Any = None, *, mask: Any = None, is_first: Any = None) -> tuple[Tensor, Any]:
        """Actions of any batch of agents, each row by itself.

        Args:
            obs: `(*B, O)`, such as `(O,)` for one agent or `(E, A, O)`; a tensor, or what numpy makes an array of.
            memory: handed back; for later kinds.
            mask: `(*B, N)`, True where legal. is_first: `(*B)`, True where memory starts anew.

        Returns:
            Actions `(*B, D)`, int64, and the memory. They count from 0, also where the environment's own start
            elsewhere (gymnasium's `Discrete(n, start=...)`).

        Raises:
            ValueError: the size of the observation or of the mask does not fit the network.
        """
        obs = torch.as_tensor(obs)
        mask = None if mask is None else torch.as_tensor(mask, device=obs.device).bool()
        if mask is not None and mask.shape != (*obs.shape[:-1], sum(self.heads)):
            raise ValueError(f"the mask must be {(*obs.shape[:-1], sum(self.heads))}, got {tuple(mask.shape)}")
        if obs.ndim == 0 or obs.shape[-1] != self.obs_size:
            raise ValueError(f"this actor reads observations (*B, {self.obs_size}), got {tuple(obs.shape)}")
        logit = self.logit(obs.float())
        if not self.sampled:
            return mode_of_heads(logit, self.heads, mask), memory
        noise = torch.rand(
            (*obs.shape[:-1], len(self.heads)), generator=self.generator, device=obs.device, dtype=logit.dtype
        )
        return sample_heads(logit, noise, self.heads, mask)[0], memory


class RandomPolicy:
    """The baseline that plays each legal action alike."""

    def __init__(self, heads: Sequence[int], seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.heads = tuple(heads)
        self.generator = torch.Generator(device)
        self.generator.manual_seed(seed)

    def __call__(
        self, obs: Tensor, memory: Any = None, *, mask: Tensor | None = None, is_first: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        rows = obs.shape[:2]
        noise = torch.rand((*rows, len(self.heads)), generator=self.generator, device=obs.device)
        alike = torch.zeros(*rows, sum(self.heads), device=obs.device)
        return sample_heads(alike, noise, self.heads, mask)[0], memory
