"""What an actor's numbers mean: the distribution of a team's actions."""

import itertools

import torch
from torch import Tensor

from mappo.config import NetworkConfig
from mappo.core.spec import Spec
from mappo.errors import UserError
from mappo.functional.distributions import (
    gaussian_log_prob,
    gaussian_sample,
    log_prob_of_heads,
    mode_of_heads,
    sample_heads,
    tanh_gaussian_log_prob,
)


class ActionDistribution:
    """A team's actions in the padded layout of `Spec`, drawn from the numbers `(*B, A, N + 2 C)` of an actor.

    N logits of the categorical heads, then C means and C log standard deviations of normal distributions. Drawn
    numbers are kept as they were drawn, unbounded; `to_bounds` makes of them what the environment is sent:

    - `clip` (the default, as in PPO's own code and most others'): -1 and 1 stand for the bounds, beyond them the
      number is cut off. Density and entropy stay those of the normal distribution: exact, and bounds may be infinite,
      in which case the number is sent as it is. A policy that aims at a bound drifts beyond it.
    - `tanh`: tanh(u) in place of the cut, with the density of tanh(u) (per unit of half the bounds' width). Smooth at
      the bounds, never quite there; needs finite ones, and its entropy is an estimate.

    A head that an agent lacks is a choice of one (probability 1, entropy 0), or a number of no weight.

    Raises:
        UserError: `tanh` without finite bounds.
    """

    def __init__(self, spec: Spec, network_config: NetworkConfig, device: torch.device | str = "cpu") -> None:
        self.heads, self.num_logits, self.continuous = spec.heads, sum(spec.heads), spec.continuous
        self.size, self.is_squashed = spec.action_size, network_config.action_bounds == "tanh"
        self.head_ends = list(itertools.accumulate(self.heads))
        legal = spec.static_mask_tensor
        self.static_mask = None if legal.all() else legal.to(device)  # (A, N): what each agent can choose at all
        if not self.continuous:
            return
        shape = (spec.num_agents, self.continuous)
        low, high, there = torch.full(shape, -1.0), torch.full(shape, 1.0), torch.zeros(shape)
        for a, own in enumerate(spec.action_heads):
            low[a, : own.continuous], high[a, : own.continuous] = torch.tensor(own.low), torch.tensor(own.high)
            there[a, : own.continuous] = 1
        finite = (high - low) < 1e30  # float32's largest numbers stand for no bounds
        if self.is_squashed and not finite.all():
            raise UserError("network.action-bounds tanh needs finite bounds in the action space: use clip")
        # What is bounded on both sides is counted in halves of its width about its middle, else in its own units.
        # With one bound alone, -1 stands for a low one, or 1 for a high one, and the unit is the space's.
        near = torch.where(low > -1e30, low + 1, torch.where(high < 1e30, high - 1, 0.0))
        middle, half = torch.where(finite, (low + high) / 2, near), torch.where(finite, (high - low) / 2, 1.0)
        table = torch.stack([low, high, there, middle, half]).to(device)  # (5, A, C), or (5, C) alike for all agents
        table = table[:, 0] if (table == table[:, :1]).all() else table
        self.low, self.high, self.continuous_mask, self.center, self.half_width = table.unbind()
        self.needs_continuous_mask = not there.all()  # some agents have fewer

    @property
    def differs_by_agent(self) -> bool:
        """Agents' actions differ: rows must be those of whole teams, `(*B, A)`."""
        return self.static_mask is not None or (self.continuous > 0 and self.low.ndim == 2)

    def legal_choices(self, mask: Tensor | None) -> Tensor | None:
        """What may be chosen, `(*B, A, N)`, or None for everything; a head with nothing legal has all that is there."""
        if mask is None or not self.heads:
            return self.static_mask
        own = torch.ones_like(mask) if self.static_mask is None else self.static_mask
        parts: list[Tensor] = []
        for n, end in zip(self.heads, self.head_ends, strict=True):
            there, allowed = own[..., end - n : end], mask[..., end - n : end] & own[..., end - n : end]
            parts.append(torch.where(allowed.any(-1, keepdim=True), allowed, there))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def sample(self, dist_params: Tensor, noise: Tensor, legal: Tensor | None) -> tuple[Tensor, Tensor]:
        """Actions `(*B, A, D)` by noise `(*B, A, D)`, uniform in [0, 1), and their log-probabilities `(*B, A)`."""
        logit, mean, log_std = self._split(dist_params)
        heads = len(self.heads)
        if not self.continuous:
            return sample_heads(logit, noise, self.heads, legal)
        number = gaussian_sample(mean, log_std, noise[..., heads:])
        log_prob = self._continuous_log_prob(mean, log_std, number)[0]
        if not heads:
            return number, log_prob
        choice, choice_log_prob = sample_heads(logit, noise[..., :heads], self.heads, legal)
        return torch.cat([choice.to(number.dtype), number], -1), choice_log_prob + log_prob

    def mode(self, dist_params: Tensor, legal: Tensor | None) -> Tensor:
        """The likeliest choice of each head and the mean of each number, `(*B, A, D)`."""
        logit, mean, _ = self._split(dist_params)
        if not self.heads:
            return mean
        choice = mode_of_heads(logit, self.heads, legal)
        return torch.cat([choice.to(mean.dtype), mean], -1) if self.continuous else choice

    def log_prob(self, dist_params: Tensor, action: Tensor, legal: Tensor | None) -> tuple[Tensor, Tensor]:
        """Log-probability of actions as they were drawn, and entropy, two `(*B, A)`."""
        logit, mean, log_std = self._split(dist_params)
        heads = len(self.heads)
        if not self.continuous:
            return log_prob_of_heads(logit, action, self.heads, legal)
        log_prob, entropy = self._continuous_log_prob(mean, log_std, action[..., heads:])
        if not heads:
            return log_prob, entropy
        choice_log_prob, choice_entropy = log_prob_of_heads(logit, action[..., :heads], self.heads, legal)
        return choice_log_prob + log_prob, choice_entropy + entropy

    def to_bounds(self, action: Tensor) -> Tensor:
        """Actions as the environment takes them: numbers within their bounds, in the units of these."""
        if not self.continuous:
            return action
        heads = len(self.heads)
        number = action[..., heads:]
        number = torch.tanh(number) if self.is_squashed else number
        number = torch.clamp(self.center + self.half_width * number, self.low, self.high)
        return torch.cat([action[..., :heads], number], -1) if heads else number

    def _split(self, dist_params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.continuous:
            return dist_params, dist_params, dist_params
        logit, *rest = torch.split(dist_params, [self.num_logits, self.continuous, self.continuous], -1)  # pyright: ignore
        mean, log_std = (x.contiguous() for x in rest)  # a dozen operators read them, each faster for it
        return logit, mean, log_std

    def _continuous_log_prob(self, mean: Tensor, log_std: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        measure = tanh_gaussian_log_prob if self.is_squashed else gaussian_log_prob
        if self.needs_continuous_mask:  # masked first, so that absent entries give no infinite value or gradient
            mean, log_std, number = (torch.where(self.continuous_mask > 0, x, 0.0) for x in (mean, log_std, number))
        log_prob, entropy = measure(mean, log_std, number)
        return (log_prob * self.continuous_mask).sum(-1), (entropy * self.continuous_mask).sum(-1)
