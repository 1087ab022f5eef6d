"""The types and scales of the critic's input."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from mappo.algorithms import critic as critic_module, mappo as learner_module
from mappo.algorithms.mappo import MAPPO
from mappo.config import Config, EnvConfig, NetworkConfig
from mappo.core.spec import ActionHeads, Spec

ACTIVE = torch.ones(4, 2, dtype=torch.bool)


def learner(space: spaces.Box, state_shape: tuple[int, ...] | None, mode: Any = "agent") -> MAPPO:
    spec = Spec(("a", "b"), (space,) * 2, (ActionHeads((2,)),) * 2, state_shape=state_shape)
    return MAPPO(spec, replace(Config(), env=EnvConfig(num_envs=4), network=NetworkConfig(critic_input=mode)), seed=0)


@pytest.mark.parametrize("in_bytes", ["obs", "state"])
def test_where_one_of_two_images_is_in_bytes_both_become_fractions(in_bytes: str):
    critic = learner(spaces.Box(0, 255, (7, 6, 3), np.uint8), (7, 6, 1)).critic
    obs = torch.randint(256, (4, 2, 7, 6, 3)).byte()
    state = torch.randint(256, (4, 7, 6, 1)).byte()
    fraction = state.float() / 255 if in_bytes == "obs" else obs.float() / 255
    given = (obs, fraction) if in_bytes == "obs" else (fraction, state)
    rows = critic.build_input(*given, ACTIVE)
    assert rows.dtype == torch.float32
    assert_close(rows[:, 0, ..., :1], state.float() / 255, rtol=0, atol=1e-7)
    assert_close(rows[:, 0, ..., 1:4], obs[:, 0].float() / 255, rtol=0, atol=1e-7)


def test_images_stay_in_bytes():
    critic = learner(spaces.Box(0, 255, (7, 6, 3), np.uint8), None, "joint").critic
    obs = torch.randint(256, (4, 2, 7, 6, 3)).byte()
    assert torch.equal(critic.build_input(obs, None, ACTIVE), torch.cat([obs[:, 0], obs[:, 1]], -1))


@pytest.mark.parametrize("mode", ["env", "agent"])
def test_images_of_the_state_stay_in_bytes_beside_images_in_bytes(mode: str):
    critic = learner(spaces.Box(0, 255, (7, 6, 3), np.uint8), (7, 6, 1), mode).critic
    rows = critic.build_input(
        torch.randint(256, (4, 2, 7, 6, 3)).byte(), torch.randint(256, (4, 7, 6, 1)).byte(), ACTIVE
    )
    assert rows.dtype == torch.uint8


@pytest.mark.parametrize(("obs_shape", "state_shape"), [((5,), (7, 6, 1)), ((7, 6, 3), (5,))], ids=["state", "obs"])
def test_the_closed_form_needs_both_networks_without_convolutions(
    obs_shape: tuple[int, ...], state_shape: tuple[int, ...]
):
    agent = learner(spaces.Box(-1, 1, obs_shape), state_shape, "env")
    assert agent.network.actor.has_backward != agent.network.critic.has_backward
    assert not agent.has_closed_form


def test_vectors_of_any_type_become_the_networks():
    critic = learner(spaces.Box(-1, 1, (5,)), (3,)).critic
    obs, state = torch.randint(9, (4, 2, 5)), torch.randn(4, 3, dtype=torch.float64)
    rows = critic.build_input(obs, state, ACTIVE)
    assert rows.dtype == torch.float32
    assert torch.equal(rows[:, 1], torch.cat([state.float(), obs[:, 1].float(), torch.tensor([[0.0, 1.0]] * 4)], -1))


@pytest.mark.parametrize("mode", ["joint", "own"])
def test_large_images_are_evaluated_and_learned_from_in_pieces(mode: str, monkeypatch: pytest.MonkeyPatch):
    agent = learner(spaces.Box(0, 255, (7, 6, 3), np.uint8), None, mode)
    net = agent.network.critic
    shape = (5, 3) if mode == "joint" else (5, 3, 2)
    rows = torch.randint(256, (*shape, *net.shape)).byte()
    whole = agent.critic._compute(rows)
    assert net.conv_outputs == 16 * 7 * 6 + 32 * 4 * 3  # two layers of 3 x 3
    calls: list[int] = []
    net.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    monkeypatch.setattr(critic_module, "MAX_OUTPUTS", 2 * 6 * net.conv_outputs)
    assert_close(agent.critic._compute(rows), whole)
    assert calls == ([4, 1] if mode == "joint" else [2, 2, 1])
    assert agent.piece_rows == 20_000
    per_row = agent.network.actor.conv_outputs + net.conv_outputs // (2 if mode == "joint" else 1)
    monkeypatch.setattr(learner_module, "MAX_OUTPUTS", 10 * per_row)
    assert agent.piece_rows == 10
    assert isinstance(agent.piece_rows, int)
