"""The random baseline."""

from typing import Any

import torch
from torch import Tensor

from mappo.config import NetworkConfig
from mappo.core.spec import Spec
from mappo.policies.action_distribution import ActionDistribution


class RandomPolicy:
    """The baseline that plays each legal choice alike, and each number between its bounds (or between -1 and 1)."""

    def __init__(self, spec: Spec, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.spec, self.distribution = spec, ActionDistribution(spec, NetworkConfig(), device)
        self.generator = torch.Generator(device)
        self.generator.manual_seed(seed)

    def __call__(
        self, obs: Tensor, memory: Any = None, *, mask: Tensor | None = None, **others: Any
    ) -> tuple[Tensor, Any]:
        rows, spec = obs.shape[:2], self.spec
        noise = torch.rand((*rows, spec.action_size), generator=self.generator, device=obs.device)
        alike = torch.zeros(*rows, sum(spec.heads) + 2 * spec.continuous, device=obs.device)
        action, _ = self.distribution.sample(alike, noise, self.distribution.legal_choices(mask))
        if spec.continuous:
            action[..., len(spec.heads) :] = 2 * noise[..., len(spec.heads) :] - 1
        return self.distribution.to_bounds(action), memory
