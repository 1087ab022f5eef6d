"""Actors and critics. The actor reads one agent's own observation; the critic may read everything (CTDE)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mappo.config import Config
from mappo.critic_input import choose_critic_input, critic_input_size
from mappo.errors import UserError
from mappo.types import Spec

Activation = Literal["relu", "tanh"]
GAIN = {"relu": 2.0**0.5, "tanh": 5.0 / 3.0}  # torch.nn.init.calculate_gain


@dataclass(frozen=True)
class ActorCriticOutput:
    """`logit (B, A, N)`, and `value (B, A, 1)`, or `(B, 1)` of a state that the team shares."""

    logit: Tensor
    value: Tensor

    def __getitem__(self, name: str) -> Tensor:
        return cast(Tensor, getattr(self, name))


class Linear(nn.Module):
    """`y = x W + b`, with one matrix, or with one for each of `groups` along the first axis of x.

    A group stands for an agent, a kind of agent or a seed. Initialised orthogonally with bias 0, as the
    MAPPO paper's code does (arXiv:2103.01955).

    Args:
        groups: 1 maps `(*B, in)` to `(*B, out)`; G > 1 maps `(G, *B, in)` to `(G, *B, out)`.
        gain: scale of the orthogonal matrix.
    """

    def __init__(self, groups: int, in_features: int, out_features: int, gain: float = 1.0) -> None:
        super().__init__()
        self.groups = groups
        lead = () if groups == 1 else (groups,)
        self.weight = nn.Parameter(torch.empty(*lead, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(*lead, out_features))
        for matrix in [self.weight] if groups == 1 else self.weight.unbind():
            nn.init.orthogonal_(matrix, gain)

    def forward(self, x: Tensor) -> Tensor:
        if self.groups == 1:
            return nn.functional.linear(x, self.weight, self.bias)
        if x.ndim < 2 or x.shape[0] != self.groups:
            raise ValueError(f"Linear of {self.groups} groups got an input of shape {tuple(x.shape)}")
        rows = x.reshape(self.groups, -1, x.shape[-1])
        y = torch.baddbmm(self.bias.unsqueeze(1), rows, self.weight.mT)
        return y.reshape(*x.shape[:-1], y.shape[-1])


class _Tanh(torch.autograd.Function):
    """tanh by the vectorised sigmoid: on a CPU `torch.tanh` takes longer than the product beside it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.sigmoid(2 * x).mul_(2).sub_(1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(grad[0], y)


class MLP(nn.Module):
    """`depth` times Linear, activation and, if asked for, LayerNorm: the paper's order.

    Args:
        in_features: size of the input's last axis.
        hidden: the width of each layer.
        layer_norm: LayerNorm behind each activation, and on the input (the paper's `feature_normalization`).
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        activation: Activation = "relu",
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        sizes = [in_features, *hidden]
        self.layers = nn.ModuleList(Linear(1, a, b, GAIN[activation]) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(n) for n in (sizes if layer_norm else ()))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        if self.norms:
            x = self.norms[0](x)
        for i, layer in enumerate(self.layers):
            x = layer(x)
            x = torch.relu(x) if self.activation == "relu" else cast(Tensor, _Tanh.apply(x))
            if self.norms:
                x = self.norms[i + 1](x)
        return x


class CTDEActorCriticNetwork(nn.Module):
    """Centralised training, decentralised execution: the actor sees `local_obs`, the critic `global_obs`.

    All agents share the parameters, and are computed as one batch.

    Args:
        agent_num: A.
        local_obs_shape: O, features of one agent's observation.
        global_obs_shape: S, features of what the critic reads.
        action_shape: N, logits of one agent.
        hidden, activation, layer_norm: as in `MLP`, for the actor and the critic each.
        actor_gain: initial scale of the logits; 0.01 in the paper's code, so that a policy starts uniform.
    """

    def __init__(
        self,
        agent_num: int,
        local_obs_shape: int,
        global_obs_shape: int,
        action_shape: int,
        *,
        hidden: Sequence[int] = (32, 64),
        activation: Activation = "relu",
        layer_norm: bool = False,
        actor_gain: float = 0.01,
    ) -> None:
        super().__init__()
        self.agent_num, self.obs_size = agent_num, local_obs_shape
        self.local_encoder = MLP(local_obs_shape, hidden, activation, layer_norm)
        self.global_encoder = MLP(global_obs_shape, hidden, activation, layer_norm)
        self.policy_head = Linear(1, hidden[-1], action_shape, actor_gain)
        self.value_head = Linear(1, hidden[-1], 1)

    def logit(self, local_obs: Tensor) -> Tensor:
        """Logits `(*B, N)` of observations `(*B, O)`: each row by itself, no agent sees another."""
        return self.policy_head(self.local_encoder(local_obs))

    def value(self, global_obs: Tensor) -> Tensor:
        """Values `(*B)` of `(*B, S)`."""
        return self.value_head(self.global_encoder(global_obs)).squeeze(-1)

    def actor_parameters(self) -> list[nn.Parameter]:
        return [*self.local_encoder.parameters(), *self.policy_head.parameters()]

    def critic_parameters(self) -> list[nn.Parameter]:
        return [*self.global_encoder.parameters(), *self.value_head.parameters()]

    def forward(self, local_obs: Tensor, global_obs: Tensor) -> ActorCriticOutput:
        """Logits and values.

        Args:
            local_obs: `(B, A, O)`.
            global_obs: `(B, S)`, shared by the team, or `(B, A, S)`, one for each agent.

        Returns:
            logit `(B, A, N)`; value `(B, 1)` of a shared state, `(B, A, 1)` else.

        Raises:
            ValueError: A or B does not fit.
        """
        if local_obs.ndim != 3 or local_obs.shape[1] != self.agent_num:
            raise ValueError(f"local_obs must be (B, A, O) with A = {self.agent_num}, got {tuple(local_obs.shape)}")
        leading = global_obs.shape[:-1]
        if leading not in (local_obs.shape[:1], local_obs.shape[:2]):
            raise ValueError(
                f"global_obs must be (B, S) or (B, A, S) with (B, A) = {tuple(local_obs.shape[:2])}, "
                f"got {tuple(global_obs.shape)}"
            )
        return ActorCriticOutput(self.logit(local_obs), self.value(global_obs).unsqueeze(-1))


class SharedActorCriticNetwork(nn.Module):
    """One encoder of the agent's own observation feeds actor and critic; all agents share it (IPPO).

    Args as in `CTDEActorCriticNetwork`, with `obs_shape` for O.
    """

    def __init__(
        self,
        agent_num: int,
        obs_shape: int,
        action_shape: int,
        *,
        hidden: Sequence[int] = (32, 64),
        activation: Activation = "relu",
        layer_norm: bool = False,
        actor_gain: float = 0.01,
    ) -> None:
        super().__init__()
        self.agent_num = agent_num
        self.encoder = MLP(obs_shape, hidden, activation, layer_norm)
        self.policy_head = Linear(1, hidden[-1], action_shape, actor_gain)
        self.value_head = Linear(1, hidden[-1], 1)

    def forward(self, local_obs: Tensor) -> ActorCriticOutput:
        """Observations `(B, A, O)` -> logit `(B, A, N)`, value `(B, A, 1)`.

        Raises:
            ValueError: the input is not `(B, A, O)`.
        """
        if local_obs.ndim != 3 or local_obs.shape[1] != self.agent_num:
            raise ValueError(f"local_obs must be (B, A, O) with A = {self.agent_num}, got {tuple(local_obs.shape)}")
        x = self.encoder(local_obs)
        return ActorCriticOutput(self.policy_head(x), self.value_head(x))


def build_network(spec: Spec, config: Config, seed: int) -> CTDEActorCriticNetwork:
    """The network of a config, with weights drawn from `seed` and no other source."""
    heads = heads_of(spec)
    shape = spec.obs_spaces[0].shape
    if shape is None or len(shape) != 1 or (spec.state_shape is not None and len(spec.state_shape) != 1):
        raise UserError("only vector observations and states are supported yet")
    state = None if spec.state_shape is None else spec.state_shape[0]
    critic = critic_input_size(shape[0], spec.num_agents, state, choose_critic_input(spec, config))
    net = config.network
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would reseed every GPU as well
        return CTDEActorCriticNetwork(
            spec.num_agents,
            shape[0],
            critic,
            sum(heads),
            hidden=net.hidden,
            activation=net.activation,
            layer_norm=net.layer_norm,
            actor_gain=net.actor_gain,
        )


def heads_of(spec: Spec) -> tuple[int, ...]:
    """The action heads that all agents share.

    Raises:
        UserError: agents differ, or act continuously.
    """
    kinds = set(spec.action_heads)
    if len(kinds) > 1 or len({space.shape for space in spec.obs_spaces}) > 1:
        raise UserError("agents with different observation or action spaces are not supported yet")
    (kind,) = kinds
    if kind.continuous or not kind.categorical:
        raise UserError("continuous actions are not supported yet: use Discrete or MultiDiscrete")
    return kind.categorical
