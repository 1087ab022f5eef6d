"""Actor and critic of a config. The actor reads one agent's own observation; the critic may read everything (CTDE)."""

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
    """`logit (B, A, N)`, and `value (B, A, 1)`, or `(B, 1)` where the team shares a state."""

    logit: Tensor
    value: Tensor

    def __getitem__(self, name: str) -> Tensor:
        return cast(Tensor, getattr(self, name))


class ActorCritic(nn.Module):
    """An actor and a critic, two separate networks: the parameters that `MAPPO` trains.

    Args:
        agent_num: A.
        actor: maps observations to outputs of each agent.
        critic: maps rows to a value, of each agent or of the team.
    """

    def __init__(self, agent_num: int, actor: Network, critic: Network) -> None:
        super().__init__()
        self.agent_num = agent_num
        self.actor = actor
        self.critic = critic

    def forward(self, local_obs: Tensor, global_obs: Tensor) -> ActorCriticOutput:
        """Compute logits and values of networks without a memory; with a memory, call `actor.step` and `critic.step`.

        Args:
            local_obs: `(B, A, O)`.
            global_obs: `(B, S)`, shared by the team, or `(B, A, S)`, one for each agent.

        Returns:
            logit `(B, A, N)`; value `(B, 1)` for a shared state, else `(B, A, 1)`.

        Raises:
            ValueError: A or B does not fit.
        """
        rows = self.actor.leading_shape(local_obs)
        if len(rows) != 2 or rows[1] != self.agent_num:
            raise ValueError(f"local_obs must be (B, A, O) with A = {self.agent_num}, got {tuple(local_obs.shape)}")
        if self.critic.leading_shape(global_obs) not in (rows[:1], rows):
            raise ValueError(
                f"global_obs must be (B, S) or (B, A, S) with (B, A) = {rows}, got {tuple(global_obs.shape)}"
            )
        return ActorCriticOutput(self.actor(local_obs)[0], self.critic(global_obs)[0])


def build_actor(spec: Spec, network_config: NetworkConfig) -> Network:
    """Build the actor of a config; `ActionDistribution` interprets its outputs."""
    is_free = network_config.action_std == "free"  # standard deviations are parameters, not outputs
    agent_id = network_config.agent_id
    actor = Network(
        spec.obs_shape,
        sum(spec.heads) + spec.continuous * (1 if is_free else 2),
        network_config,
        parameter_sets=spec.parameter_sets(network_config.sharing),
        norm_groups=spec.groups,
        agent_id=spec.needs_agent_id(network_config.sharing) if agent_id is None else agent_id,
        gain=network_config.actor_gain,
        constants=spec.continuous if is_free else 0,
    )
    if spec.continuous and not is_free:
        nn.init.constant_(actor.head.bias[..., -spec.continuous :], math.log(network_config.initial_std))
    return actor


def build_network(spec: Spec, config: Config, critic_shape: Sequence[int], team_rows: bool, seed: int) -> ActorCritic:
    """Build the network of a config, with weights sampled from `seed` alone.

    Args:
        spec: the environment's.
        config: `network` is read.
        critic_shape: shape of a row of the critic.
        team_rows: the critic has a single row for the team, in place of a row for each agent.
        seed: of the weights.
    """
    sets = () if team_rows else spec.parameter_sets(config.network.sharing)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would reseed every GPU as well
        actor = build_actor(spec, config.network)
        # Normalise per parameter set: per agent, the constant one-hot id would become 0.
        critic = Network(critic_shape, 1, config.network, parameter_sets=sets, norm_groups=sets)
        return ActorCritic(spec.num_agents, actor, critic)
