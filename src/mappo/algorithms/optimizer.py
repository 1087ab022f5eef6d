"""Adam for actor and critic: all weights in a vector, all gradients in another; P counts the weights.

The parameters of the networks, and their gradients, are views of the two vectors. A norm, a sum over processes or a
step is then a single operation, whatever the number of layers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from mappo.config import PPOConfig
from mappo.core.state_dict import subdict
from mappo.functional.distributions import sum_tensors
from mappo.networks.actor_critic import ActorCritic

BETA1 = 0.9
BETA2 = 0.999


class Adam:
    """AdamW (arXiv:1412.6980, arXiv:1711.05101) with a learning rate for the actor and a learning rate for the critic.

    Args:
        network: the weights; they move into the vector `weight`.
        ppo: learning rates, `adam_eps` and `weight_decay`.
        capturable: CUDA graphs capture the steps; learning rates are then tensors on the device.
    """

    def __init__(self, network: ActorCritic, ppo: PPOConfig, capturable: bool = False) -> None:
        self.ppo = ppo
        self.parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._sizes = [p.numel() for p in self.parameters.values()]
        num_actor = sum(p.numel() for p in network.actor.parameters() if p.requires_grad)
        self._network_sizes = [num_actor, sum(self._sizes) - num_actor]
        weight = torch.cat([p.detach().flatten() for p in self.parameters.values()])
        self.exp_avg = torch.zeros_like(weight)  # (P,)
        self.exp_avg_sq = torch.zeros_like(weight)  # (P,)
        self.num_steps = torch.zeros((), device=weight.device)
        rates = (ppo.actor_lr, ppo.critic_lr)
        self.learning_rates = [torch.tensor(r, device=weight.device) if capturable else r for r in rates]
        self.move_(weight, torch.zeros_like(weight))

    def move_(self, weight: Tensor, gradient: Tensor) -> None:
        """Use other vectors `(P,)`, such as the rows of a matrix, for the weights and for their gradient."""
        self.weight = weight
        self.gradient = gradient
        self._weights = self.views(weight)
        self._gradients = self.views(gradient)
        vectors = (weight, gradient, self.exp_avg, self.exp_avg_sq)
        # For each network the four tensors that the kernel reads or writes, each in a list of its own.
        self._tensors = [[[x] for x in parts] for parts in zip(*map(self.split, vectors), strict=True)]
        self._attach()

    def views(self, x: Tensor) -> list[Tensor]:
        """Return the places of each parameter in `x`, `(*B, P)`, as views `(*B, *shape)`."""
        # A split, because its gradient is a single concatenation.
        parts = zip(x.split_with_sizes(self._sizes, -1), self.parameters.values(), strict=True)
        return [part.unflatten(-1, p.shape) for part, p in parts]

    def _attach(self) -> None:
        """Move weights into the vector that lie elsewhere, as after a deep copy; the gradients likewise."""
        for p, weight, gradient in zip(self.parameters.values(), self._weights, self._gradients, strict=True):
            if p.data_ptr() != weight.data_ptr():
                weight.copy_(p.detach())
                p.data = weight
            if p.grad is not gradient:
                p.grad = gradient

    def zero_grad(self) -> None:
        """Set the gradient to zero."""
        self._attach()
        self.gradient.zero_()

    def set_learning_rates(self, *rates: float) -> None:
        """Set the learning rates of actor and critic."""
        for i, rate in enumerate(rates):
            old = self.learning_rates[i]
            if isinstance(old, Tensor):  # a graph reads it at this address
                old.fill_(rate)
            else:
                self.learning_rates[i] = rate

    def split(self, x: Tensor) -> list[Tensor]:
        """Return the actor's and the critic's part of `x`, `(*B, P)`, as views."""
        return list(x.split_with_sizes(self._network_sizes, -1))

    def step(self, nonfinite: Tensor) -> None:
        """Take a step; with `nonfinite` 1, in place of 0, neither weights nor moments change."""
        self.num_steps += 1 - nonfinite
        for rate, tensors in zip(self.learning_rates, self._tensors, strict=True):
            cast(Any, torch)._fused_adamw_(  # the kernel of torch.optim.AdamW
                *tensors,
                max_exp_avg_sqs=[],
                state_steps=[self.num_steps],
                lr=rate,
                beta1=BETA1,
                beta2=BETA2,
                weight_decay=self.ppo.weight_decay,
                eps=self.ppo.adam_eps,
                amsgrad=False,
                maximize=False,
                found_inf=nonfinite,  # read on the device
            )

    def moments_by_name(self) -> dict[str, dict[str, Tensor]]:
        """Return Adam's moments by parameter name, as `torch.optim.AdamW` keeps them; empty before the first step."""
        if not self.num_steps:
            return {}
        moments = zip(self.parameters, self.views(self.exp_avg), self.views(self.exp_avg_sq), strict=True)
        return {
            name: {"step": self.num_steps.clone(), "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
            for name, exp_avg, exp_avg_sq in moments
        }

    def load_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Load Adam's moments by parameter name, in place: CUDA graphs need fixed addresses.

        Args:
            moments: by dotted names; a parameter without moments gets zeros.

        Raises:
            RuntimeError: a moment does not have the shape of its parameter.
        """
        self.num_steps.zero_()
        views = zip(self.parameters, self.views(self.exp_avg), self.views(self.exp_avg_sq), strict=True)
        for name, exp_avg, exp_avg_sq in views:
            loaded = subdict(moments, name)
            for key, x in (("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
                new = loaded.get(key, torch.zeros_like(x))
                if new.shape != x.shape:
                    raise RuntimeError(f"size mismatch for {name}.{key}: {tuple(new.shape)}, not {tuple(x.shape)}")
                x.copy_(new)
            if "step" in loaded:  # equal for all parameters with moments
                self.num_steps.copy_(loaded["step"])


def clip_norm_(gradient: Tensor, limit: float | None) -> Tensor:
    """Scale gradients `(*B, P)` down to a norm of at most `limit`, in place; return their norms before, `(*B)`."""
    norm: Tensor = cast(Any, torch.linalg).vector_norm(gradient, dim=-1)
    if limit is not None:
        gradient.mul_((limit / (norm + 1e-6)).clamp_max(1.0).unsqueeze(-1))
    return norm


def step_if_finite(
    optimizers: Sequence[Adam], metrics: dict[str, Tensor], gradients: Sequence[Tensor], limit: float | None
) -> None:
    """Clip the gradients and take the step of each optimizer, unless its loss or a gradient is not finite.

    Args:
        optimizers: an optimizer for each seed.
        metrics: of the loss, scalars, or `(S,)` of several seeds; `grad_norm_actor`, `grad_norm_critic` and
            `skipped_steps` are added.
        gradients: of the actor and of the critic, `(P,)` each, or `(S, P)`.
        limit: maximum norm of each.
    """
    norms = [clip_norm_(gradient, limit) for gradient in gradients]
    metrics |= zip(("grad_norm_actor", "grad_norm_critic"), norms, strict=True)
    nonfinite = ~sum_tensors([metrics["total_loss"], *norms]).isfinite()
    metrics["skipped_steps"] = nonfinite.float()
    for optimizer, is_skipped in zip(optimizers, metrics["skipped_steps"].reshape(-1), strict=True):
        optimizer.step(is_skipped)
