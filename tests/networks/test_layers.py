"""Parameters for each agent, computed at once: the same as one agent after another. Memory, and running statistics."""

import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.nn import functional as f
from torch.testing import assert_close

from mappo.config import NetworkConfig
from mappo.networks.encoders import CNN, MLP
from mappo.networks.gru import GRU
from mappo.networks.layers import LayerNorm, Linear
from mappo.networks.network import Network
from mappo.networks.normalizers import RunningNorm
from mappo.networks.parameter_sets import ParameterSets

STEPS, ROWS = 3, 2


def plain(tower: Network, agent: int, groups: list[int], x: Tensor, memory: Tensor, first: Tensor) -> tuple[Any, Any]:
    """What a tower answers to one agent, `x (L, n, *shape)`, by that agent's own parameters and torch's own layers."""
    sets = sorted(set(groups))

    def own(parameter: Any) -> Tensor:
        return parameter if len(sets) == 1 else parameter[sets.index(groups[agent])]

    def linear(layer: Any, x: Tensor) -> Tensor:
        return f.linear(x, own(layer.weight), own(layer.bias))

    def norm(layer: Any, x: Tensor) -> Tensor:
        return f.layer_norm(x, x.shape[-1:], own(layer.weight), own(layer.bias))

    if tower.ids is not None:
        one = f.one_hot(torch.tensor(agent), len(groups)).to(x.dtype) * (255 if x.dtype == torch.uint8 else 1)
        x = torch.cat([x, one.expand(*x.shape[:-1], len(groups))], -1)
    mlp = cast(Any, tower.encoder)
    if isinstance(mlp, CNN):
        x = x.double() / 255 if x.dtype == torch.uint8 else x
        x = x.flatten(0, 1).movedim(-1, 1)
        for layer in mlp.convolutions:
            if isinstance(layer, nn.Conv2d):
                weight, bias = (p.unflatten(0, (len(sets), -1)) for p in (layer.weight, cast(Tensor, layer.bias)))
                index = sets.index(groups[agent])
                x = torch.relu(f.conv2d(x, weight[index], bias[index], layer.stride, layer.padding))
        x = x.flatten(1).unflatten(0, (STEPS, -1))
        mlp = mlp.mlp
    x = norm(mlp.norms[0], x) if mlp.norms else x
    for i, layer in enumerate(mlp.layers):
        x = torch.relu(linear(layer, x)) if mlp.activation == "relu" else torch.tanh(linear(layer, x))
        x = norm(mlp.norms[i + 1], x) if mlp.norms else x
    after: list[Tensor] = []
    if tower.gru is not None:
        for t in range(len(x)):
            memory = torch.where(first[t].unsqueeze(-1), 0.0, memory)
            seen, held = (own(layer.weight) for layer in (tower.gru.input, tower.gru.hidden))
            biases = (own(layer.bias) for layer in (tower.gru.input, tower.gru.hidden))
            memory = torch.gru_cell(x[t], memory, seen, held, *biases)
            after.append(memory)
        x = torch.stack(after)
        x = x if tower.gru_norm is None else norm(tower.gru_norm, x)
    y = linear(tower.head, x)
    if tower.constants is not None:
        constants = tower.constants[sets.index(groups[agent])]
        y = torch.cat([y, constants.expand(*y.shape[:-1], len(constants))], -1)
    return y, torch.stack(after) if after else None


def unlike(module: nn.Module, seed: int = 0) -> None:
    """Biases, scales and constants that differ, where they all start alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.3 * torch.randn(p.shape, dtype=p.dtype, generator=generator)


def check_against_plain(tower: Network, groups: list[int], x: Tensor, first: Tensor) -> None:
    """Answers, memory and all gradients, of teams `x (L, n, A, *shape)` against one agent after another."""
    memory = torch.randn(ROWS, len(groups), tower.memory_size, dtype=torch.float64)
    memory = torch.where(first[0].unsqueeze(-1), math.nan, memory).requires_grad_()
    runs: list[Any] = []
    for batched in (True, False):
        for leaf in (x, memory, *tower.parameters()):
            leaf.grad = None
        if batched:
            y, after = tower(x, memory if tower.gru else None, first if tower.gru else None)
        else:
            parts = [plain(tower, a, groups, x[:, :, a], memory[:, a], first[:, :, a]) for a in range(len(groups))]
            y = torch.stack([part[0] for part in parts], 2)
            after = torch.stack([part[1] for part in parts], 2) if tower.gru else None
        generator = torch.Generator().manual_seed(3)
        total = (y * torch.randn(y.shape, dtype=y.dtype, generator=generator)).sum()
        if after is not None:
            total = total + (after * torch.randn(after.shape, dtype=after.dtype, generator=generator)).sum()
        total.backward()
        leaves = [x, *tower.parameters(), *([memory] if tower.gru else [])]
        runs.append((y.detach(), after, [leaf.grad for leaf in leaves if leaf.requires_grad]))
    assert_close(runs[0], runs[1], rtol=1e-10, atol=1e-10)  # LayerNorm behind LayerNorm amplifies rounding
    assert cast(Tensor, tower.head.weight.grad).any()


@settings(max_examples=60)
@given(
    groups=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    layer_norm=st.booleans(),
    activation=st.sampled_from(["relu", "tanh"]),
    memory=st.sampled_from([0, 3]),
    agent_id=st.booleans(),
    constants=st.sampled_from([0, 2]),
    seed=st.integers(0, 1000),
)
def test_a_batched_tower_is_one_agent_after_another(
    groups: list[int], layer_norm: bool, activation: Any, memory: int, agent_id: bool, constants: int, seed: int
):
    torch.manual_seed(seed)
    net = NetworkConfig((5, 4), activation, layer_norm, memory_size=memory)
    tower = Network((3,), 2, net, parameter_sets=groups, agent_id=agent_id, constants=constants).double()
    unlike(tower, seed)
    x = torch.randn(STEPS, ROWS, len(groups), 3, dtype=torch.float64, requires_grad=True)
    check_against_plain(tower, groups, x, torch.rand(STEPS, ROWS, len(groups)) < 0.3)


@pytest.mark.parametrize("groups", [[0], [0, 0, 0], [0, 1, 2], [1, 0, 1], [2, 0, 0, 1]])
@pytest.mark.parametrize("shape", [(6, 5, 2), (36, 37, 3)])
@pytest.mark.parametrize(("dtype", "memory", "agent_id"), [(torch.uint8, 3, True), (torch.float64, 0, False)])
def test_a_batched_tower_of_images_is_one_agent_after_another(
    groups: list[int], shape: tuple[int, int, int], dtype: torch.dtype, memory: int, agent_id: bool
):
    tower = Network(
        shape, 2, NetworkConfig((5,), memory_size=memory), parameter_sets=groups, agent_id=agent_id
    ).double()
    unlike(tower)
    x = (255 * torch.rand(STEPS, ROWS, len(groups), *shape)).to(dtype)
    if dtype == torch.float64:
        x = (x / 255).requires_grad_()
    check_against_plain(tower, groups, x, torch.rand(STEPS, ROWS, len(groups)) < 0.3)


def test_bytes_are_fractions_of_255_and_ids_are_planes_of_ones():
    tower = Network((6, 5, 2), 2, NetworkConfig((5,)), parameter_sets=(0, 0), agent_id=True)
    image = (255 * torch.rand(4, 2, 6, 5, 2)).byte()
    assert_close(tower(tower.preprocess(image))[0], tower(tower.preprocess(image / 255))[0])


@pytest.mark.parametrize("shape", [(3,), (6, 5, 2)])
def test_agents_with_parameters_of_their_own_do_not_touch_each_others(shape: tuple[int, ...]):
    """Neither by gradients, which are exactly 0, nor by what they hold."""
    net = NetworkConfig((5, 4), layer_norm=True, memory_size=3)
    tower = Network(shape, 2, net, parameter_sets=(0, 1, 2), constants=1)
    unlike(tower)
    x, memory, first = torch.rand(STEPS, ROWS, 3, *shape), torch.randn(ROWS, 3, 3), torch.zeros(STEPS, ROWS, 3).bool()

    def sets(p: Tensor) -> Tensor:
        return p if p.shape[0] == 3 else p.unflatten(0, (3, -1))  # convolutions have theirs side by side

    y, after = tower(x, memory, first)
    (y[..., 1, :].sum() + after[..., 1, :].sum()).backward()
    for p in tower.parameters():
        assert sets(cast(Tensor, p.grad))[1].any()
        assert not sets(cast(Tensor, p.grad))[[0, 2]].any()
    with torch.no_grad():
        for p in tower.parameters():
            sets(p)[0] = math.nan
        spoilt, _ = tower(x, memory, first)
    assert spoilt[..., 0, :].isnan().all()
    assert torch.equal(spoilt[..., 1:, :], y[..., 1:, :])


def test_one_set_of_parameters_has_no_axis_for_it():
    shared, each = (Network((3,), 2, NetworkConfig((4,), memory_size=3), parameter_sets=g) for g in ((0, 0), (0, 1)))
    for one, two in zip(shared.parameters(), each.parameters(), strict=True):
        assert two.shape == (2, *one.shape)


@settings(max_examples=60)
@given(groups=st.lists(st.integers(0, 4), min_size=1, max_size=7), features=st.integers(0, 2))
def test_what_is_dealt_is_gathered_again(groups: list[int], features: int):
    dealer = ParameterSets(groups)
    x = torch.randn(2, 3, len(groups), *(2,) * features)
    dealt = dealer.scatter(x, features)
    if dealer.count > 1:
        largest = max(groups.count(g) for g in groups)
        assert dealt.shape == (len(set(groups)), largest, 2, 3, *(2,) * features)
        for index, group in enumerate(sorted(set(groups))):
            for place, agent in enumerate(a for a, g in enumerate(groups) if g == group):
                assert torch.equal(dealt[index, place], x[:, :, agent])
    if features == 1:
        assert torch.equal(dealer.gather(dealt), x)


def test_layer_norm_of_groups_is_that_of_torch_for_each():
    norm = LayerNorm(3, 5).double()
    unlike(norm)
    x = 3 * torch.randn(3, 2, 4, 5, dtype=torch.float64) + 1
    for group in range(3):
        expected = f.layer_norm(x[group], (5,), norm.weight[group], norm.bias[group])
        assert_close(norm(x)[group], expected, rtol=1e-12, atol=1e-12)


def test_each_group_starts_with_weights_of_its_own():
    mlp, gru, linear = MLP(6, (6,), groups=2), GRU(2, 6, 6), Linear(3, 6, 6)
    for weight in (cast(Any, mlp.layers[0]).weight, gru.input.weight, gru.hidden.weight, linear.weight):
        assert not torch.equal(weight[0], weight[1])


def test_a_tower_with_a_memory_takes_steps_or_sequences_that_say_where_they_begin():
    tower = Network((3,), 2, NetworkConfig((4,), memory_size=3))
    with pytest.raises(ValueError, match="a network with a memory reads sequences"):
        tower(torch.zeros(2, 3))
    y, memory = tower.step(torch.ones(2, 3))
    again, after = tower.step(torch.ones(2, 3), memory, torch.tensor([True, False]))
    assert torch.equal(again[0], y[0])
    assert (again[1] != y[1]).any()
    assert after.shape == (2, 3)


# Running statistics


def batches(sets: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Rows `(5, 4, 3, F = 2)` of three agents and their weights, `sets` > 1 being told apart, and far from 0."""
    generator = torch.Generator().manual_seed(seed)
    made: list[tuple[Tensor, Tensor]] = []
    for shift in (100.0, 103.0, 90.0):
        x = torch.randn(5, 4, 3, 2, generator=generator) * torch.tensor([2.0, 0.1]) + shift
        x[:, :, 1] += 50 * (sets > 1)
        made.append((x, torch.rand(5, 4, 3, generator=generator) < 0.7))
    return made


@pytest.mark.parametrize("kinds", [(), (0, 0, 0), (0, 1, 0), (0, 1, 2)])
def test_statistics_are_those_of_all_rows_ever_seen_of_each_kind(kinds: tuple[int, ...]):
    norm, data = RunningNorm(2, kinds), batches(len(set(kinds)))
    for x, weight in data:
        norm.update(torch.where(weight.unsqueeze(-1), x, math.nan), weight)
    rows, weights = (torch.cat(parts).double().numpy() for parts in zip(*data, strict=True))
    x = torch.randn(6, 3, 2) + 100
    expected = np.empty((6, 3, 2))
    for agent in range(3):
        alike = [a for a in range(3) if not kinds or kinds[a] == kinds[agent]]
        seen = rows[:, :, alike][weights[:, :, alike] != 0]
        expected[:, agent] = ((x[:, agent].double().numpy() - seen.mean(0)) / seen.std(0)).clip(-10, 10)
    assert_close(norm(x.double()).numpy(), expected, rtol=1e-9, atol=1e-9)
    assert_close(norm(x).double().numpy(), expected, rtol=1e-3, atol=1e-3)
    assert norm(x).dtype == torch.float32


def test_kinds_with_the_same_data_have_the_same_statistics_and_the_order_of_batches_does_not_matter():
    forth, back = RunningNorm(2, (0, 1, 1)), RunningNorm(2, (0, 1, 1))
    for norm, data in ((forth, batches(2)), (back, batches(2)[::-1])):
        for x, weight in data:
            norm.update(x, weight)
    assert_close(list(forth.buffers()), list(back.buffers()), rtol=1e-12, atol=1e-9)
    assert not torch.allclose(forth.mean[0], forth.mean[1], atol=10)


def test_a_row_of_weight_2_is_two_rows():
    once, twice = RunningNorm(2), RunningNorm(2)
    x = torch.randn(7, 2)
    once.update(x, torch.tensor([1, 2, 0, 1, 1, 2, 1]))
    twice.update(x[[0, 1, 1, 3, 4, 5, 5, 6]], torch.ones(8))
    assert_close(list(once.buffers()), list(twice.buffers()))


def test_what_never_moved_reads_0_and_what_is_far_is_cut_off():
    norm = RunningNorm(2)
    x = torch.stack([torch.full((50,), 0.1), torch.randn(50)], -1)
    norm.update(x, torch.ones(50))
    seen = norm(torch.tensor([[0.1, 1e6], [7.0, -1e6]]))
    assert seen.tolist() == [[0, 10], [0, -10]]
    assert (norm(x)[:, 0] == 0).all()


def test_before_the_first_update_numbers_of_usual_size_stay_as_they_are():
    x = torch.randn(4, 3, 2)
    for norm in (RunningNorm(2), RunningNorm(2, (0, 1, 1))):
        assert torch.equal(norm(x), x)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf])
def test_a_batch_that_is_not_finite_changes_nothing_of_its_kind(garbage: float):
    norm = RunningNorm(2, (0, 1, 1))
    x, weight = batches(2)[0]
    norm.update(x, weight)
    before = [b.clone() for b in norm.buffers()]
    spoilt = x + 1
    spoilt[2, 3, 1, 0], weight[2, 3, 1] = garbage, True
    norm.update(spoilt, weight)
    for old, new in zip(before, norm.buffers(), strict=True):
        if old.ndim == 2:  # `kinds` has one axis
            assert torch.equal(old[1], new[1])
            assert not torch.equal(old[0], new[0])


def test_a_batch_of_weight_0_changes_nothing_not_even_at_first():
    norm = RunningNorm(2)
    norm.update(torch.full((3, 2), math.nan), torch.zeros(3))
    x = torch.randn(4, 2)
    assert torch.equal(norm(x), x)


def test_statistics_stand_still_unless_updated_and_are_saved():
    norm, other = RunningNorm(2, (0, 1, 0)), RunningNorm(2, (0, 1, 0))
    (x, weight), *_ = batches(2)
    norm.update(x, weight)
    before = [b.clone() for b in norm.buffers()]
    norm(x)
    norm.eval()(x)
    assert all(torch.equal(a, b) for a, b in zip(before, norm.buffers(), strict=True))
    other.load_state_dict(norm.state_dict())
    assert set(norm.state_dict()) == {"count", "mean", "square"}
    assert torch.equal(other(x), norm(x))
    assert all(b.dtype == torch.float64 for b in norm.state_dict().values())
