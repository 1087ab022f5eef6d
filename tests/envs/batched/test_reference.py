"""Law 9: the batched reference follows mpe2's `simple_reference_v3` in words, goals and rewards.

What it shares with its twins is in `test_mpe_twins.py`.
"""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from mpe2 import simple_reference_v3
from torch import Tensor

from mappo.envs.batched.reference import Reference, informed_pair
from mappo.envs.batched.rendering import AGENT_COLORS, LANDMARK_COLORS
from mappo.errors import UserError
from mpe_original import HORIZON, SEEDS, Original, assert_follows, count_pixels, random_actions, team_returns


@pytest.mark.parametrize("local_ratio", [0.2, 1.0, 0.0])
def test_an_episode_of_any_local_ratio_is_that_of_mpe2(local_ratio: float):
    env = Reference(20, local_ratio=local_ratio, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    env.reset(range(20))
    original = Original(simple_reference_v3, range(20), local_ratio=local_ratio)
    assert_follows(env, original, lambda _: random_actions(env, generator), 1e-9)


def test_an_episode_at_the_goals_is_that_of_mpe2():
    env = Reference(len(SEEDS), dtype=torch.float64)
    env.reset(SEEDS)
    assert_follows(env, Original(simple_reference_v3, SEEDS), lambda obs: informed_pair(obs)[0], 1e-9)


def test_both_agents_are_alike():
    spec = Reference(1).spec
    assert spec.groups == (0, 0)
    assert (spec.obs_shape, spec.heads, spec.action_dtype) == ((21,), (50,), torch.int64)


def test_an_agent_is_given_the_others_distance_and_the_team_the_sum():
    env = Reference(1, local_ratio=0.25)
    # Agent 0 sees the colour of landmark 2, which is 5 away from agent 1; agent 0 itself is 1 away from landmark 1.
    place = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [9.0, 9.0], [0.0, 1.0], [4.0, 4.0]]])
    step = env.load_state_dict(env.state_dict() | {"place": place, "goal": torch.tensor([[2, 1]])})
    assert step.obs[0, :, 8:11].tolist() == [[0.25, 0.25, 0.75], [0.25, 0.75, 0.25]]
    step = env.step(torch.zeros(1, 2, 1, dtype=torch.long))
    assert step.reward[0].tolist() == pytest.approx([-0.75 * 3 - 0.25 * 5, -0.75 * 3 - 0.25 * 1])
    assert float(env.spec.team_reward(step.reward)) == pytest.approx(-6)


def test_a_word_is_heard_by_the_other_in_the_next_observation_and_until_the_next_word():
    env = Reference(10, horizon=3)
    assert not env.reset(0).obs[..., 11:].any()
    words = torch.arange(10)
    say = 5 * torch.stack([words, 9 - words], 1).unsqueeze(-1)
    heard = env.step(say).obs[..., 11:]
    assert torch.equal(heard[:, 1], torch.eye(10))
    assert torch.equal(heard[:, 0], torch.eye(10).flip(0))
    assert torch.equal(env.step(say.roll(1, 0)).obs[:, 1, 11:], torch.eye(10).roll(1, 0))
    last = env.step(say)
    assert torch.equal(last.next_obs[:, 1, 11:], torch.eye(10))
    assert not last.obs[..., 11:].any()  # a new episode


def test_whatever_is_said_the_move_is_that_of_the_remainder():
    env = Reference(50)
    env.reset([0] * 50)
    choice = torch.arange(50)
    step = env.step(torch.stack([choice, choice.flip(0)], 1).unsqueeze(-1))
    moves = torch.tensor([[0.0, 0.0], [-0.5, 0.0], [0.5, 0.0], [0.0, -0.5], [0.0, 0.5]])
    assert torch.equal(step.obs[:, 0, :2], moves[choice % 5])
    assert torch.equal(step.obs[:, 1, :2], moves[4 - choice % 5])


def test_the_informed_pair_is_far_better_than_one_that_does_not_listen():
    def deaf(obs: Tensor) -> tuple[Tensor, Any]:
        obs = obs.clone()
        obs[..., 11:] = 0
        return informed_pair(obs)

    env = Reference(500)
    informed = team_returns(env, informed_pair)
    assert informed.mean() > 0.6 * team_returns(env, deaf).mean()  # returns are negative: less than 0.6 of the cost
    assert -16 < informed.mean() < -14.5


def test_the_informed_pair_is_hardly_worse_than_a_search():
    """Of all sequences of three moves, the one that leads nearest to the target heard."""
    table = torch.tensor(list(itertools.product(range(5), repeat=3)))
    push = torch.tensor([[0.0, 0.0], [-0.5, 0.0], [0.5, 0.0], [0.0, -0.5], [0.0, 0.5]])

    def search(obs: Tensor) -> tuple[Tensor, Any]:
        heard = obs[..., 11:14]
        weight = torch.where(heard.any(-1, keepdim=True), heard, 1 / 3)
        way = (weight.unsqueeze(-1) * obs[..., 2:8].unflatten(-1, (3, 2))).sum(-2).unsqueeze(-2)
        velocity, cost = obs[..., None, :2], torch.zeros(1)
        for move in [*table.unbind(-1), *[torch.zeros_like(table[:, 0])] * 4]:  # behind them, four steps of coasting
            way = way - 0.1 * velocity
            velocity = 0.75 * velocity + push[move]
            cost = cost + way.norm(dim=-1)
        return (5 * obs[..., 8:11].argmax(-1) + table[cost.argmin(-1), 0]).unsqueeze(-1), None

    env = Reference(500)
    assert team_returns(env, informed_pair).mean() > 1.02 * team_returns(env, search).mean()


def test_the_informed_pair_acts_on_its_own_observations_alone():
    obs = Reference(50).reset(0).obs
    obs[:, 0, 11:] = torch.eye(10)[torch.arange(50) % 3]
    obs[:, 1, 11:] = torch.eye(10)[torch.arange(50) % 10]  # words that it never says, too
    action, memory = informed_pair(obs, "kept")
    assert memory == "kept"
    assert action.shape == (50, 2, 1)
    assert action.min() >= 0
    assert action.max() < 50
    for agent in range(2):  # what the other one sees changes nothing
        shuffled = obs.clone()
        shuffled[:, 1 - agent] = obs[:, 1 - agent].flip(0)
        assert torch.equal(informed_pair(shuffled)[0][:, agent], action[:, agent])
    assert torch.equal(action[..., 0] // 5, obs[..., 8:11].argmax(-1))


def test_an_agent_walks_to_what_was_named_and_stays():
    env = Reference(1)
    state = env.state_dict()
    place = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.5, 0.1], [0.0, -0.5], [0.01, 0.0]]).unsqueeze(0)
    moves = []
    for word in range(3):
        heard = torch.eye(10)[[word, (word + 1) % 3]].unsqueeze(0)
        step = env.load_state_dict(state | {"place": place, "heard": heard})
        moves.append((informed_pair(step.obs)[0][0, :, 0] % 5).tolist())
    assert moves == [[2, 3], [3, 0], [0, 2]]  # right, down, stay


def test_a_policy_of_the_batched_game_plays_the_original():
    env, original = Reference(20), Original(simple_reference_v3, range(20))
    obs, seen, total, there = env.reset(range(20)).obs, torch.as_tensor(original.obs), 0.0, 0.0
    for _ in range(HORIZON):
        step = env.step(informed_pair(obs)[0])
        obs, total = step.obs, total + step.reward.double().numpy()
        rows, reward, _, _ = original.step(informed_pair(seen)[0])
        seen, there = torch.as_tensor(rows), there + reward
    np.testing.assert_allclose(total, there, rtol=0, atol=1e-3)


def test_a_picture_shows_goals_words_and_trails():
    env = Reference(1)
    env.reset(0)
    state = env.state_dict()
    place = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]]).unsqueeze(0)
    # Agent 1 knows that agent 0 has to go to landmark 0, and agent 0 that agent 1 has to go to landmark 2.
    env.load_state_dict(state | {"place": place, "goal": torch.tensor([[2, 0]])})
    silent = env.render(0)
    assert (silent.shape, silent.dtype) == ((548, 480, 3), np.uint8)
    for color in LANDMARK_COLORS.values():
        assert count_pixels(silent, color) > 80
    left, middle, right = (silent[34:200, x : x + 160] for x in (0, 160, 320))
    first, second = AGENT_COLORS[1], AGENT_COLORS[2]
    assert count_pixels(left, first) > 100  # rings of the agents' colours
    assert count_pixels(right, second) > 100
    assert (
        count_pixels(left, second)
        == count_pixels(right, first)
        == count_pixels(middle, first)
        == count_pixels(middle, second)
        == 0
    )
    for _ in range(4):
        env.step(torch.tensor([[[4], [5 * 9 + 4]]]))
        picture = env.render(0)
    twin = Reference(1)
    twin.load_state_dict(env.state_dict())
    trail = (picture != twin.render(0)).any(-1)  # which was not there before
    for part in (trail[:, :240], trail[:, 240:]):
        assert np.ptp(part.nonzero()[0]) > 25
    said, others = [], []
    for word in (0, 1, 9):
        heard = torch.stack([torch.eye(10)[3], torch.eye(10)[word]]).unsqueeze(0)  # agent 1 heard agent 0
        twin.load_state_dict(state | {"place": place, "heard": heard})
        picture = twin.render(0)[280:400]
        said.append(picture[:, :200])
        others.append(picture[:, 280:])
        assert 10 < (said[-1] != silent[280:400, :200]).any(-1).sum() < 1500
    assert not np.array_equal(said[0], said[1])
    assert not np.array_equal(said[1], said[2])
    assert np.array_equal(others[0], others[1])
    assert not np.array_equal(others[0], silent[280:400, 280:])


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_from_0_to_1(share: float):
    with pytest.raises(UserError, match="local_ratio must be from 0 to 1"):
        Reference(1, local_ratio=share)
