"""Actors and critics. The actor reads one agent's own observation; the critic may read everything (CTDE)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from mappo.config import Config, NetworkConfig
from mappo.core.spec import Spec
from mappo.networks.encoders import make_encoder
from mappo.networks.layers import Linear
from mappo.networks.network import Tower

Activation = Literal["relu", "tanh"]


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

    def __init__(self, agent_num: int, actor: Tower, critic: Tower) -> None:
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
        rows, seen = self.actor.rows(local_obs), self.critic.rows(global_obs)
        if len(rows) != 2 or rows[1] != self.agent_num:
            raise ValueError(f"local_obs must be (B, A, O) with A = {self.agent_num}, got {tuple(local_obs.shape)}")
        if seen not in (rows[:1], rows):
            raise ValueError(
                f"global_obs must be (B, S) or (B, A, S) with (B, A) = {rows}, got {tuple(global_obs.shape)}"
            )
        return ActorCriticOutput(self.actor(local_obs)[0], self.critic(global_obs)[0])


class CTDEActorCriticNetwork(ActorCritic):
    """Centralised training, decentralised execution: the actor sees `local_obs`, the critic `global_obs`.

    Args:
        agent_num: A; all agents share the parameters.
        local_obs_shape: O, features of one agent's observation; or the shape of an image, `(H, W, C)`.
        global_obs_shape: S, features of what the critic reads; or an image's shape.
        action_shape: N, logits of one agent.
        hidden, activation, layer_norm: as in `MLP`, for the actor and the critic each.
        actor_gain: initial scale of the logits; 0.01 in the paper's code, so that a policy starts uniform.
    """

    def __init__(
        self,
        agent_num: int,
        local_obs_shape: int | Sequence[int],
        global_obs_shape: int | Sequence[int],
        action_shape: int,
        *,
        hidden: Sequence[int] = (32, 64),
        activation: Activation = "relu",
        layer_norm: bool = False,
        actor_gain: float = 0.01,
    ) -> None:
        net = NetworkConfig(tuple(hidden), activation, layer_norm)
        actor = Tower(_shape(local_obs_shape), action_shape, net, gain=actor_gain)
        super().__init__(agent_num, actor, Tower(_shape(global_obs_shape), 1, net))


class IndependentActorCriticNetwork(ActorCritic):
    """Each agent has an actor and a critic of its own, both of its own observation; computed as one batch.

    Args as in `CTDEActorCriticNetwork`, with `obs_shape` for O.
    """

    def __init__(
        self,
        agent_num: int,
        obs_shape: int | Sequence[int],
        action_shape: int,
        *,
        hidden: Sequence[int] = (32, 64),
        activation: Activation = "relu",
        layer_norm: bool = False,
        actor_gain: float = 0.01,
    ) -> None:
        net, each = NetworkConfig(tuple(hidden), activation, layer_norm), range(agent_num)
        actor = Tower(_shape(obs_shape), action_shape, net, sets=each, gain=actor_gain)
        super().__init__(agent_num, actor, Tower(_shape(obs_shape), 1, net, sets=each))

    def forward(self, local_obs: Tensor, global_obs: Tensor | None = None) -> ActorCriticOutput:
        """Observations `(B, A, O)` -> logit `(B, A, N)`, value `(B, A, 1)`; the critics read `global_obs` if given.

        Raises:
            ValueError: the input is not `(B, A, O)`.
        """
        return super().forward(local_obs, local_obs if global_obs is None else global_obs)


class SharedActorCriticNetwork(nn.Module):
    """One encoder of the agent's own observation feeds actor and critic; all agents share it (IPPO).

    Args as in `CTDEActorCriticNetwork`, with `obs_shape` for O.
    """

    def __init__(
        self,
        agent_num: int,
        obs_shape: int | Sequence[int],
        action_shape: int,
        *,
        hidden: Sequence[int] = (32, 64),
        activation: Activation = "relu",
        layer_norm: bool = False,
        actor_gain: float = 0.01,
    ) -> None:
        super().__init__()
        self.agent_num, self.shape = agent_num, _shape(obs_shape)
        self.encoder = make_encoder(1, self.shape, NetworkConfig(tuple(hidden), activation, layer_norm))
        self.policy_head = Linear(1, hidden[-1], action_shape, actor_gain)
        self.value_head = Linear(1, hidden[-1], 1)

    def forward(self, local_obs: Tensor) -> ActorCriticOutput:
        """Observations `(B, A, O)` -> logit `(B, A, N)`, value `(B, A, 1)`.

        Raises:
            ValueError: the input is not `(B, A, O)`.
        """
        if local_obs.ndim != 2 + len(self.shape) or local_obs.shape[1] != self.agent_num:
            raise ValueError(f"local_obs must be (B, A, O) with A = {self.agent_num}, got {tuple(local_obs.shape)}")
        x = self.encoder(local_obs)
        return ActorCriticOutput(self.policy_head(x), self.value_head(x))


def build_actor(spec: Spec, net: NetworkConfig) -> Tower:
    """The actor of a config; what its numbers mean, `ActionDistribution` says."""
    free = net.action_std == "free"
    tower = Tower(
        spec.obs_shape,
        sum(spec.heads) + spec.continuous * (1 if free else 2),
        net,
        sets=spec.sets(net.sharing),
        kinds=spec.groups,
        agent_id=spec.mixed(net.sharing) if net.agent_id is None else net.agent_id,
        gain=net.actor_gain,
        constants=spec.continuous if free else 0,
    )
    if spec.continuous and not free:
        nn.init.constant_(tower.head.bias[..., -spec.continuous :], math.log(net.initial_std))
    return tower


def build_network(spec: Spec, config: Config, critic_shape: Sequence[int], team_rows: bool, seed: int) -> ActorCritic:
    """The network of a config, with weights drawn from `seed` and no other source.

    Args:
        critic_shape: of one of the critic's rows. team_rows: there is one for the team, not one for each agent.
    """
    net = config.network
    sets = () if team_rows else spec.sets(net.sharing)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would reseed every GPU as well
        actor = build_actor(spec, net)
        # Statistics by set, not by kind: an id never moves in the rows of a kind of one, and would read 0.
        return ActorCritic(spec.num_agents, actor, Tower(critic_shape, 1, net, sets=sets, kinds=sets))


def _shape(size: int | Sequence[int]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)
