"""Law 1: `gae` equals its definition; what is cut apart stays apart; inputs are unchanged."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor
from torch.testing import assert_close

from mappo.functional.returns import discounted_return, gae, gae_data, n_step_return

SHAPES = [(), (3,), (3, 2)]


def flag(generator: torch.Generator, shape: tuple[int, ...], kind: str) -> Tensor | None:
    """None, or 0/1 flags, boolean or float, one in three set."""
    if kind == "none":
        return None
    drawn = torch.rand(shape, generator=generator) < 1 / 3
    return drawn if kind == "bool" else drawn.double()


@st.composite
def trajectories(draw: st.DrawFn) -> gae_data:
    """Any length, batch shape, flag dtype, and flags that lack trailing axes."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    steps, batch = draw(st.integers(1, 8)), draw(st.sampled_from(SHAPES))
    kinds = st.sampled_from(["none", "bool", "float"])
    flag_shapes = st.sampled_from([(steps, *batch[:n]) for n in range(len(batch) + 1)])
    value, next_value, reward = torch.randn(3, steps, *batch, dtype=torch.float64, generator=generator)
    done, cut = (flag(generator, draw(flag_shapes), draw(kinds)) for _ in range(2))
    return gae_data(value, next_value, reward, done, cut)


def whole(flag: Tensor | None, like: Tensor) -> Tensor:
    """The flag as float64, of the full shape."""
    if flag is None:
        return torch.zeros_like(like)
    return flag.to(like.dtype).reshape(*flag.shape, *[1] * (like.ndim - flag.ndim)).expand_as(like)


def columns(data: gae_data) -> list[tuple[list[float], ...]]:
    """One tuple of lists (value, next_value, reward, done, cut) for each element of the batch."""
    value, next_value, reward, done, traj_flag = data
    done, traj_flag = whole(done, reward), whole(traj_flag, reward)
    parts = (value, next_value, reward, done, torch.maximum(done, traj_flag))
    flat = [x.reshape(x.shape[0], -1).T.tolist() for x in parts]
    return list(zip(*flat, strict=True))


def by_definition(data: gae_data, one: Callable[..., list[float]]) -> Tensor:
    """`one(value, next_value, reward, done, cut)` for each element of the batch."""
    results = [one(*column) for column in columns(data)]
    return torch.tensor(results, dtype=torch.float64).T.reshape(data.reward.shape)


def gae_of_column(gamma: float, lambda_: float) -> Callable[..., list[float]]:
    """A_t = sum over l of (gamma lambda)^l delta_{t+l}, up to and with the first cut."""

    def one(value: Any, next_value: Any, reward: Any, done: Any, cut: Any) -> list[float]:
        steps = range(len(reward))
        delta = [reward[t] + gamma * (1 - done[t]) * next_value[t] - value[t] for t in steps]
        result = []
        for t in steps:
            end = next((k for k in range(t, len(reward)) if cut[k]), len(reward) - 1)
            result.append(sum((gamma * lambda_) ** (k - t) * delta[k] for k in range(t, end + 1)))
        return result

    return one


def n_step_of_column(gamma: float, n: int) -> Callable[..., list[float]]:
    """Up to n rewards, then gamma^k V(s_{t+k}), stopping at the first cut and at the end of the batch."""

    def one(value: Any, next_value: Any, reward: Any, done: Any, cut: Any) -> list[float]:
        result = []
        for t in range(len(reward)):
            end = next((k for k in range(t, len(reward)) if cut[k]), len(reward) - 1)
            end = min(end, t + n - 1)
            seen = sum(gamma ** (k - t) * reward[k] for k in range(t, end + 1))
            result.append(seen + gamma ** (end - t + 1) * (1 - done[end]) * next_value[end])
        return result

    return one


@given(trajectories(), st.floats(0, 1), st.floats(0, 1))
def test_gae_equals_its_definition(data: gae_data, gamma: float, lambda_: float):
    assert_close(gae(data, gamma, lambda_), by_definition(data, gae_of_column(gamma, lambda_)), rtol=1e-12, atol=1e-12)


@given(trajectories(), st.floats(0, 1))
def test_lambda_0_is_the_td_error(data: gae_data, gamma: float):
    value, next_value, reward, done, _ = data
    td_error = reward + gamma * (1 - whole(done, reward)) * next_value - value
    assert_close(gae(data, gamma, 0.0), td_error, rtol=1e-12, atol=1e-12)


@given(trajectories(), st.floats(0, 1))
def test_lambda_1_is_the_monte_carlo_return_less_the_value(data: gae_data, gamma: float):
    # The TD errors telescope only if V(s_{t+1}) is the value of the next row, wherever nothing is cut.
    value, next_value, reward, done, traj_flag = data
    cut = torch.maximum(whole(done, reward), whole(traj_flag, reward))[:-1]
    next_value = torch.cat([torch.where(cut != 0, next_value[:-1], value[1:]), next_value[-1:]])
    data = data._replace(next_value=next_value)
    monte_carlo = by_definition(data, n_step_of_column(gamma, len(reward)))
    assert_close(gae(data, gamma, 1.0), monte_carlo - value, rtol=1e-12, atol=1e-12)


@given(trajectories(), st.integers(1, 7))
def test_cutting_at_traj_flag_and_computing_the_parts_apart_gives_the_same(data: gae_data, where: int):
    value, next_value, reward, done, traj_flag = data
    where = min(where, len(reward))
    cut = whole(traj_flag, reward).clone()
    cut[where - 1] = 1
    data = gae_data(value, next_value, reward, whole(done, reward), cut)
    parts = [gae_data(*(x[rows] for x in data)) for rows in (slice(where), slice(where, None))]
    apart = torch.cat([gae(part) for part in parts if len(part.reward)])
    assert torch.equal(gae(data), apart)


@given(trajectories())
def test_inputs_are_unchanged(data: gae_data):
    # Regression: an earlier program masked the caller's next_value in place.
    before = [None if x is None else x.clone() for x in data]
    gae(data)
    discounted_return(*data[1:])
    n_step_return(*data[1:], n=2)
    for old, new in zip(before, data, strict=True):
        assert (old is None and new is None) or torch.equal(old, new)


@given(trajectories(), st.floats(0, 1), st.integers(1, 9))
def test_n_step_return_equals_its_definition(data: gae_data, gamma: float, n: int):
    expected = by_definition(data, n_step_of_column(gamma, n))
    assert_close(n_step_return(*data[1:], gamma, n), expected, rtol=1e-12, atol=1e-12)


@given(trajectories(), st.floats(0, 1))
def test_discounted_return_equals_its_definition(data: gae_data, gamma: float):
    expected = by_definition(data, n_step_of_column(gamma, len(data.reward)))
    assert_close(discounted_return(*data[1:], gamma), expected, rtol=1e-12, atol=1e-12)


@given(trajectories())
def test_one_step_is_the_td_target(data: gae_data):
    _, next_value, reward, done, _ = data
    assert torch.equal(n_step_return(*data[1:], gamma=0.9, n=1), reward + 0.9 * (1 - whole(done, reward)) * next_value)


@given(trajectories(), st.integers(0, 3))
def test_as_many_steps_as_there_are_is_the_discounted_return(data: gae_data, more: int):
    n = len(data.reward) + more
    assert torch.equal(n_step_return(*data[1:], n=n), discounted_return(*data[1:]))


def test_golden_gae_of_one_trajectory_that_ends():
    # gamma = 1/2, lambda = 1/2, done at the last step.
    #   delta_2 = 4 + 0       - 2 = 2            A_2 = 2
    #   delta_1 = 2 + 1/2 * 2 - 4 = -1           A_1 = -1 + 1/4 * 2     = -1/2
    #   delta_0 = 1 + 1/2 * 4 - 2 = 1            A_0 =  1 + 1/4 * -1/2  =  7/8
    value, next_value = torch.tensor([2.0, 4.0, 2.0]), torch.tensor([4.0, 2.0, 100.0])
    reward, done = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([False, False, True])
    assert gae((value, next_value, reward, done, None), 0.5, 0.5).tolist() == [0.875, -0.5, 2.0]


def test_golden_gae_where_a_time_limit_cuts_but_the_value_behind_it_counts():
    # gamma = 1/2, lambda = 1, cut but not done at t = 1, where V(s_2) = 8 is that of the state before the reset.
    #   delta_2 = 1 + 1/2 * 0 - 1 = 0            A_2 = 0
    #   delta_1 = 1 + 1/2 * 8 - 2 = 3            A_1 = 3               (nothing of A_2)
    #   delta_0 = 1 + 1/2 * 2 - 3 = -1           A_0 = -1 + 1/2 * 3 = 1/2
    value, next_value = torch.tensor([3.0, 2.0, 1.0]), torch.tensor([2.0, 8.0, 0.0])
    reward, cut = torch.ones(3), torch.tensor([0.0, 1.0, 0.0])
    assert gae((value, next_value, reward, None, cut), 0.5, 1.0).tolist() == [0.5, 3.0, 0.0]


def test_golden_returns():
    # gamma = 1/2, V behind the last step = 8, cut (not done) at t = 1 with V = 4 there.
    #   G_3 = 4 + 1/2 * 8 = 8        G_2 = 3 + 1/2 * 8 = 7
    #   G_1 = 2 + 1/2 * 4 = 4        G_0 = 1 + 1/2 * 4 = 3
    next_value, reward = torch.tensor([100.0, 4.0, 100.0, 8.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    cut = torch.tensor([False, True, False, False])
    assert discounted_return(next_value, reward, None, cut, 0.5).tolist() == [3.0, 4.0, 7.0, 8.0]


def test_flags_of_time_and_environment_cut_every_agent_alike():
    # Regression: done (T, B) against values (T, B) or (T, B, A) once gave a result of the wrong shape.
    value, next_value, reward = torch.randn(3, 5, 4, 2)
    done = torch.rand(5, 4) < 0.5
    together = gae((value, next_value, reward, done, done))
    assert together.shape == (5, 4, 2)
    for agent in range(2):
        alone = gae((value[..., agent], next_value[..., agent], reward[..., agent], done, done))
        assert alone.shape == (5, 4)
        assert torch.equal(alone, together[..., agent])


def test_a_tuple_and_flags_left_out_mean_the_same_as_gae_data():
    value, next_value, reward = torch.randn(3, 5, 4)
    never = torch.zeros(5, 4, dtype=torch.bool)
    expected = gae(gae_data(value, next_value, reward, never, never))
    assert torch.equal(gae((value, next_value, reward, None, None)), expected)
    assert torch.equal(gae(gae_data(value, next_value, reward)), expected)
    assert torch.equal(gae([value, next_value, reward]), expected)


def test_done_alone_cuts_as_well():
    value, next_value, reward = torch.randn(3, 5, 4)
    done = torch.rand(5, 4) < 0.5
    assert torch.equal(gae((value, next_value, reward, done, None)), gae((value, next_value, reward, done, done)))


def test_gradients_pass_through_gae():
    value = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    next_value, reward = torch.randn(2, 5, 4, dtype=torch.float64)
    torch.autograd.gradcheck(lambda v: gae((v, next_value, reward, None, None)), value)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"value": torch.zeros(5, 4, 1)}, ValueError, r"value must have the shape of reward, \(5, 4\), got"),
        ({"next_value": torch.zeros(5)}, ValueError, r"next_value must have the shape of reward, \(5, 4\)"),
        ({"done": torch.zeros(4)}, ValueError, r"done must have the reward's leading axes \(5, 4\), got \(4,\)"),
        ({"traj_flag": torch.zeros(5, 4, 1)}, ValueError, r"traj_flag must have the reward's leading axes"),
        ({"traj_flag": torch.zeros(())}, ValueError, r"traj_flag must have .* got \(\)"),
        ({"reward": torch.zeros(())}, ValueError, r"reward must be \(T, \*B\) with T > 0, got shape \(\)"),
        ({"reward": torch.zeros(0, 4)}, ValueError, r"reward must be \(T, \*B\) with T > 0"),
        ({"reward": torch.zeros(5, 4).long()}, TypeError, r"reward must be floating point, got torch.int64"),
        ({"value": torch.zeros(5, 4).int()}, TypeError, r"value must be floating point, got torch.int32"),
        ({"next_value": torch.zeros(5, 4).bool()}, TypeError, r"next_value must be floating point"),
    ],
)
def test_a_wrong_shape_or_dtype_is_named(changes: dict[str, Tensor], error: type[Exception], message: str):
    good = gae_data(torch.zeros(5, 4), torch.zeros(5, 4), torch.zeros(5, 4))
    with pytest.raises(error, match=message):
        gae(good._replace(**changes))


def test_n_step_return_needs_at_least_one_step():
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        n_step_return(torch.zeros(3), torch.zeros(3), n=0)


def test_compiled_as_one_graph_they_give_the_same():
    value, next_value, reward = torch.randn(3, 5, 4)
    done, cut = torch.rand(2, 5, 4) < 0.3
    data = gae_data(value, next_value, reward, done, cut)
    for function, arguments in ((gae, (data,)), (discounted_return, data[1:]), (n_step_return, data[1:])):
        compiled = torch.compile(function, fullgraph=True, backend="eager")
        assert torch.equal(compiled(*arguments), function(*arguments))
