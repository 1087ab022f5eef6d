"""What an actor's numbers mean, and the one path by which training, evaluation and saved actors act."""

import torch
from torch import Tensor

from mappo.backend.matmul import acting
from mappo.config import NetworkConfig
from mappo.core.spec import Spec
from mappo.networks.network import Network
from mappo.policies.action_distribution import ActionDistribution


class Policy:
    """An actor and the distribution of its actions: each agent by its own observation alone.

    Args:
        spec: of the environment. net: the settings. tower: see `networks.build_actor`.
    """

    def __init__(
        self, spec: Spec, network_config: NetworkConfig, network: Network, device: torch.device | str = "cpu"
    ) -> None:
        self.spec, self.network_config, self.network = spec, network_config, network
        self.distribution = ActionDistribution(spec, network_config, device)

    def describe(self) -> str:
        """A line for the user: which agents share what."""
        sets = self.spec.parameter_sets(self.network_config.sharing)
        teams = [[a for a, s in zip(self.spec.agents, sets, strict=True) if s == name] for name in sorted(set(sets))]
        told = [
            " and ".join(team) if len(team) < 3 else f"{team[0]} ... {team[-1]} ({len(team)})" for team in teams[:6]
        ]
        more = f" and {len(teams) - 6} more" if len(teams) > 6 else ""
        memory = f", a memory of {self.network_config.memory_size}" if self.network_config.memory_size else ""
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
            Actions `(*B, A, D)` before `to_bounds`, their log-probabilities `(*B, A)` (None if greedy), the memory.
        """
        with acting():
            dist_params, memory = self.network.step(self.network.preprocess(obs, active), memory, is_first)
        legal = self.distribution.legal_choices(mask)
        if noise is None:
            return self.distribution.mode(dist_params, legal), None, memory
        action, log_prob = self.distribution.sample(dist_params, noise, legal)
        return action, log_prob, memory
