"""The centralised half: values of a rollout, in reward units, and the critic's statistics and memory."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from mappo.algorithms.critic_input import CriticInput
from mappo.backend.ranks import Ranks
from mappo.config import Config
from mappo.core.spec import Spec
from mappo.core.state_dict import flatten, subdict
from mappo.core.timestep import Rollout
from mappo.functional.shapes import append_axes
from mappo.networks.actor_critic import ActorCritic
from mappo.networks.cnn import MAX_OUTPUTS
from mappo.networks.input_reader import state_reader
from mappo.networks.normalizers import ValueNorm


class Values(NamedTuple):
    """The critic's evaluation of a rollout; `(T, E)` for team rows, else `(T, E, A)`."""

    critic_obs: Tensor  # (T, E, S) or (T, E, A, S): the preprocessed input
    normalized_value: Tensor  # the output of the network
    value: Tensor  # V(s_t), in reward units
    next_value: Tensor  # V of the state reached by action t, before any reset, in reward units
    is_first: Tensor | None  # True where the memory starts at zero; None without a memory, as the next two
    memory_in: Tensor | None  # (T, E, [A,] H): the memory before each step
    memory_out: Tensor | None  # (T, E, [A,] H): the memory after each step


class Critic:
    """A network with an output for each row, value statistics, and a memory across rollouts.

    Args:
        network: actor and critic.
        critic_input: builds the rows.
        spec: the environment's.
        config: the settings.
        static_shapes: shapes must not depend on data, and no step may wait for the device: for CUDA graphs.
        ranks: the processes that learn together.
    """

    def __init__(
        self,
        network: ActorCritic,
        critic_input: CriticInput,
        spec: Spec,
        config: Config,
        static_shapes: bool,
        ranks: Ranks,
    ) -> None:
        self.network = network.critic
        self.critic_input = critic_input
        device = self.network.head.weight.device
        self.readers = (network.actor.reader, state_reader(spec, config.network.channels).to(device))
        self.ppo = config.ppo
        self.static_shapes = static_shapes
        self.sum_across = ranks.sum
        self.value_norm = ValueNorm(config.ppo.value_norm_decay).to(device)
        self.memory: Tensor | None = None  # (E, H) or (E, A, H), before the next rollout
        if config.network.memory_size:
            agents = () if critic_input.team_rows else (spec.num_agents,)
            self.ensure_memory(config.env.num_envs // ranks.size, *agents)

    def evaluate(self, rollout: Rollout) -> Values:
        """Compute the values of a rollout in one batch; a memory is unrolled once."""
        critic_obs = self.network.preprocess(self.build_input(rollout.obs, rollout.state, rollout.active))
        is_first = memory_in = memory_out = None
        if not self.network.memory_size:
            output = self._compute(critic_obs)
        else:
            memory = self.ensure_memory(*self.network.leading_shape(critic_obs)[1:])
            # The memory before the first step is zero already where an episode begins.
            is_first = torch.cat([torch.zeros_like(rollout.ended[:1]), rollout.ended[:-1]])
            is_first = is_first if self.critic_input.team_rows else is_first.unsqueeze(-1) | rollout.is_first
            output, memory_out = self.network(critic_obs, memory, is_first)
            memory_in = torch.cat([memory.unsqueeze(0), memory_out[:-1]])
        normalized_value = output.squeeze(-1)
        value = self._denormalize(normalized_value)
        next_value = self._next_value(rollout, value, memory_out)
        return Values(critic_obs, normalized_value, value, next_value, is_first, memory_in, memory_out)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the value statistics, and the memory if there is one; the weights are the network's."""
        state = flatten("value_norm", self.value_norm.state_dict())
        return state if self.memory is None else state | {"critic_memory": self.memory}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state returned by `state_dict`. Without `critic_memory` the memory starts at zero."""
        self.value_norm.load_state_dict(subdict(state, "value_norm"))
        if self.memory is not None:  # in place: graphs need fixed addresses
            self.memory.copy_(state.get("critic_memory", torch.zeros_like(self.memory)))

    def clear_memory(self) -> None:
        """Set the memory to zero, if there is one."""
        if self.memory is not None:
            self.memory.zero_()

    def ensure_memory(self, *rows: int) -> Tensor:
        """Return the memory before the next rollout, `(*rows, H)`; allocate zeros for a new number of rows."""
        shape = (*rows, self.network.memory_size)
        if self.memory is None or self.memory.shape != shape:
            self.memory = self.network.head.weight.new_zeros(shape).detach()
        return self.memory

    def _next_value(self, rollout: Rollout, value: Tensor, memory: Tensor | None) -> Tensor:
        """Compute V of the states reached by the actions, before any reset.

        Away from cuts V(s_{t+1}) is the value of the next row. With a memory, V(s_{t+1}) is one step from the memory
        after s_t, never from the memory that the reset emptied.
        """
        if self.static_shapes:  # all rows: their number must not depend on the data
            next_value = torch.empty_like(value)
            where: tuple[Tensor | slice, ...] = (slice(None),)
        else:
            needs_value = rollout.ended.clone()
            needs_value[-1] = True
            if memory is not None and not self.critic_input.team_rows:  # an arrival empties the memory of its row
                needs_value[:-1] |= rollout.is_first[1:].any(-1)
            next_value = value.roll(-1, 0)
            where = needs_value.nonzero(as_tuple=True)
        state = None if rollout.next_state is None else rollout.next_state[where]
        critic_input = self.build_input(rollout.next_obs[where], state, rollout.next_active[where])
        rows = self.network.preprocess(critic_input)
        output = self._compute(rows) if memory is None else self.network.step(rows, memory[where])[0]
        next_value[where] = self._denormalize(output.squeeze(-1))
        return next_value

    def _compute(self, rows: Tensor) -> Tensor:
        """Compute the outputs of rows without a memory; large images along their first axis in pieces."""
        num_outputs = self.network.conv_outputs * math.prod(self.network.leading_shape(rows[:1]))
        if self.static_shapes or num_outputs * len(rows) <= MAX_OUTPUTS:
            return self.network(rows)[0]
        pieces: Sequence[Tensor] = cast(Any, rows).split(max(1, MAX_OUTPUTS // num_outputs))
        return torch.cat([self.network(piece)[0] for piece in pieces])

    def update_value_norm(self, returns: Tensor, weight: Tensor, normalized_value: Tensor) -> Tensor:
        """Update the value statistics. With PopArt, rescale the head and return the old values in the new units."""
        old_mean, old_std = self.value_norm.mean_std()
        self.value_norm.update(returns, weight, self.sum_across)
        if not self.ppo.popart:
            return normalized_value
        # PopArt, arXiv:1602.07714, equation 9: the same values by the new statistics.
        mean, std = self.value_norm.mean_std()
        scale = old_std / std
        shift = (old_mean - mean) / std
        head = self.network.head
        head.weight.mul_(scale)
        head.bias.mul_(scale).add_(shift)
        return normalized_value * scale + shift

    def finish_update(self, rollout: Rollout, memory_out: Tensor | None) -> None:
        """Advance the memory and update the input statistics. Call after the last gradient step."""
        if self.memory is not None and memory_out is not None:
            ended = append_axes(rollout.ended[-1], memory_out.ndim - 1)
            is_kept = ~ended & memory_out[-1].isfinite().all(-1, keepdim=True)
            self.memory.copy_(torch.where(is_kept, memory_out[-1], 0.0))
        if self.network.norm is not None:
            rows = self.build_input(rollout.obs, rollout.state, rollout.active)
            weight = torch.ones_like(rows[..., 0]) if self.critic_input.team_rows else rollout.active
            self.network.norm.update(rows, weight, self.sum_across)

    def build_input(self, obs: Tensor, state: Tensor | None, active: Tensor) -> Tensor:
        """Build the rows, before any normalisation; images of bytes stay bytes where all have a common bound."""
        dtype = self.network.head.weight.dtype
        obs_reader, state_reader = self.readers
        obs = obs_reader(obs, dtype)
        if state is None:
            return self.critic_input(obs, state, active)
        state_rows: Tensor = state_reader(state, dtype)
        is_common = obs.dtype == state_rows.dtype and obs_reader.bytes_scale == state_reader.bytes_scale
        if state_reader.bytes_scale and not is_common and self.critic_input.mode != "env":
            state_rows = state_reader.to_floats(state_rows, dtype)
            obs = obs_reader.to_floats(obs, dtype)
        return self.critic_input(obs, state_rows, active)

    def _denormalize(self, normalized_value: Tensor) -> Tensor:
        return self.value_norm.denormalize(normalized_value) if self.ppo.value_norm else normalized_value
