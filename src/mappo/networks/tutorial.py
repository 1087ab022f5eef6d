"""Actor-critic networks with the names and sizes of the tutorial, for a training loop of your own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from mappo.config import NetworkConfig
from mappo.networks.actor_critic import ActorCritic
from mappo.networks.encoders import make_encoder
from mappo.networks.layers import Linear
from mappo.networks.network import Network

Activation = Literal["relu", "tanh"]


@dataclass(frozen=True)
class ActorCriticOutput:
    """`logit (B, A, N)`, and `value (B, A, 1)`, or `(B, 1)` where the team shares a state."""

    logit: Tensor
    value: Tensor

    def __getitem__(self, name: str) -> Tensor:
        return cast(Tensor, getattr(self, name))


class _TeamActorCritic(ActorCritic):
    """An actor and a critic without a memory, of a team of `agent_num` agents."""

    def __init__(self, agent_num: int, actor: Network, critic: Network) -> None:
        super().__init__(actor, critic)
        self.agent_num = agent_num

    def forward(self, local_obs: Tensor, global_obs: Tensor) -> ActorCriticOutput:
        """Compute logits and values.

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


class CTDEActorCriticNetwork(_TeamActorCritic):
    """Centralised training, decentralised execution: the actor reads `local_obs`, the critic `global_obs`.

    Args:
        agent_num: A; all agents share the parameters.
        local_obs_shape: O, features of an observation; or the shape of an image, `(H, W, C)`.
        global_obs_shape: S, features of the critic's input; or the shape of an image.
        action_shape: N, logits of one agent.
        hidden: the width of each hidden layer, for the actor and the critic each.
        activation: `relu` or `tanh`.
        layer_norm: as in `MLP`.
        actor_gain: initial scale of the logits; 0.01 in the paper's code, so that a policy starts almost uniform.
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
        network_config = NetworkConfig(tuple(hidden), activation, layer_norm)
        actor = Network(_shape(local_obs_shape), action_shape, network_config, gain=actor_gain)
        super().__init__(agent_num, actor, Network(_shape(global_obs_shape), 1, network_config))


class IndependentActorCriticNetwork(_TeamActorCritic):
    """An actor and a critic for each agent, both of the agent's own observation; computed as one batch.

    Arguments as in `CTDEActorCriticNetwork`, with `obs_shape` for O.
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
        network_config = NetworkConfig(tuple(hidden), activation, layer_norm)
        sets = range(agent_num)
        actor = Network(_shape(obs_shape), action_shape, network_config, parameter_sets=sets, gain=actor_gain)
        super().__init__(agent_num, actor, Network(_shape(obs_shape), 1, network_config, parameter_sets=sets))

    def forward(self, local_obs: Tensor, global_obs: Tensor | None = None) -> ActorCriticOutput:
        """Map observations `(B, A, O)` to logit `(B, A, N)` and value `(B, A, 1)`.

        The critics read `global_obs` in place of the observations where it is given.

        Raises:
            ValueError: the input is not `(B, A, O)`.
        """
        return super().forward(local_obs, local_obs if global_obs is None else global_obs)


class SharedActorCriticNetwork(nn.Module):
    """One encoder of the agent's own observation for actor and critic, shared by all agents (IPPO).

    Arguments as in `CTDEActorCriticNetwork`, with `obs_shape` for O.
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
        self.agent_num = agent_num
        self.shape = _shape(obs_shape)
        self.encoder = make_encoder(1, self.shape, NetworkConfig(tuple(hidden), activation, layer_norm))
        self.policy_head = Linear(1, hidden[-1], action_shape, actor_gain)
        self.value_head = Linear(1, hidden[-1], 1)

    def forward(self, local_obs: Tensor) -> ActorCriticOutput:
        """Map observations `(B, A, O)` to logit `(B, A, N)` and value `(B, A, 1)`.

        Raises:
            ValueError: the input is not `(B, A, O)`.
        """
        if local_obs.ndim != 2 + len(self.shape) or local_obs.shape[1] != self.agent_num:
            raise ValueError(f"local_obs must be (B, A, O) with A = {self.agent_num}, got {tuple(local_obs.shape)}")
        x = self.encoder(local_obs)
        return ActorCriticOutput(self.policy_head(x), self.value_head(x))


def _shape(size: int | Sequence[int]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)
