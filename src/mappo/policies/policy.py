"""`Policy`: the common path by which training, evaluation and saved actors act."""

import copy

import torch
from torch import Tensor

from mappo.backend.matmul import acting
from mappo.config import NetworkConfig
from mappo.core.spec import Spec
from mappo.functional.weighted import SumAcross
from mappo.networks.network import Network
from mappo.policies.action_distribution import ActionDistribution


class Policy:
    """An actor and the distribution of its actions: each agent acts on its own observation alone.

    Args:
        spec: the environment's.
        network_config: the settings.
        network: the actor; see `networks.actor_critic.build_actor`.
        device: of the actions.
    """

    def __init__(
        self, spec: Spec, network_config: NetworkConfig, network: Network, device: torch.device | str = "cpu"
    ) -> None:
        self.spec = spec
        self.network_config = network_config
        self.network = network
        self.distribution = ActionDistribution(spec, network_config, device)

    def for_agent(self, agent: int) -> "Policy":
        """Return the policy of a single agent, for rows `(*B, 1)`; see `Network.for_agent`."""
        policy = copy.copy(self)
        policy.network = self.network.for_agent(agent)
        policy.distribution = self.distribution.for_agent(agent)
        return policy

    def describe(self) -> str:
        """Describe for the user, in a line, how agents share parameters."""
        sets = self.spec.parameter_sets(self.network_config.sharing)
        teams = [[a for a, s in zip(self.spec.agents, sets, strict=True) if s == name] for name in sorted(set(sets))]
        names = [" and ".join(t) if len(t) < 3 else f"{t[0]} ... {t[-1]} ({len(t)})" for t in teams[:6]]
        more = f" and {len(teams) - 6} more" if len(teams) > 6 else ""
        memory = f", a memory of {self.network_config.memory_size}" if self.network_config.memory_size else ""
        return f"{len(teams)} {'actor' if len(teams) == 1 else 'actors'} for {' | '.join(names)}{more}{memory}"

    def new_memory(self, num_envs: int) -> Tensor | None:
        """Return the memory at the start of episodes, zeros `(E, A, H)`; None for networks without a memory."""
        size = self.network.memory_size
        shape = (num_envs, self.spec.num_agents, size)
        return self.network.head.weight.new_zeros(shape).detach() if size else None

    def update_norm(self, obs: Tensor, active: Tensor, sum_across: SumAcross) -> None:
        """Update the statistics of observations `(*B, A, *obs_shape)` where `active`, `(*B, A)`, if there are any."""
        if self.network.norm is not None:
            self.network.norm.update(self.network.reader(obs, torch.float64), active, sum_across)

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
        """Act for a step.

        Args:
            obs: `(*B, A, *obs_shape)`.
            memory: the memory returned by the last call, `(*B, A, H)`; None at first.
            mask: `(*B, A, N)`, True where legal.
            is_first: `(*B, A)`, True where the memory starts anew.
            active: `(*B, A)`; the observations of inactive agents are read as 0.
            noise: `(*B, A, D)`, uniform in [0, 1); None: the most probable actions.

        Returns:
            Actions `(*B, A, D)` before `to_bounds`, their log-probabilities `(*B, A)` (None without noise), the memory.
        """
        with acting():
            dist_params, memory = self.network.step(self.network.preprocess(obs, active), memory, is_first)
        legal = self.distribution.legal_choices(mask)
        if noise is None:
            return self.distribution.mode(dist_params, legal), None, memory
        action, log_prob = self.distribution.sample(dist_params, noise, legal)
        return action, log_prob, memory
