"""The tutorial's actor-critic networks."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from mappo.config import NetworkConfig
from mappo.networks.actor_critic import ActorCritic, ActorCriticOutput
from mappo.networks.encoders import make_encoder
from mappo.networks.layers import Linear
from mappo.networks.network import Network

Activation = Literal["relu", "tanh"]


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
        actor = Network(_shape(local_obs_shape), action_shape, net, gain=actor_gain)
        super().__init__(agent_num, actor, Network(_shape(global_obs_shape), 1, net))


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
        actor = Network(_shape(obs_shape), action_shape, net, parameter_sets=each, gain=actor_gain)
        super().__init__(agent_num, actor, Network(_shape(obs_shape), 1, net, parameter_sets=each))

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


def _shape(size: int | Sequence[int]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)
