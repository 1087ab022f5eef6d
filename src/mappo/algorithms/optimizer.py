"""One fused Adam for actor and critic; its moments are saved by the names of their weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mappo.config import PPOConfig
from mappo.core.state_dict import subdict
from mappo.networks.actor_critic import ActorCritic


def make_optimizer(network: ActorCritic, ppo: PPOConfig, capturable: bool) -> torch.optim.AdamW:
    """Build AdamW with two parameter groups, the actor's and the critic's.

    Args:
        network: the parameters.
        ppo: learning rates, `adam_eps` and `weight_decay`.
        capturable: CUDA graphs capture the steps; learning rates are then tensors on the device.
    """
    groups: list[dict[str, Any]] = []
    for module, lr in ((network.actor, ppo.actor_lr), (network.critic, ppo.critic_lr)):
        rate = torch.tensor(lr, device=module.head.weight.device) if capturable else lr
        groups.append({"params": list(module.parameters()), "lr": rate})
    return torch.optim.AdamW(groups, eps=ppo.adam_eps, weight_decay=ppo.weight_decay, fused=True, capturable=capturable)


def set_learning_rates(optimizer: torch.optim.Optimizer, *rates: float) -> None:
    """Set the learning rate of each parameter group."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):  # a graph reads it at this address
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def moments_by_name(optimizer: torch.optim.Optimizer, network: ActorCritic) -> dict[str, Any]:
    """Return Adam's moments by parameter name; empty before the first step."""
    names = _names(optimizer, network)
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
    for name, parameter in zip(_names(optimizer, network), _parameters(optimizer), strict=True):
        state = optimizer.state[parameter]
        loaded = subdict(moments, name)
        for key, x in loaded.items():
            if x.shape != (parameter.shape if x.ndim else ()):
                raise RuntimeError(f"size mismatch for {name}.{key}: {tuple(x.shape)}, not {tuple(parameter.shape)}")
            state[key] = state.get(key, torch.empty_like(x, device=parameter.device)).copy_(x)
        for key in state.keys() - loaded.keys():
            state[key].zero_()


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _names(optimizer: torch.optim.Optimizer, network: ActorCritic) -> list[str]:
    """Return the parameter names in the optimizer's order."""
    names = {id(p): name for name, p in network.named_parameters()}
    return [names[id(p)] for p in _parameters(optimizer)]
