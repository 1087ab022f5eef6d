"""Actor and critic of a config. The actor reads one agent's own observation; the critic may read everything (CTDE)."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from mappo.config import Config, NetworkConfig
from mappo.core.spec import Spec
from mappo.networks.network import Network


class ActorCritic(nn.Module):
    """An actor and a critic, two separate networks: the parameters that `MAPPO` trains.

    Args:
        actor: maps observations to outputs of each agent.
        critic: maps rows to a value, of each agent or of the team.
    """

    def __init__(self, actor: Network, critic: Network) -> None:
        super().__init__()
        self.actor = actor
        self.critic = critic


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
        return ActorCritic(actor, critic)
