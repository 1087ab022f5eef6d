"""Actor and critic of a config. The actor reads one agent's own observation; the critic may read everything (CTDE)."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from mappo.config import Config, NetworkConfig
from mappo.core.observations import ObsPart
from mappo.core.spec import Spec
from mappo.networks.input_reader import bytes_reader, obs_reader
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


def build_actor(spec: Spec, network_config: NetworkConfig, generator: torch.Generator | None = None) -> Network:
    """Build the actor of a config; `ActionDistribution` interprets its outputs."""
    is_free = network_config.action_std == "free"  # standard deviations are parameters, not outputs
    actor = Network(
        spec.obs_shape,
        sum(spec.heads) + spec.continuous * (1 if is_free else 2),
        network_config,
        parameter_sets=spec.parameter_sets(network_config.sharing),
        norm_groups=spec.groups,
        agent_id=spec.needs_agent_id(network_config.sharing, network_config.agent_id),
        gain=network_config.actor_gain,
        constants=spec.continuous if is_free else 0,
        reader=obs_reader(spec, network_config.channels),
        parts=spec.obs_parts,
        generator=generator,
        role="actor",
        spec=spec,
    )
    if spec.continuous and not is_free:
        nn.init.constant_(actor.head.bias[..., -spec.continuous :], math.log(network_config.initial_std))
    return actor


@dataclass(frozen=True)
class CriticRows:
    """Rows of a critic.

    Args:
        shape: `(F,)`, or an image `(H, W, C)`.
        team_rows: a single row stands for the whole team, in place of a row for each agent.
        parts: parts of the row of each agent, or of the team, where a vector holds images.
        bytes_scale: the number that images of bytes are divided by, and stands for 1 in their planes of ids.
    """

    shape: tuple[int, ...]
    team_rows: bool
    parts: tuple[tuple[ObsPart, ...], ...] = ()
    bytes_scale: float = 255.0


def build_network(spec: Spec, config: Config, critic_rows: CriticRows, seed: int) -> ActorCritic:
    """Build the network of a config, with weights sampled from `seed` alone.

    Args:
        spec: the environment's.
        config: `network` is read.
        critic_rows: the critic's input.
        seed: of the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    actor = build_actor(spec, config.network, generator)
    sets = () if critic_rows.team_rows else spec.parameter_sets(config.network.sharing)
    critic = Network(
        critic_rows.shape,
        1,
        config.network,
        parameter_sets=sets,
        # Normalise per parameter set: per agent, the constant one-hot id would become 0.
        norm_groups=sets,
        reader=bytes_reader(critic_rows.shape, critic_rows.bytes_scale),
        parts=critic_rows.parts,
        generator=generator,
        role="critic",
        spec=spec,
    )
    return ActorCritic(actor, critic)
