"""Law 9: the batched speaker and listener follow mpe2's `simple_speaker_listener_v4` in words, goals and rewards.

What they share with their twins is in `test_mpe_twins.py`.
"""

from typing import Any

import numpy as np
import torch
from mpe2 import simple_speaker_listener_v4
from torch import Tensor

from mappo.envs.batched.rendering import LANDMARK_COLORS, LISTENER
from mappo.envs.batched.speaker_listener import SpeakerListener, informed_pair
from mpe_original import SEEDS, Original, assert_follows, count_pixels, team_returns


def test_an_episode_at_the_goal_is_that_of_mpe2():
    env = SpeakerListener(len(SEEDS), dtype=torch.float64)
    env.reset(SEEDS)
    assert_follows(env, Original(simple_speaker_listener_v4, SEEDS), lambda obs: informed_pair(obs)[0], 1e-9)


def test_the_padded_layout_masks_the_choices_that_the_speaker_lacks():
    spec = SpeakerListener(1).spec
    assert spec.groups == (0, 1)
    assert (spec.obs_shape, spec.heads, spec.action_dtype) == ((11,), (5,), torch.int64)
    assert spec.static_mask_tensor.tolist() == [[True] * 3 + [False] * 2, [True] * 5]


def test_the_reward_is_one_number_for_both_and_the_teams():
    env = SpeakerListener(4)
    env.reset(0)
    step = env.step(torch.ones(4, 2, 1, dtype=torch.long))
    assert step.reward.shape == (4, 2)
    assert torch.equal(step.reward[:, 0], step.reward[:, 1])
    assert torch.equal(env.spec.team_reward(step.reward), step.reward[:, 0])


def test_a_word_is_heard_in_the_next_observation_and_until_the_next_word():
    env = SpeakerListener(5, horizon=3)
    assert not env.reset(0).obs[:, 1, 8:].any()
    words = torch.tensor([0, 1, 2, 3, 4])  # the last two are choices of the padded layout, which no speaker has
    say = torch.stack([words, torch.zeros_like(words)], 1).unsqueeze(-1)
    heard = env.step(say).obs[:, 1, 8:]
    assert torch.equal(heard, torch.eye(5, 3))
    assert torch.equal(env.step(say.roll(1, 0)).obs[:, 1, 8:], torch.eye(5, 3).roll(1, 0))
    last = env.step(say)
    assert torch.equal(last.next_obs[:, 1, 8:], torch.eye(5, 3))
    assert not last.obs[:, 1, 8:].any()  # a new episode


def test_the_informed_pair_is_far_better_than_one_that_does_not_listen():
    def deaf(obs: Tensor) -> tuple[Tensor, Any]:
        obs = obs.clone()
        obs[:, 1, 8:] = 0
        return informed_pair(obs)

    env = SpeakerListener(500)
    informed = team_returns(env, informed_pair)
    assert informed.mean() > 0.6 * team_returns(env, deaf).mean()  # returns are negative: less than 0.6 of the cost
    assert -8.5 < informed.mean() < -6.5


def test_the_informed_pair_acts_on_its_own_observations_alone():
    obs = SpeakerListener(50).reset(0).obs
    obs[:, 1, 8:] = torch.eye(3)[torch.arange(50) % 3]
    action, memory = informed_pair(obs, "kept")
    assert memory == "kept"
    assert action.shape == (50, 2, 1)
    assert action.min() >= 0
    assert action[:, 0].max() < 3
    assert action[:, 1].max() < 5
    # What the other one sees changes nothing.
    shuffled = torch.stack([obs[:, 0], obs[:, 1].flip(0)], 1)
    assert torch.equal(informed_pair(shuffled)[0][:, 0], action[:, 0])
    shuffled = torch.stack([obs[:, 0].flip(0), obs[:, 1]], 1)
    assert torch.equal(informed_pair(shuffled)[0][:, 1], action[:, 1])
    assert torch.equal(action[:, 0, 0], obs[:, 0, :3].argmax(-1))


def test_the_listener_walks_to_what_was_named_and_stays():
    env = SpeakerListener(1)
    state = env.state_dict()
    place = torch.tensor([[0.9, 0.9], [0.0, 0.0], [0.5, 0.1], [0.0, -0.5], [0.01, 0.0]]).unsqueeze(0)
    moves = []
    for word in range(3):
        step = env.load_state_dict(state | {"place": place, "heard": torch.eye(3)[[word]]})
        moves.append(int(informed_pair(step.obs)[0][0, 1]))
    assert moves == [2, 3, 0]  # right, down, stay


def test_a_picture_shows_goal_word_and_trail():
    env = SpeakerListener(1)
    env.reset(0)
    state = env.state_dict()
    place = torch.tensor([[-1.0, 1.0], [0.0, -1.0], [1.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]).unsqueeze(0)
    env.load_state_dict(state | {"place": place, "goal": torch.tensor([1])})
    silent = env.render(0)
    assert (silent.shape, silent.dtype) == ((548, 480, 3), np.uint8)
    red, green, blue = (count_pixels(silent, color) for color in LANDMARK_COLORS.values())
    assert green > 1.5 * red > 100  # the ring around the goal
    assert abs(red - blue) < 20
    for _ in range(6):
        env.step(torch.tensor([[[2], [4]]]))
        picture = env.render(0)
    twin = SpeakerListener(1)
    twin.load_state_dict(env.state_dict())
    trail = (picture != twin.render(0)).any(-1)  # which was not there before
    rows, columns = trail.nonzero()
    assert abs(columns.mean() - 240) < 2
    assert rows.max() > 380 > rows.min() + 30
    words = []
    for word in range(3):
        twin.load_state_dict(state | {"place": place, "heard": torch.eye(3)[[word]]})
        words.append(twin.render(0)[34:120, :180])  # around the speaker
        changed = (words[-1] != silent[34:120, :180]).any(-1)
        assert 10 < changed.sum() < 500
    assert not np.array_equal(words[0], words[1])
    assert not np.array_equal(words[1], words[2])


def test_a_listener_far_outside_is_drawn_at_the_border():
    env = SpeakerListener(1)
    state = env.state_dict()
    place = torch.tensor([[0.0, 1.0], [40.0, -30.0], [-1.0, -1.0], [1.0, -1.0], [0.0, 0.0]]).unsqueeze(0)
    env.load_state_dict(state | {"place": place})
    far = env.render(0)
    assert count_pixels(far[274:, 240:], LISTENER) == count_pixels(far, LISTENER) > 50
