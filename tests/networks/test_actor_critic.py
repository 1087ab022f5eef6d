"""Law 5: an actor sees its own observation and nothing else, the critic sees the state."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.testing import assert_close

from mappo.algorithms.critic_input import CriticInput, Mode, make_critic_input
from mappo.config import Config, NetworkConfig
from mappo.core.spec import ActionHeads, Spec
from mappo.networks.encoders import MLP
from mappo.networks.layers import GAIN, Linear
from mappo.networks.tutorial import Activation, CTDEActorCriticNetwork, SharedActorCriticNetwork

B, A, O, S, N = 4, 5, 10, 25, 6  # noqa: E741


def network(layer_norm: bool = False, activation: Activation = "relu") -> CTDEActorCriticNetwork:
    """Logits large enough to compare."""
    torch.manual_seed(0)
    made = CTDEActorCriticNetwork(A, O, S, N, layer_norm=layer_norm, activation=activation, actor_gain=1.0)
    return made.double()


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    make = {"dtype": torch.float64, "generator": generator}
    return torch.randn(B, A, O, **make), torch.randn(B, S, **make)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_another_agents_observation_never_changes_my_logits(layer_norm: bool):
    model, (obs, state) = network(layer_norm), inputs()
    before = model(obs, state).logit
    for other in range(A):
        changed = obs.clone()
        changed[:, other] = torch.randn(B, O, dtype=torch.float64)
        after = model(changed, state).logit
        mine = [agent for agent in range(A) if agent != other]
        assert torch.equal(after[:, mine], before[:, mine])
        assert (after[:, other] != before[:, other]).all()


def test_the_jacobian_of_logits_by_observations_is_0_off_its_diagonal_and_by_the_state_is_0():
    model, (obs, state) = network(), inputs()
    by_obs, by_state = jacobian(lambda o, s: model(o, s).logit, (obs[:2], state[:2]))  # (B, A, N, B, A, O)
    for b in range(2):
        for agent in range(A):
            assert by_obs[b, agent, :, b, agent].any()
            by_obs[b, agent, :, b, agent] = 0
    assert not by_obs.any()
    assert not by_state.any()


def test_the_state_changes_the_value_and_observations_do_not():
    model, (obs, state) = network(), inputs()
    before = model(obs, state)
    assert (model(obs, state + 1).value != before.value).all()
    assert torch.equal(model(obs + 1, state).value, before.value)


def test_permuting_agents_permutes_the_outputs():
    model, (obs, _) = network(), inputs()
    states = torch.randn(B, A, S, dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    before, after = model(obs, states), model(obs[:, order], states[:, order])
    assert_close(after.logit, before.logit[:, order], rtol=1e-12, atol=1e-12)
    assert_close(after.value, before.value[:, order], rtol=1e-12, atol=1e-12)


def test_an_agent_alone_gets_the_logits_it_got_in_the_team():
    model, (obs, state) = network(), inputs()
    together = model(obs, state).logit
    for b, agent in ((0, 0), (3, 4)):
        assert_close(model.actor(obs[b, agent])[0], together[b, agent], rtol=1e-12, atol=1e-12)


def test_actor_and_critic_share_no_parameter_and_leave_none_out():
    model = network(layer_norm=True)
    actor, critic = list(model.actor.parameters()), list(model.critic.parameters())
    assert {id(p) for p in actor}.isdisjoint({id(p) for p in critic})
    assert {id(p) for p in actor + critic} == {id(p) for p in model.parameters()}


def test_shapes_of_a_shared_state_and_of_a_state_for_each_agent():
    model, (obs, state) = network(), inputs()
    assert model(obs, state).logit.shape == (B, A, N)
    assert model(obs, state).value.shape == (B, 1)
    assert model(obs, torch.zeros(B, A, S, dtype=torch.float64)).value.shape == (B, A, 1)
    assert model.critic(torch.zeros(3, 7, S, dtype=torch.float64))[0].shape == (3, 7, 1)


def test_the_output_answers_by_attribute_and_by_name():
    model, (obs, state) = network(), inputs()
    result = model(obs, state)
    assert result["logit"] is result.logit
    assert result["value"] is result.value
    with pytest.raises(AttributeError):
        result["policy"]


@pytest.mark.parametrize(
    ("obs", "state", "message"),
    [
        ((B, A, O), (B + 1, S), r"global_obs must be \(B, S\) or \(B, A, S\) with \(B, A\) = \(4, 5\)"),
        ((B, A, O), (S,), r"global_obs must be .* got \(25,\)"),
        ((B, A, O), (B, A + 1, S), r"global_obs must be .* got \(4, 6, 25\)"),
        ((B, A + 1, O), (B, S), r"local_obs must be \(B, A, O\) with A = 5, got \(4, 6, 10\)"),
        ((B, O), (B, S), r"local_obs must be \(B, A, O\) with A = 5, got \(4, 10\)"),
    ],
)
def test_wrong_shapes_are_named(obs: tuple[int, ...], state: tuple[int, ...], message: str):
    with pytest.raises(ValueError, match=message):
        network()(torch.zeros(obs), torch.zeros(state))


def test_the_shared_network_reads_each_agents_own_observation_for_both():
    model = SharedActorCriticNetwork(A, O, N, actor_gain=1.0).double()
    obs, _ = inputs()
    before = model(obs)
    assert before.logit.shape == (B, A, N)
    assert before.value.shape == (B, A, 1)
    obs[:, 0] += 1
    after = model(obs)
    for x, y in ((before.logit, after.logit), (before.value, after.value)):
        assert torch.equal(x[:, 1:], y[:, 1:])
        assert (x[:, 0] != y[:, 0]).all()
    with pytest.raises(ValueError, match=r"local_obs must be \(B, A, O\) with A = 5, got \(4, 10\)"):
        model(torch.zeros(B, O))


@pytest.mark.parametrize("batch", [(), (7,), (2, 3)])
def test_a_grouped_linear_is_a_loop_over_its_groups_gradients_included(batch: tuple[int, ...]):
    groups = Linear(3, 4, 2).double()
    nn.init.normal_(groups.bias)
    alone = [nn.Linear(4, 2).double() for _ in range(3)]
    for g, linear in enumerate(alone):
        linear.weight.data.copy_(groups.weight.data[g])
        linear.bias.data.copy_(groups.bias.data[g])
    x = torch.randn(3, *batch, 4, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    result, expected = groups(x), torch.stack([f(part) for f, part in zip(alone, y, strict=True)])
    assert result.shape == (3, *batch, 2)
    assert_close(result, expected, rtol=1e-12, atol=1e-12)
    result.square().sum().backward()
    expected.square().sum().backward()
    assert_close(x.grad, y.grad, rtol=1e-12, atol=1e-12)
    for g, linear in enumerate(alone):
        assert groups.weight.grad is not None
        assert groups.bias.grad is not None
        assert_close(groups.weight.grad[g], linear.weight.grad, rtol=1e-12, atol=1e-12)
        assert_close(groups.bias.grad[g], linear.bias.grad, rtol=1e-12, atol=1e-12)


def test_a_linear_of_one_group_is_torchs():
    one, plain = Linear(1, 4, 2), nn.Linear(4, 2)
    plain.load_state_dict(one.state_dict())
    x = torch.randn(2, 3, 4)
    assert torch.equal(one(x), plain(x))


@pytest.mark.parametrize("shape", [(4,), (2, 5, 4)])
def test_a_grouped_linear_refuses_an_input_of_other_groups(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"Linear of 3 groups got an input of shape \("):
        Linear(3, 4, 2)(torch.zeros(shape))


def assert_orthogonal(weight: Tensor, gain: float) -> None:
    """Rows or columns, whichever are fewer, are orthogonal and of length `gain`."""
    matrix = weight if weight.shape[0] <= weight.shape[1] else weight.T
    assert_close(matrix @ matrix.T, gain**2 * torch.eye(len(matrix)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("activation", "gain"), [("relu", math.sqrt(2)), ("tanh", 5 / 3)])
def test_weights_start_orthogonal_with_the_papers_gains_and_biases_0(activation: Activation, gain: float):
    model = CTDEActorCriticNetwork(A, O, S, N, activation=activation)
    assert GAIN[activation] == nn.init.calculate_gain(activation) == pytest.approx(gain)
    for tower in (model.actor, model.critic):
        assert isinstance(tower.encoder, MLP)
        assert len(tower.encoder.layers) == 2
        for layer in tower.encoder.layers:
            assert isinstance(layer, Linear)
            assert_orthogonal(layer.weight.detach(), gain)
            assert not layer.bias.any()
    assert_orthogonal(model.actor.head.weight.detach(), 0.01)
    assert_orthogonal(model.critic.head.weight.detach(), 1.0)
    assert not model.actor.head.bias.any()
    assert not model.critic.head.bias.any()


def test_each_group_starts_orthogonal_and_different():
    weight = Linear(3, 8, 4, gain=2.0).weight.detach()
    for matrix in weight:
        assert_orthogonal(matrix, 2.0)
    assert not torch.equal(weight[0], weight[1])


def test_the_cheap_tanh_is_tanh_gradient_included():
    mlp = MLP(3, (4, 2), "tanh").double()
    x = torch.cat([torch.randn(5, 3, dtype=torch.float64), torch.full((1, 3), 60.0, dtype=torch.float64)])
    y = x
    for layer in mlp.layers:
        y = torch.tanh(layer(y))
    assert_close(mlp(x), y, rtol=1e-12, atol=1e-12)
    torch.autograd.gradcheck(mlp, x[:5].clone().requires_grad_())
    expected = torch.autograd.grad(y.square().sum(), list(mlp.parameters()))
    result = torch.autograd.grad(mlp(x).square().sum(), list(mlp.parameters()))
    assert_close(result, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_layer_norm_stands_on_the_input_and_behind_each_activation(activation: Activation):
    mlp = MLP(3, (4, 5), activation, layer_norm=True).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    y = nn.functional.layer_norm(x, (3,))
    for layer, size in zip(mlp.layers, (4, 5), strict=True):
        y = nn.functional.layer_norm(getattr(torch, activation)(layer(y)), (size,))
    assert_close(mlp(x), y, rtol=1e-10, atol=1e-12)
    expected = torch.autograd.grad(y.pow(3).sum(), list(mlp.layers.parameters()))
    result = torch.autograd.grad(mlp(x).pow(3).sum(), list(mlp.layers.parameters()))
    assert_close(result, expected, rtol=1e-8, atol=1e-10)
    assert not MLP(3, (4, 5), activation).norms


MODES: list[Mode] = ["env", "joint", "agent", "own"]


def reader(mode: Mode, state: tuple[int, ...] | None = (7,), obs: tuple[int, ...] = (2,), **net: Any) -> CriticInput:
    """What the critic of three agents reads."""
    box = spaces.Box(-np.inf, np.inf, obs, np.float32)
    spec = Spec(("x", "y", "z"), (box,) * 3, (ActionHeads((4,)),) * 3, state_shape=state)
    return make_critic_input(spec, Config(network=NetworkConfig(critic_input=mode, **net)))


@pytest.mark.parametrize(("mode", "with_state"), [(m, True) for m in MODES] + [(m, False) for m in MODES if m != "env"])
@pytest.mark.parametrize("batch", [(), (4,), (2, 4)])
def test_critic_input_is_what_it_says_and_of_the_size_foretold(mode: Mode, with_state: bool, batch: tuple[int, ...]):
    obs, active = torch.randn(*batch, 3, 2), torch.rand(*batch, 3) < 0.6
    state = torch.randn(*batch, 7) if with_state else None
    made = reader(mode, (7,) if with_state else None)
    result = made(obs, state, active)
    assert made.team_rows == (mode in ("env", "joint"))
    assert result.shape == (*batch, *(() if made.team_rows else (3,)), *made.shape)
    seen = obs * active.unsqueeze(-1)  # a dead agent's observation reads 0
    joint = torch.cat([seen[..., 0, :], seen[..., 1, :], seen[..., 2, :]], -1)
    if mode == "env":
        assert result is state
    elif mode == "joint":
        assert torch.equal(result, joint)
    elif mode == "own":
        assert torch.equal(result, seen)
    else:
        team = joint if state is None else state
        for agent in range(3):
            one_hot = torch.zeros(*batch, 3)
            one_hot[..., agent] = 1
            assert torch.equal(result[..., agent, :], torch.cat([team, seen[..., agent, :], one_hot], -1))


@pytest.mark.parametrize("mode", MODES)
def test_what_a_dead_agent_sees_never_reaches_the_critic(mode: Mode):
    obs, active = torch.randn(4, 3, 2), torch.tensor([True, False, True]).expand(4, 3)
    spoilt = torch.where(active.unsqueeze(-1), obs, math.nan)
    made, state = reader(mode), torch.ones(4, 7)
    assert torch.equal(made(spoilt, state, active), made(obs, state, active))


def test_the_critic_cannot_read_a_state_that_is_not_there():
    with pytest.raises(ValueError, match="critic_input 'env' needs an environment with a state"):
        reader("env")(torch.zeros(2, 3, 4), None, torch.ones(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("with_state", [True, False])
def test_death_masking_leaves_the_dead_their_id(with_state: bool):
    obs, active = torch.randn(4, 3, 2), torch.tensor([True, False, True]).expand(4, 3)
    state = torch.randn(4, 7) if with_state else None
    shape = (7,) if with_state else None
    plain, masked = (reader("agent", shape, death_mask=x)(obs, state, active) for x in (False, True))
    assert torch.equal(masked[:, [0, 2]], plain[:, [0, 2]])
    assert torch.equal(masked[:, 1, -3:], torch.tensor([0.0, 1.0, 0.0]).expand(4, 3))
    assert not masked[:, 1, :-3].any()
    assert plain[:, 1, :-3].any()


def test_an_own_row_has_the_id_if_the_actor_has():
    obs, active = torch.randn(4, 3, 2), torch.ones(4, 3, dtype=torch.bool)
    made = reader("own", agent_id=True)
    assert made.shape == (5,)
    assert torch.equal(made(obs, None, active), torch.cat([obs, torch.eye(3).expand(4, 3, 3)], -1))


@pytest.mark.parametrize("mode", ["joint", "agent", "own"])
def test_images_are_joined_along_their_channels(mode: Mode):
    obs, active = torch.rand(2, 3, 6, 5, 4), torch.tensor([True, True, False]).expand(2, 3)
    made = reader(mode, None, (6, 5, 4), agent_id=True)
    result = made(obs, None, active)
    assert result.shape == (2, *(() if made.team_rows else (3,)), *made.shape)
    seen = torch.where(active[..., None, None, None], obs, 0.0)
    joint = torch.cat([seen[:, 0], seen[:, 1], seen[:, 2]], -1)
    if mode == "joint":
        assert torch.equal(result, joint)
        return
    for agent in range(3):
        planes = torch.zeros(2, 6, 5, 3)
        planes[..., agent] = 1
        team = [joint] if mode == "agent" else []
        assert torch.equal(result[:, agent], torch.cat([*team, seen[:, agent], planes], -1))
