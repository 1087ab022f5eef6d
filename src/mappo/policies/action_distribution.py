"""The distribution of a team's actions, given the outputs of an actor."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from mappo.config import NetworkConfig
from mappo.core.spec import UNBOUNDED, Spec
from mappo.errors import UserError
from mappo.functional.distributions import (
    VJP,
    gaussian_log_prob,
    gaussian_sample,
    log_prob_of_heads,
    mode_of_heads,
    sample_heads,
    tanh_gaussian_log_prob,
    vjp_of_heads,
)
from mappo.functional.weighted import mask_out


class ActionDistribution:
    """A team's actions in the padded layout of `Spec`, with parameters `(*B, A, N + 2 C)` from an actor.

    The parameters are N logits of the categorical heads, then C means and C log standard deviations of normal
    distributions. Continuous columns are kept as sampled, unbounded; `to_bounds` converts them for the environment:

    - `clip` (the default, as in PPO's own code and most others): -1 and 1 stand for the bounds, and numbers beyond the
      bounds are clipped. Density and entropy stay those of the normal distribution: exact, and bounds may be infinite,
      in which case the number is sent as it is. A policy that aims at a bound drifts beyond it.
    - `tanh`: tanh(u) in place of clipping, with the density of tanh(u) (per unit of half the bounds' width). Smooth at
      the bounds, but never reaches them; needs finite bounds, and its entropy is an estimate.

    A head missing in an agent has a single choice (probability 1, entropy 0); a missing continuous column has no
    weight.

    Args:
        spec: the environment's.
        network_config: `action_bounds` is read.
        device: of the actions.

    Raises:
        UserError: `tanh` without finite bounds.
    """

    def __init__(self, spec: Spec, network_config: NetworkConfig, device: torch.device | str = "cpu") -> None:
        self.heads = spec.heads
        self.num_logits = sum(spec.heads)
        self.continuous = spec.continuous
        self.is_squashed = network_config.action_bounds == "tanh"
        static_mask = spec.static_mask_tensor
        self.static_mask = None if static_mask.all() else static_mask.to(device)  # (A, N): choices of each agent
        if self.continuous:
            self._set_bounds(spec, device)

    def _set_bounds(self, spec: Spec, device: torch.device | str) -> None:
        """Set `low`, `high`, `continuous_mask`, `center` and `half_width`, `(A, C)`, or `(C,)` alike for all agents."""
        shape = (spec.num_agents, self.continuous)
        low = torch.full(shape, -1.0)
        high = torch.full(shape, 1.0)
        has_column = torch.zeros(shape)
        for agent, heads in enumerate(spec.action_heads):
            low[agent, : heads.continuous] = torch.tensor(heads.low)
            high[agent, : heads.continuous] = torch.tensor(heads.high)
            has_column[agent, : heads.continuous] = 1
        is_finite = (high - low) < UNBOUNDED
        if self.is_squashed and not is_finite.all():
            raise UserError("network.action-bounds tanh needs finite bounds in the action space: use clip")
        # Scale actions with two bounds to [-1, 1]; leave others in their units. With a single bound, -1 stands for a
        # low bound and 1 for a high bound.
        one_sided = torch.where(low > -UNBOUNDED, low + 1, torch.where(high < UNBOUNDED, high - 1, 0.0))
        center = torch.where(is_finite, (low + high) / 2, one_sided)
        half_width = torch.where(is_finite, (high - low) / 2, 1.0)
        table = torch.stack([low, high, has_column, center, half_width]).to(device)  # (5, A, C)
        table = table[:, 0] if (table == table[:, :1]).all() else table
        self.low, self.high, self.continuous_mask, self.center, self.half_width = table.unbind()
        self.needs_continuous_mask = not has_column.all()

    @property
    def differs_by_agent(self) -> bool:
        """Agents' actions differ: rows must be rows of whole teams, `(*B, A)`."""
        return self.static_mask is not None or (self.continuous > 0 and self.low.ndim == 2)

    def for_agent(self, agent: int) -> "ActionDistribution":
        """Return the distribution of a single agent, for rows `(*B, 1)`."""
        distribution = copy.copy(self)
        index = slice(agent, agent + 1)
        distribution.static_mask = None if self.static_mask is None else self.static_mask[index]
        if self.continuous and self.low.ndim == 2:
            for name in ("low", "high", "continuous_mask", "center", "half_width"):
                setattr(distribution, name, getattr(self, name)[index])
        return distribution

    def apply_(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Convert all tensors, as `nn.Module` converts its buffers."""
        for name, x in vars(self).items():
            if isinstance(x, Tensor):
                setattr(self, name, fn(x))

    def legal_choices(self, mask: Tensor | None) -> Tensor | None:
        """Merge a mask with the static mask: `(*B, A, N)`, or None where everything is legal.

        A head without a legal choice gets all choices of the agent.
        """
        if mask is None or not self.heads:
            return self.static_mask
        mask = mask if self.static_mask is None else mask & self.static_mask
        heads = [x | ~x.any(-1, keepdim=True) for x in mask.split_with_sizes(self.heads, -1)]
        legal = heads[0] if len(heads) == 1 else torch.cat(heads, -1)
        return legal if self.static_mask is None else legal & self.static_mask

    def sample(self, dist_params: Tensor, noise: Tensor, legal: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sample actions.

        Args:
            dist_params: `(*B, A, N + 2 C)`.
            noise: `(*B, A, D)`, uniform in [0, 1).
            legal: `(*B, A, N)`; see `legal_choices`.

        Returns:
            Actions `(*B, A, D)` and their log-probabilities `(*B, A)`.
        """
        logit, mean, log_std = self._split(dist_params)
        num_heads = len(self.heads)
        if not self.continuous:
            return sample_heads(logit, noise, self.heads, legal)
        number = gaussian_sample(mean, log_std, noise[..., num_heads:])
        log_prob, _ = self._continuous_log_prob(mean, log_std, number)
        if not num_heads:
            return number, log_prob
        choice, choice_log_prob = sample_heads(logit, noise[..., :num_heads], self.heads, legal)
        return torch.cat([choice.to(number.dtype), number], -1), choice_log_prob + log_prob

    def mode(self, dist_params: Tensor, legal: Tensor | None) -> Tensor:
        """Return the most probable choice of each head and the mean of each continuous column, `(*B, A, D)`."""
        logit, mean, _ = self._split(dist_params)
        if not self.heads:
            return mean
        choice = mode_of_heads(logit, self.heads, legal)
        return torch.cat([choice.to(mean.dtype), mean], -1) if self.continuous else choice

    def log_prob(self, dist_params: Tensor, action: Tensor, legal: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the log-probability of actions as sampled, `(*B, A, D)`, and the entropy, each `(*B, A)`."""
        logit, mean, log_std = self._split(dist_params)
        num_heads = len(self.heads)
        if not self.continuous:
            return log_prob_of_heads(logit, action, self.heads, legal)
        log_prob, entropy = self._continuous_log_prob(mean, log_std, action[..., num_heads:])
        if not num_heads:
            return log_prob, entropy
        choice_log_prob, choice_entropy = log_prob_of_heads(logit, action[..., :num_heads], self.heads, legal)
        return choice_log_prob + log_prob, choice_entropy + entropy

    def log_prob_vjp(self, dist_params: Tensor, action: Tensor, legal: Tensor | None) -> tuple[Tensor, Tensor, VJP]:
        """Compute `log_prob`, and its gradient as a function: in closed form for choices, by autograd for numbers."""
        if not self.continuous:
            return vjp_of_heads(dist_params, action, self.heads, legal)
        with torch.enable_grad():
            leaf = dist_params.detach().requires_grad_()
            outputs = self.log_prob(leaf, action, legal)

        def vjp(*gradients: Tensor) -> Tensor:
            return torch.autograd.grad(outputs, leaf, gradients)[0]

        log_prob, entropy = outputs
        return log_prob.detach(), entropy.detach(), vjp

    def to_bounds(self, action: Tensor) -> Tensor:
        """Convert actions for the environment: continuous columns within their bounds, in the units of the bounds."""
        if not self.continuous:
            return action
        num_heads = len(self.heads)
        number = torch.tanh(action[..., num_heads:]) if self.is_squashed else action[..., num_heads:]
        number = torch.clamp(self.center + self.half_width * number, self.low, self.high)
        return torch.cat([action[..., :num_heads], number], -1) if num_heads else number

    def _split(self, dist_params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split into logits `(*B, A, N)`, means and log standard deviations `(*B, A, C)`."""
        if not self.continuous:
            return dist_params, dist_params, dist_params
        sizes = [self.num_logits, self.continuous, self.continuous]
        logit, mean, log_std = torch.split(dist_params, sizes, -1)  # pyright: ignore[reportUnknownVariableType]
        return logit, mean.contiguous(), log_std.contiguous()  # a dozen operators read them, each faster for it

    def _continuous_log_prob(self, mean: Tensor, log_std: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log-density and entropy of the continuous columns, each `(*B, A)`."""
        log_prob_and_entropy = tanh_gaussian_log_prob if self.is_squashed else gaussian_log_prob
        if self.needs_continuous_mask:  # masked first, so that absent columns give no infinite value or gradient
            mean, log_std, number = (mask_out(x, self.continuous_mask) for x in (mean, log_std, number))
        log_prob, entropy = log_prob_and_entropy(mean, log_std, number)
        return (log_prob * self.continuous_mask).sum(-1), (entropy * self.continuous_mask).sum(-1)
