"""One fused Adam for actor and critic, and its moments by the names of the weights they belong to."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mappo.config import PPOConfig
from mappo.core.state_dict import subdict
from mappo.networks.actor_critic import ActorCritic


def make_optimizer(network: ActorCritic, ppo: PPOConfig, capturable: bool) -> torch.optim.AdamW:
    """Two groups, the actor's and the critic's.

    Args:
        recorded: its steps go into recordings, which read their learning rates from the device.
    """

    def rate(value: float, like: Tensor) -> float | Tensor:
        return torch.tensor(value, device=like.device) if capturable else value

    groups: list[dict[str, Any]] = []
    for tower, value in ((network.actor, ppo.actor_lr), (network.critic, ppo.critic_lr)):
        groups.append({"params": list(tower.parameters()), "lr": rate(value, tower.head.weight)})
    return torch.optim.AdamW(groups, eps=ppo.adam_eps, weight_decay=ppo.weight_decay, fused=True, capturable=capturable)


def set_learning_rates(optimizer: torch.optim.Optimizer, *rates: float) -> None:
    """The learning rate of each group, from now on."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):  # where a recording reads it
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def moments_by_name(optimizer: torch.optim.Optimizer, network: ActorCritic) -> dict[str, Any]:
    """What Adam keeps of each weight; nothing before its first step."""
    names = _names(optimizer, network)
    return {names[i]: moments for i, moments in optimizer.state_dict()["state"].items()}


def load_moments(optimizer: torch.optim.Optimizer, network: ActorCritic, moments: Mapping[str, Tensor]) -> None:
    """The inverse, of names joined by dots: moments never land on another layer, and stay where a recording reads them.

    Raises:
        RuntimeError: one has not the shape of its weight.
    """
    for name, parameter in zip(_names(optimizer, network), _parameters(optimizer), strict=True):
        own, given = optimizer.state[parameter], subdict(moments, name)
        for key, x in given.items():
            if x.shape != (parameter.shape if x.ndim else ()):
                raise RuntimeError(f"size mismatch for {name}.{key}: {tuple(x.shape)}, not {tuple(parameter.shape)}")
            own[key] = own.get(key, torch.empty_like(x, device=parameter.device)).copy_(x)
        for key in own.keys() - given.keys():
            own[key].zero_()


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _names(optimizer: torch.optim.Optimizer, network: ActorCritic) -> list[str]:
    """In the order of the optimizer."""
    names = {id(p): name for name, p in network.named_parameters()}
    return [names[id(p)] for p in _parameters(optimizer)]
