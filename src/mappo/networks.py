"""Actors and critics. The actor reads one agent's own observation; the critic may read everything (CTDE)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mappo.config import Config, NetworkConfig
from mappo.encoders import make_encoder
from mappo.layers import GRU, LayerNorm, Linear, Teams
from mappo.normalize import RunningNorm
from mappo.types import Spec

Activation = Literal["relu", "tanh"]


@dataclass(frozen=True)
class ActorCriticOutput:
    """`logit (B, A, N)`, and `value (B, A, 1)`, or `(B, 1)` of a state that the team shares."""

    logit: Tensor
    value: Tensor

    def __getitem__(self, name: str) -> Tensor:
        return cast(Tensor, getattr(self, name))


class Tower(nn.Module):
    """Encoder, memory if any, head: what an actor is, and what a critic is.

    Rows are of agents, `(*B, A, *shape)`, or of teams, `(*B, *shape)`. With one set of parameters and no id the
    agents' axis is like any other: a single agent's rows may come alone.

    Args:
        shape: of one row: `(F,)`, or an image `(H, W, C)`. out: numbers that it answers for each.
        groups: the set of parameters that each agent uses; empty for rows of teams.
        kinds: agents of one kind share the statistics of their observations (`network.obs_norm`).
        agent_id: a one-hot id is appended to the features or channels of each row.
        gain: initial scale of the head.
        constants: so many further numbers do not depend on the input: log standard deviations of a Gaussian.
    """

    def __init__(
        self,
        shape: Sequence[int],
        out: int,
        net: NetworkConfig,
        *,
        groups: Sequence[int] = (),
        kinds: Sequence[int] = (),
        agent_id: bool = False,
        gain: float = 1.0,
        constants: int = 0,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.teams = Teams(groups)
        self.norm = RunningNorm(self.shape[-1], kinds) if net.obs_norm and len(self.shape) == 1 else None
        self.needs_agents = agent_id or self.teams.sets > 1 or (self.norm is not None and self.norm.kinds is not None)
        ids = torch.eye(len(groups)) if agent_id else None
        self.register_buffer("ids", ids, persistent=False)
        self.ids: Tensor | None
        features = self.shape[-1] + (len(groups) if agent_id else 0)
        self.encoder = make_encoder(self.teams.sets, (*self.shape[:-1], features), net)
        width = net.memory_size or net.hidden[-1]
        self.gru = GRU(self.teams.sets, net.hidden[-1], width) if net.memory_size else None
        self.gru_norm = LayerNorm(self.teams.sets, width) if net.memory_size and net.layer_norm else None
        self.head = Linear(self.teams.sets, width, out, gain)
        start = torch.full((self.teams.sets, constants), math.log(net.initial_std))
        self.constants = nn.Parameter(start) if constants else None

    @property
    def memory_size(self) -> int:
        return self.gru.width if self.gru is not None else 0

    def rows(self, x: Tensor) -> tuple[int, ...]:
        """The axes of x in front of what one row reads."""
        return tuple(x.shape[: x.ndim - len(self.shape)])

    def forward(self, x: Tensor, memory: Tensor | None = None, first: Tensor | None = None) -> tuple[Tensor, Any]:
        """What each row answers, and the memory after it.

        Args:
            x: `(*B, A, *shape)`; with a memory a sequence, `(L, *B, A, *shape)`.
            memory: `(*B, A, H)`, before the first step. first: `(L, *B, A)`: memory starts at zero here.

        Returns:
            `(..., A, out + constants)`; and the memory after each step `(L, *B, A, H)`, None without one.
        """
        if self.ids is not None:
            ids = self.ids.to(x.dtype) * (255 if x.dtype == torch.uint8 else 1)
            planes = len(self.shape) - 1
            ids = ids.reshape(len(ids), *(1,) * planes, len(ids)).expand(*x.shape[:-1], len(ids))
            x = torch.cat([x, ids], -1)
        x = self.encoder(self.teams.deal(x, len(self.shape)))
        if self.gru is not None:
            if memory is None or first is None:
                raise ValueError(
                    "a network with a memory reads sequences (L, ...), a memory and `first`; or call `step`"
                )
            x = after = self.gru(x, self.teams.deal(memory, 1), self.teams.deal(first, 0))
            memory = self.teams.gather(after)
            x = x if self.gru_norm is None else self.gru_norm(x)
        y = self.head(x)
        if self.constants is not None:
            lead = () if self.teams.sets == 1 else (self.teams.sets, *(1,) * (y.ndim - 2))
            y = torch.cat([y, self.constants.reshape(*lead, -1).expand(*y.shape[:-1], -1)], -1)
        return self.teams.gather(y), memory

    def step(self, x: Tensor, memory: Tensor | None = None, first: Tensor | None = None) -> tuple[Tensor, Any]:
        """One step: `x (*B, A, *shape)`, memory `(*B, A, H)` or None at first, `first (*B, A)` or None for never."""
        if self.gru is None:
            return self(x)
        rows = self.rows(x)
        if memory is None:
            memory = torch.zeros(*rows, self.gru.width, dtype=self.head.weight.dtype, device=x.device)
        first = torch.zeros(rows, dtype=torch.bool, device=x.device) if first is None else first
        y, after = self(x.unsqueeze(0), memory, first.unsqueeze(0))
        return y[0], after[0]

    def see(self, x: Tensor, active: Tensor | None = None) -> Tensor:
        """What an environment gives, as `forward` reads it: whatever an inactive agent sees, NaN included, reads 0.

        Vectors in the network's dtype, normalised if asked for; images `(H, W, C)`, bytes as they are.
        """
        if len(self.shape) == 1 or x.dtype != torch.uint8:
            x = x.to(self.head.weight.dtype)
        x = x if self.norm is None else self.norm(x)
        if active is None:
            return x
        return torch.where(active.reshape(*active.shape, *(1,) * len(self.shape)), x, torch.zeros((), dtype=x.dtype))


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
        actor = Tower(_shape(obs_shape), action_shape, net, groups=each, gain=actor_gain)
        super().__init__(agent_num, actor, Tower(_shape(obs_shape), 1, net, groups=each))

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
        groups=spec.sets(net.sharing),
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
        return ActorCritic(spec.num_agents, actor, Tower(critic_shape, 1, net, groups=sets, kinds=sets))


def _shape(size: int | Sequence[int]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)
