"""The random baseline."""

from typing import Any

import torch
from torch import Tensor

from mappo.config import NetworkConfig
from mappo.core.spec import Spec
from mappo.policies.action_distribution import ActionDistribution


class RandomPolicy:
    """The random baseline: equal probability for each legal choice, uniform numbers between their bounds.

    Numbers without bounds are sampled between -1 and 1.

    Args:
        spec: the environment's.
        seed: of the samples.
        device: of the actions.
    """

    def __init__(self, spec: Spec, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.spec = spec
        self.distribution = ActionDistribution(spec, NetworkConfig(), device)
        self.generator = torch.Generator(device)
        self.generator.manual_seed(seed)

    def __call__(
        self, obs: Tensor, memory: Any = None, *, mask: Tensor | None = None, **others: Any
    ) -> tuple[Tensor, Any]:
        """Sample actions `(E, A, D)` for observations `(E, A, *obs_shape)`; return them and the memory."""
        rows = obs.shape[:2]
        spec = self.spec
        noise = torch.rand((*rows, spec.action_size), generator=self.generator, device=obs.device)
        equal = torch.zeros(*rows, sum(spec.heads) + 2 * spec.continuous, device=obs.device)
        action, _ = self.distribution.sample(equal, noise, self.distribution.legal_choices(mask))
        if spec.continuous:
            action[..., len(spec.heads) :] = 2 * noise[..., len(spec.heads) :] - 1
        return self.distribution.to_bounds(action), memory
