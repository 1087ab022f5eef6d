"""What an actor's numbers mean, and the one path by which training, evaluation and saved actors act."""

import torch
from torch import Tensor

from mappo.backend.matmul import acting
from mappo.config import NetworkConfig
from mappo.core.spec import Spec
from mappo.networks.network import Tower
from mappo.policies.action_distribution import ActionDistribution


class Policy:
    """An actor and the distribution of its actions: each agent by its own observation alone.

    Args:
        spec: of the environment. net: the settings. tower: see `networks.build_actor`.
    """

    def __init__(self, spec: Spec, net: NetworkConfig, tower: Tower, device: torch.device | str = "cpu") -> None:
        self.spec, self.net, self.tower = spec, net, tower
        self.distribution = ActionDistribution(spec, net, device)

    def describe(self) -> str:
        """A line for the user: which agents share what."""
        sets = self.spec.sets(self.net.sharing)
        teams = [[a for a, s in zip(self.spec.agents, sets, strict=True) if s == name] for name in sorted(set(sets))]
        told = [
            " and ".join(team) if len(team) < 3 else f"{team[0]} ... {team[-1]} ({len(team)})" for team in teams[:6]
        ]
        more = f" and {len(teams) - 6} more" if len(teams) > 6 else ""
        memory = f", a memory of {self.net.memory_size}" if self.net.memory_size else ""
        return f"{len(teams)} {'actor' if len(teams) == 1 else 'actors'} for {' | '.join(told)}{more}{memory}"

    @torch.no_grad()
    def __call__(
        self,
        obs: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        is_first: Tensor | None = None,
        active: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """One step.

        Args:
            obs: `(*B, A, *obs_shape)`. memory: `(*B, A, H)`, what the last call gave, None at first.
            mask: `(*B, A, N)`, True where legal. is_first: `(*B, A)`, where memory starts anew.
            active: `(*B, A)`: what others see reads 0. noise: `(*B, A, D)`, uniform in [0, 1); None: greedy.

        Returns:
            Actions `(*B, A, D)` before `bounded`, their log-probabilities `(*B, A)` (None if greedy), the memory.
        """
        with acting():
            numbers, memory = self.tower.step(self.tower.see(obs, active), memory, is_first)
        legal = self.distribution.legal(mask)
        if noise is None:
            return self.distribution.mode(numbers, legal), None, memory
        action, log_prob = self.distribution.sample(numbers, noise, legal)
        return action, log_prob, memory
