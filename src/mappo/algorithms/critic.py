"""The centralised half: what the critic reads, in which units it answers, and its values over a rollout."""

from typing import NamedTuple

import torch
from torch import Tensor

from mappo.algorithms.critic_input import CriticInput
from mappo.backend.cuda_graphs import supports_cuda_graphs
from mappo.config import PPOConfig
from mappo.core.timestep import Rollout
from mappo.networks.network import Network
from mappo.networks.normalizers import ValueNorm


class Values(NamedTuple):
    """What a critic says of a rollout; `(T, E)` for team rows, `(T, E, A)` else."""

    critic_obs: Tensor  # (T, E, S) or (T, E, A, S): what it read
    normalized_value: Tensor  # in its own units
    value: Tensor  # V(s_t), in reward units
    next_value: Tensor  # V of what action t reached, before any reset
    is_first: Tensor | None  # where its memory, if it has one, starts at zero
    memory_in: Tensor | None  # (T, E, [A,] H): its memory before each step
    memory_out: Tensor | None


class Critic:
    """A tower that answers one number for each row, and the statistics that make reward units of it.

    Args:
        tower: the network. reads: makes its rows. ppo: the settings.
    """

    def __init__(self, network: Network, critic_input: CriticInput, ppo: PPOConfig) -> None:
        self.network, self.critic_input, self.ppo = network, critic_input, ppo
        self.value_norm = ValueNorm(ppo.value_norm_decay)

    def evaluate(self, rollout: Rollout) -> Values:
        """The values of a rollout, in one batch behind it; a memory is unrolled once."""
        rows = self.network.preprocess(self.build_input(rollout.obs, rollout.state, rollout.active))
        first = before = after = None
        if rollout.critic_memory is None:
            answer = self.network(rows)[0].squeeze(-1)
        else:
            first = torch.cat(
                [torch.zeros_like(rollout.ended[:1]), rollout.ended[:-1]]
            )  # at the start it is as the last one left it
            first = first if self.critic_input.team_rows else first.unsqueeze(-1) | rollout.is_first
            answer, after = self.network(rows, rollout.critic_memory, first)
            answer, before = answer.squeeze(-1), torch.cat([rollout.critic_memory.unsqueeze(0), after[:-1]])
        value = self._denormalize(answer)
        return Values(rows, answer, value, self._next_value(rollout, value, after), first, before, after)

    def _next_value(self, rollout: Rollout, value: Tensor, memory: Tensor | None) -> Tensor:
        """V of what each action reached, before any reset: elsewhere than at a cut, the next row's value.

        With a memory it is one step further from that after s_t, never from the one that the reset emptied.
        """
        if not supports_cuda_graphs(value.device):
            needs = rollout.ended.clone()
            needs[-1] = True
            if (
                memory is not None and not self.critic_input.team_rows
            ):  # an agent that arrives has its row's memory emptied
                needs[:-1] |= rollout.is_first[1:].any(-1)
            next_value, where = value.roll(-1, 0), needs.nonzero(as_tuple=True)
        else:  # all rows: their number would have to be asked for
            next_value, where = torch.empty_like(value), (slice(None),)
        state = None if rollout.next_state is None else rollout.next_state[where]
        rows = self.network.preprocess(self.build_input(rollout.next_obs[where], state, rollout.next_active[where]))
        answer, _ = self.network.step(rows, None if memory is None else memory[where])
        next_value[where] = self._denormalize(answer.squeeze(-1))
        return next_value

    def update_value_norm(self, returns: Tensor, weight: Tensor, normalized_value: Tensor) -> Tensor:
        """Takes returns into the value statistics; what the critic answers behind it, where its head moves along."""
        old_mean, old_std = self.value_norm.mean_std()
        self.value_norm.update(returns, weight)
        if not self.ppo.popart:
            return normalized_value
        # PopArt, arXiv:1602.07714, equation 9: the same values by the new statistics.
        mean, std = self.value_norm.mean_std()
        scale, shift, head = old_std / std, (old_mean - mean) / std, self.network.head
        head.weight.mul_(scale)
        head.bias.mul_(scale).add_(shift)
        return normalized_value * scale + shift

    def finish_update(self, rollout: Rollout) -> None:
        """Takes the rows of a rollout into their statistics, once all has been learned by the old ones."""
        if self.network.norm is not None:
            rows = self.build_input(rollout.obs, rollout.state, rollout.active)
            self.network.norm.update(
                rows, torch.ones_like(rows[..., 0]) if self.critic_input.team_rows else rollout.active
            )

    def build_input(self, obs: Tensor, state: Tensor | None, active: Tensor) -> Tensor:
        """The rows, before any normalisation; images in their own dtype."""
        dtype, image = self.network.head.weight.dtype, len(self.network.shape) == 3
        obs = obs if obs.ndim - active.ndim == 3 else obs.to(dtype)
        state = state if state is None or image else state.to(dtype)
        if state is not None and image and state.dtype != obs.dtype:  # one of them in bytes: fractions of 255, both
            state, obs = (x.to(dtype) / (255 if x.dtype == torch.uint8 else 1) for x in (state, obs))
        return self.critic_input(obs, state, active)

    def _denormalize(self, normalized_value: Tensor) -> Tensor:
        return self.value_norm.denormalize(normalized_value) if self.ppo.value_norm else normalized_value


def final_memory(rollout: Rollout, memory_out: Tensor) -> Tensor:
    """What the next rollout starts from: the memory after the last step, zero where the episode ended with it."""
    over = rollout.ended[-1].reshape(-1, *(1,) * (memory_out.ndim - 2))
    return torch.where(over, 0.0, memory_out[-1])
