"""The rows of a critic, against a loop over environments and agents; and what is said of them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from mappo.algorithms.critic_input import CriticInput, make_critic_input
from mappo.config import Config, NetworkConfig
from mappo.core.spec import ActionHeads, Spec
from mappo.errors import UserError

NUM_AGENTS = 3


def one_row(made: CriticInput, obs: list[Tensor], state: Tensor | None, agent: int, is_active: list[bool]) -> Tensor:
    """The row of an agent in one environment at one time, part by part."""
    seen = [x if alive else torch.zeros_like(x) for x, alive in zip(obs, is_active, strict=True)]
    joint = torch.cat(seen, -1)
    full = 255 if obs[0].dtype == torch.uint8 else 1
    name = torch.zeros(*obs[0].shape[:-1], NUM_AGENTS, dtype=obs[0].dtype)
    name[..., agent] = full
    if made.mode == "joint":
        return joint
    if made.mode == "own":
        return torch.cat([seen[agent], name], -1) if made.has_id else seen[agent]
    parts = torch.cat([joint if state is None else state, seen[agent]], -1)
    if made.death_mask and not is_active[agent]:
        parts = torch.zeros_like(parts)
    return torch.cat([parts, name], -1)


@pytest.mark.parametrize("made", [
    CriticInput((), True, mode="joint"),
    CriticInput((), False, mode="own"),
    CriticInput((), False, mode="own", has_id=True),
    CriticInput((), False, mode="agent", has_state=True),
    CriticInput((), False, mode="agent"),
    CriticInput((), False, mode="agent", death_mask=True, has_state=True),
], ids=lambda x: f"{x.mode}{' id' * x.has_id}{' state' * x.has_state}{' death mask' * x.death_mask}")  # fmt: skip
@pytest.mark.parametrize("batch", [(2,), (4, 2)], ids=["step", "rollout"])
@pytest.mark.parametrize("see", [(4,), (7, 6, 3)], ids=["vector", "image"])
def test_rows_are_those_of_a_loop(made: CriticInput, batch: tuple[int, ...], see: tuple[int, ...]):
    generator = torch.Generator().manual_seed(0)
    dtype = torch.uint8 if len(see) == 3 else torch.float32
    obs = torch.randint(1, 256, (*batch, NUM_AGENTS, *see), generator=generator).to(dtype)
    state = torch.randint(256, (*batch, *see[:-1], 7), generator=generator).to(dtype) if made.has_state else None
    active = torch.rand(*batch, NUM_AGENTS, generator=generator) < 0.6
    rows = made(obs, state, active)
    assert rows.dtype == dtype
    assert not active.all()
    for at in torch.cartesian_prod(*map(torch.arange, batch)).reshape(-1, len(batch)).tolist():
        place = tuple(at)
        of_env = None if state is None else state[place]
        for agent in range(NUM_AGENTS):
            row = one_row(made, list(obs[place]), of_env, agent, active[place].tolist())
            assert torch.equal(rows[place] if made.team_rows else rows[place][agent], row)


@pytest.mark.parametrize(("made", "text"), [
    (CriticInput((7,), True, mode="env"), "the environment's state (env), 7 numbers, one row for the team"),
    (CriticInput((5, 2, 9), True, mode="joint"),
     "all observations side by side (joint), 5 x 2 x 9, one row for the team"),
    (CriticInput((9,), False, mode="agent", has_state=True),
     "the state, the own observation and an id (agent), 9 numbers, a row for each agent"),
    (CriticInput((9,), False, mode="agent"),
     "all observations, the own observation and an id (agent), 9 numbers, a row for each agent"),
    (CriticInput((4,), False, mode="own"), "the agent's own observation (own), 4 numbers, a row for each agent"),
    (CriticInput((6,), False, mode="own", has_id=True),
     "the agent's own observation and id (own), 6 numbers, a row for each agent"),
    (CriticInput((2,), True, mode="user"),
     "the result of the critic_input function (user), 2 numbers, one row for the team"),
])  # fmt: skip
def test_it_is_described_in_words(made: CriticInput, text: str):
    assert made.describe() == text


def spec_of(obs_shape: tuple[int, ...], state_shape: tuple[int, ...] | None) -> Spec:
    space = spaces.Box(0, 255, obs_shape, np.uint8) if len(obs_shape) == 3 else spaces.Box(-1, 1, obs_shape)
    return Spec(("a", "b"), (space,) * 2, (ActionHeads((2,)),) * 2, state_shape=state_shape)


def with_critic(mode: str) -> Config:
    return replace(Config(), network=NetworkConfig(critic_input=mode, agent_id=True))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("mode", "obs_shape", "state_shape", "shape"), [
    ("agent", (4,), (9,), (15,)),
    ("agent", (4,), None, (14,)),
    ("agent", (7, 6, 3), (7, 6, 1), (7, 6, 6)),
    ("agent", (7, 6, 3), None, (7, 6, 11)),
    ("env", (4,), (9,), (9,)),
    ("env", (4,), (7, 6, 3), (7, 6, 3)),
    ("joint", (4,), (9,), (8,)),
    ("joint", (7, 6, 3), None, (7, 6, 6)),
    ("own", (4,), (9,), (6,)),
    ("own", (7, 6, 3), None, (7, 6, 5)),
])  # fmt: skip
def test_a_row_has_the_shape_of_its_parts(
    mode: str, obs_shape: tuple[int, ...], state_shape: tuple[int, ...] | None, shape: tuple[int, ...]
):
    made = make_critic_input(spec_of(obs_shape, state_shape), with_critic(mode))
    assert (made.mode, made.shape, made.team_rows) == (mode, shape, mode in ("env", "joint"))
    obs = torch.zeros(5, 2, *obs_shape)
    state = None if state_shape is None else torch.zeros(5, *state_shape)
    rows = made(obs, state, torch.ones(5, 2, dtype=torch.bool))
    assert rows.shape == (5, *(() if made.team_rows else (2,)), *shape)


@pytest.mark.parametrize("mode", ["joint", "own", "agent", "user"])
@pytest.mark.parametrize("most", [15, 255])
def test_images_are_divided_by_the_bound_of_their_space_and_ids_are_whole(mode: str, most: int):
    space = spaces.Box(0, most, (7, 6, 3), np.uint8)
    spec = Spec(("a", "b"), (space,) * 2, (ActionHeads((2,)),) * 2)
    made = make_critic_input(spec, with_critic(mode), (lambda obs, *_: obs) if mode == "user" else None)
    assert made.bytes_scale == most
    rows = made(torch.zeros(4, 2, 7, 6, 3, dtype=torch.uint8), None, torch.ones(4, 2, dtype=torch.bool))
    assert rows.max() == (most if mode in ("own", "agent") else 0)


Function = Callable[[Tensor, Tensor | None, Tensor], Tensor]


@pytest.mark.parametrize("mode", ["auto", "user"])
@pytest.mark.parametrize(("obs_shape", "function", "shape", "team_rows"), [
    ((4,), lambda obs, *_: obs.flatten(1), (8,), True),
    ((4,), lambda obs, *_: obs[..., :3], (3,), False),
    ((7, 6, 3), lambda obs, *_: obs[:, 0], (7, 6, 3), True),
    ((7, 6, 3), lambda obs, *_: obs[..., :1], (7, 6, 1), False),
])  # fmt: skip
def test_the_rows_of_a_function_have_the_shape_it_returns(
    mode: str, obs_shape: tuple[int, ...], function: Function, shape: tuple[int, ...], team_rows: bool
):
    calls: list[tuple[torch.Size, torch.dtype, torch.Size, Tensor]] = []

    def recorded(obs: Tensor, state: Tensor | None, active: Tensor) -> Tensor:
        assert state is not None
        calls.append((obs.shape, obs.dtype, state.shape, active))
        return function(obs, state, active)

    made = make_critic_input(spec_of(obs_shape, (9,)), with_critic(mode), recorded)
    assert (made.mode, made.shape, made.team_rows) == ("user", shape, team_rows)
    for num_envs, (obs, dtype, state, active) in zip((2, 3), calls, strict=True):
        assert (obs, state) == ((num_envs, 2, *obs_shape), (num_envs, 9))
        assert dtype == (torch.uint8 if len(obs_shape) == 3 else torch.float32)
        assert active.tolist() == [[True, True]] * num_envs


@pytest.mark.parametrize(("returned", "message"), [
    (lambda obs: obs[0], r"for 2 it returned \(2, 4\), for 3 \(2, 4\)"),  # no axis of the environments
    (lambda obs: obs.flatten(1)[:, : 2 * len(obs)], r"for 2 it returned \(2, 4\), for 3 \(3, 6\)"),
    (lambda obs: obs[:, :1], r"for 2 it returned \(2, 1, 4\)"),  # the row of a single agent
    (lambda obs: obs.reshape(*obs.shape, 1, 1, 1), r"must return \(E, F\) or \(E, 2, F\) for E environments"),
    (lambda obs: obs.sum((1, 2)), r"for 2 it returned \(2,\)"),
    (lambda obs: obs.tolist(), "must return a tensor, got list"),
    (lambda obs: obs @ torch.zeros(3), r"failed on observations \(2, 2, 4\) and state None: RuntimeError"),
])  # fmt: skip
def test_a_function_that_returns_no_rows_is_refused(returned: Callable[[Tensor], Any], message: str):
    with pytest.raises(UserError, match=message):
        make_critic_input(spec_of((4,), None), with_critic("auto"), lambda obs, *_: returned(obs))


@pytest.mark.parametrize("mode", ["env", "joint", "agent", "own"])
def test_a_function_beside_another_critic_input_is_refused(mode: str):
    with pytest.raises(UserError, match=f"network.critic-input {mode}, but a function was given too: use user or auto"):
        make_critic_input(spec_of((4,), (9,)), with_critic(mode), lambda obs, *_: obs)


@pytest.mark.parametrize(("obs_shape", "state_shape"), [((7, 6, 3), (9,)), ((4,), (7, 6, 3)), ((7, 6, 3), (6, 7, 3))])
def test_state_and_observations_of_two_kinds_are_not_concatenated(
    obs_shape: tuple[int, ...], state_shape: tuple[int, ...]
):
    with pytest.raises(UserError, match="not of one kind: use env, joint or own"):
        make_critic_input(spec_of(obs_shape, state_shape), with_critic("agent"))
