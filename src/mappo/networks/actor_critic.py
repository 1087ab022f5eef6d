"""Actors and critics. The actor reads one agent's own observation; the critic may read everything (CTDE)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from mappo.config import Config, NetworkConfig
from mappo.core.spec import Spec
from mappo.networks.network import Network


@dataclass(frozen=True)
class ActorCriticOutput:
    """`logit (B, A, N)`, and `value (B, A, 1)`, or `(B, 1)` of a state that the team shares."""

    logit: Tensor
    value: Tensor

    def __getitem__(self, name: str) -> Tensor:
        return cast(Tensor, getattr(self, name))


class ActorCritic(nn.Module):
    """An actor and a critic, two towers side by side: what `MAPPO` trains.

    Args:
        actor: answers for each agent. critic: one number, for each agent or for the team.
    """

    def __init__(self, agent_num: int, actor: Network, critic: Network) -> None:
        super().__init__()
        self.agent_num, self.actor, self.critic = agent_num, actor, critic

    def forward(self, local_obs: Tensor, global_obs: Tensor) -> ActorCriticOutput:
        """Logits and values of networks without a memory; with one, call `actor.step` and `critic.step`.

        Args:
            local_obs: `(B, A, O)`. global_obs: `(B, S)`, shared by the team, or `(B, A, S)`, one for each agent.

        Returns:
            logit `(B, A, N)`; value `(B, 1)` of a shared state, `(B, A, 1)` else.

        Raises:
            ValueError: A or B does not fit.
        """
        rows, seen = self.actor.leading_shape(local_obs), self.critic.leading_shape(global_obs)
        if len(rows) != 2 or rows[1] != self.agent_num:
            raise ValueError(f"local_obs must be (B, A, O) with A = {self.agent_num}, got {tuple(local_obs.shape)}")
        if seen not in (rows[:1], rows):
            raise ValueError(
                f"global_obs must be (B, S) or (B, A, S) with (B, A) = {rows}, got {tuple(global_obs.shape)}"
            )
        return ActorCriticOutput(self.actor(local_obs)[0], self.critic(global_obs)[0])


def build_actor(spec: Spec, network_config: NetworkConfig) -> Network:
    """The actor of a config; what its numbers mean, `ActionDistribution` says."""
    free = network_config.action_std == "free"
    tower = Network(
        spec.obs_shape,
        sum(spec.heads) + spec.continuous * (1 if free else 2),
        network_config,
        parameter_sets=spec.parameter_sets(network_config.sharing),
        norm_groups=spec.groups,
        agent_id=spec.needs_agent_id(network_config.sharing)
        if network_config.agent_id is None
        else network_config.agent_id,
        gain=network_config.actor_gain,
        constants=spec.continuous if free else 0,
    )
    if spec.continuous and not free:
        nn.init.constant_(tower.head.bias[..., -spec.continuous :], math.log(network_config.initial_std))
    return tower


def build_network(spec: Spec, config: Config, critic_shape: Sequence[int], team_rows: bool, seed: int) -> ActorCritic:
    """The network of a config, with weights drawn from `seed` and no other source.

    Args:
        critic_shape: of one of the critic's rows. team_rows: there is one for the team, not one for each agent.
    """
    net = config.network
    sets = () if team_rows else spec.parameter_sets(net.sharing)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would reseed every GPU as well
        actor = build_actor(spec, net)
        # Statistics by set, not by kind: an id never moves in the rows of a kind of one, and would read 0.
        return ActorCritic(spec.num_agents, actor, Network(critic_shape, 1, net, parameter_sets=sets, norm_groups=sets))
