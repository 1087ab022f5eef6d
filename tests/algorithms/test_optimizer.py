"""Adam in vectors is torch's AdamW, and the networks' parameters are views of them."""

import copy
import math
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mappo.algorithms.optimizer import Adam, clip_norm_
from mappo.config import PPOConfig
from mappo.networks.actor_critic import ActorCritic

SIZES = {"actor": (3, 4), "critic": (2, 5)}


def make(**ppo: Any) -> tuple[ActorCritic, Adam]:
    torch.manual_seed(1)
    network = ActorCritic(*cast(Any, [nn.Linear(*size) for size in SIZES.values()]))
    return network, Adam(network, PPOConfig(**ppo))


def set_gradients(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in network.parameters():
        p.grad = torch.randn(p.shape, generator=generator) if p.grad is None else p.grad.normal_(generator=generator)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_step_is_the_step_of_torch(weight_decay: float):
    network, adam = make(actor_lr=1e-2, critic_lr=3e-3, adam_eps=1e-4, weight_decay=weight_decay)
    twin = copy.deepcopy(network)
    groups = [{"params": twin.actor.parameters(), "lr": 1e-2}, {"params": twin.critic.parameters(), "lr": 3e-3}]
    expected = torch.optim.AdamW(groups, eps=1e-4, weight_decay=weight_decay)
    for k in range(5):
        for net in (network, twin):
            set_gradients(net, k)
        adam.step(torch.tensor(0.0))
        adam.step(torch.tensor(1.0))  # changes nothing
        expected.step()
    assert_close(dict(network.state_dict()), dict(twin.state_dict()))
    state = {name: dict(expected.state[p]) for name, p in twin.named_parameters()}
    assert_close(adam.moments_by_name(), state)


def test_frozen_weights_stay_where_they_are():
    network = make()[0]
    network.actor.bias.requires_grad_(False)
    bias = cast(Tensor, network.actor.bias)
    before = bias.clone()
    adam = Adam(network, PPOConfig(weight_decay=0.5))
    assert "actor.bias" not in adam.parameters
    set_gradients(network, 1)
    adam.step(torch.tensor(0.0))
    assert torch.equal(bias, before)
    assert [len(x) for x in adam.split(adam.weight)] == [12, 15]


def test_a_gradient_outside_the_vector_is_not_lost_at_the_next_step():
    network, adam = make()
    network.zero_grad()  # torch drops the tensors
    adam.zero_grad()
    cast(Any, network.actor)(torch.ones(1, 3)).sum().backward()
    assert adam.gradient.count_nonzero() == 16


def test_new_data_of_a_parameter_is_the_weight_that_is_trained():
    network, adam = make(actor_lr=1e-3)
    bias = cast(Tensor, network.actor.bias)
    bias.data = torch.full((4,), 7.0)
    adam.zero_grad()
    set_gradients(network, 1)
    adam.step(torch.tensor(0.0))
    assert_close(bias, torch.full((4,), 7.0), rtol=0, atol=2e-3)
    assert not torch.equal(bias, torch.full((4,), 7.0))


def test_a_copy_learns_by_itself():
    network, adam = make()
    twin, twin_adam = copy.deepcopy((network, adam))
    weights = copy.deepcopy(network.state_dict())
    twin_adam.zero_grad()
    set_gradients(twin, 1)
    twin_adam.step(torch.tensor(0.0))
    assert_close(dict(network.state_dict()), dict(weights), rtol=0, atol=0)
    adam.zero_grad()
    set_gradients(network, 1)
    adam.step(torch.tensor(0.0))
    assert_close(dict(network.state_dict()), dict(twin.state_dict()), rtol=0, atol=0)
    assert all(not torch.equal(x, y) for x, y in zip(network.state_dict().values(), weights.values(), strict=True))


@pytest.mark.parametrize("limit", [0.5, 100.0, None])
def test_gradients_are_clipped_as_torch_does(limit: float | None):
    gradients = torch.randn(3, 27)
    parameters = [nn.Parameter(torch.zeros(27)) for _ in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = g.clone()
    norms = [nn.utils.clip_grad_norm_([p], math.inf if limit is None else limit) for p in parameters]
    assert_close(clip_norm_(gradients, limit), torch.stack(norms))
    assert_close(list(gradients), [p.grad for p in parameters])
