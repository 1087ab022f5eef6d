"""One fused Adam for actor and critic; its moments are saved by the names of their weights."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from mappo.config import PPOConfig
from mappo.core.state_dict import subdict
from mappo.functional.distributions import sum_tensors
from mappo.networks.actor_critic import ActorCritic


def make_optimizer(network: ActorCritic, ppo: PPOConfig, capturable: bool) -> torch.optim.AdamW:
    """Build AdamW with two parameter groups, the actor's and the critic's.

    Args:
        network: the parameters.
        ppo: learning rates, `adam_eps` and `weight_decay`.
        capturable: CUDA graphs capture the steps; learning rates are then tensors on the device.
    """
    device = network.actor.head.weight.device
    groups = [
        {"params": list(module.parameters()), "lr": torch.tensor(lr, device=device) if capturable else lr}
        for module, lr in ((network.actor, ppo.actor_lr), (network.critic, ppo.critic_lr))
    ]
    return torch.optim.AdamW(groups, eps=ppo.adam_eps, weight_decay=ppo.weight_decay, fused=True, capturable=capturable)


def set_learning_rates(optimizer: torch.optim.Optimizer, *rates: float) -> None:
    """Set the learning rate of each parameter group."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):  # a graph reads it at this address
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def step_if_finite(
    optimizers: Sequence[torch.optim.Optimizer], metrics: dict[str, Tensor], grad_norms: Sequence[Tensor]
) -> None:
    """Take the step of each optimizer, unless its loss or a gradient is not finite.

    Args:
        optimizers: an optimizer for each seed, with its gradients.
        metrics: of the loss, scalars, or `(S,)` of several seeds; `grad_norm_actor`, `grad_norm_critic` and
            `skipped_steps` are added.
        grad_norms: of the actor and of the critic, as the metrics.
    """
    metrics |= zip(("grad_norm_actor", "grad_norm_critic"), grad_norms, strict=True)
    nonfinite = ~sum_tensors([metrics["total_loss"], *grad_norms]).isfinite()
    metrics["skipped_steps"] = nonfinite.float()
    for optimizer, found_inf in zip(optimizers, metrics["skipped_steps"].reshape(-1), strict=True):
        # The fused kernel reads this flag on the device, and then changes neither weights nor moments.
        cast(Any, optimizer).found_inf = found_inf
        optimizer.step()


def moments_by_name(optimizer: torch.optim.Optimizer, network: ActorCritic) -> dict[str, Any]:
    """Return Adam's moments by parameter name; empty before the first step."""
    names = [name for name, _ in network.named_parameters()]  # the actor's, then the critic's: the optimizer's order
    return {names[i]: moments for i, moments in optimizer.state_dict()["state"].items()}


def load_moments(optimizer: torch.optim.Optimizer, network: ActorCritic, moments: Mapping[str, Tensor]) -> None:
    """Load Adam's moments by parameter name, in place: CUDA graphs need fixed addresses.

    Args:
        optimizer: changed in place.
        network: the parameters.
        moments: by dotted names; a parameter without moments gets zeros.

    Raises:
        RuntimeError: a moment does not have the shape of its parameter.
    """
    for name, parameter in network.named_parameters():
        state = optimizer.state[parameter]
        loaded = subdict(moments, name)
        for key, x in loaded.items():
            if x.shape != (parameter.shape if x.ndim else ()):
                raise RuntimeError(f"size mismatch for {name}.{key}: {tuple(x.shape)}, not {tuple(parameter.shape)}")
            state[key] = state.get(key, torch.empty_like(x, device=parameter.device)).copy_(x)
        for key in state.keys() - loaded.keys():
            state[key].zero_()
