"""Law 9: the batched speaker and listener follow mpe2's `simple_speaker_listener_v4` step for step."""

from typing import Any

import numpy as np
import pytest
import torch
from mpe2 import simple_speaker_listener_v4
from torch import Tensor

from mappo.core.protocols import Environment, Renderable, Resumable
from mappo.core.timestep import TimeStep
from mappo.envs.batched.rendering import LANDMARK_COLORS, LISTENER
from mappo.envs.batched.speaker_listener import SpeakerListener, informed_pair
from mappo.errors import UserError

SEEDS = [0, 1, 7, 123, 9999, 2**31]
HORIZON = 25
NAMES = ("speaker_0", "listener_0")


class Original:
    """mpe2's games, one for each seed, behind the batched interface: speakers' rows are padded with zeros."""

    def __init__(self, seeds: list[int]) -> None:
        self.games = [simple_speaker_listener_v4.parallel_env() for _ in seeds]
        self.obs = np.stack([self._padded(g.reset(seed=s)[0]) for g, s in zip(self.games, seeds, strict=True)])

    def step(self, action: Tensor) -> tuple[np.ndarray, np.ndarray, bool, bool]:
        """Observations, rewards, terminated, truncated; the flags are the same in all games."""
        rows = []
        for game, choice in zip(self.games, action.squeeze(-1).tolist(), strict=True):
            obs, *rest = game.step(dict(zip(NAMES, choice, strict=True)))
            rows.append([self._padded(obs), *(np.stack([by_name[name] for name in NAMES]) for by_name in rest[:3])])
        obs, reward, terminated, truncated = (np.stack(x) for x in zip(*rows, strict=True))
        assert truncated.all() or not truncated.any()
        return obs, reward, bool(terminated.any()), bool(truncated.all())

    def world(self, game: int) -> Any:
        return self.games[game].unwrapped.world

    def _padded(self, by_name: dict[str, np.ndarray]) -> np.ndarray:
        assert all(x.dtype == np.float32 for x in by_name.values())
        return np.stack([np.pad(by_name[name], (0, 11 - len(by_name[name]))) for name in NAMES])


def actions(env: SpeakerListener, generator: torch.Generator) -> Tensor:
    choices = [torch.randint(n, (env.num_envs,), generator=generator) for n in (3, 5)]
    return torch.stack(choices, 1).unsqueeze(-1)


def assert_follows(env: SpeakerListener, original: Original, act: Any, tolerance: float) -> None:
    """One episode in both."""
    seen = torch.as_tensor(original.obs)
    for t in range(1, HORIZON + 1):
        action = act(seen)
        step = env.step(action)
        obs, reward, terminated, truncated = original.step(action)
        seen = torch.as_tensor(obs)
        np.testing.assert_allclose(step.reward.numpy(), reward, rtol=0, atol=tolerance)
        np.testing.assert_allclose(step.next_obs.numpy(), obs, rtol=0, atol=max(tolerance, 1e-6))
        assert not terminated
        assert not step.terminated.any()
        assert truncated == bool(step.ended.all()) == bool(step.ended.any()) == (t == HORIZON)


def test_an_episode_is_that_of_mpe2():
    env, generator = SpeakerListener(100, dtype=torch.float64), torch.Generator().manual_seed(0)
    env.reset(range(100))
    assert_follows(env, Original(list(range(100))), lambda _: actions(env, generator), 1e-9)


def test_an_episode_at_the_goal_is_that_of_mpe2():
    env = SpeakerListener(len(SEEDS), dtype=torch.float64)
    env.reset(SEEDS)
    assert_follows(env, Original(SEEDS), lambda obs: informed_pair(obs)[0], 1e-9)


def test_float32_stays_near():
    env, generator = SpeakerListener(len(SEEDS)), torch.Generator().manual_seed(0)
    env.reset(SEEDS)
    assert_follows(env, Original(SEEDS), lambda _: actions(env, generator), 1e-4)


def test_a_reset_from_a_seed_is_mpe2s_bit_for_bit():
    env, original = SpeakerListener(len(SEEDS), dtype=torch.float64), Original(SEEDS)
    step = env.reset(SEEDS)
    assert np.array_equal(step.obs.numpy(), original.obs)
    for game in range(len(SEEDS)):
        world, state = original.world(game), env.state_dict()
        places = np.stack([entity.state.p_pos for entity in world.entities])
        assert np.array_equal(state["place"][game].numpy(), places)
        assert world.agents[0].goal_b is world.landmarks[int(state["goal"][game])]
    assert len(set(env.state_dict()["goal"].tolist())) == 3


def test_the_joint_observation_without_the_padding_is_mpe2s_state():
    env, original = SpeakerListener(len(SEEDS), dtype=torch.float64), Original(SEEDS)
    obs = env.reset(SEEDS).obs
    joint = torch.cat([obs[:, agent, : env.spec.obs_size(agent)] for agent in range(2)], -1).numpy()
    assert np.array_equal(joint, np.stack([game.state() for game in original.games]))
    assert not obs[:, 0, 3:].any()


def test_spaces_are_mpe2s():
    env, game = SpeakerListener(1), Original([0]).games[0]
    spec = env.spec
    assert spec.agents == tuple(game.possible_agents) == NAMES
    for name, space, heads in zip(spec.agents, spec.obs_spaces, spec.action_heads, strict=True):
        assert space == game.observation_space(name)
        assert heads.categorical == (game.action_space(name).n,)
    assert spec.groups == (0, 1)
    assert (spec.obs_shape, spec.heads, spec.action_dtype) == ((11,), (5,), torch.int64)
    assert spec.static_mask_tensor.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert isinstance(env, Environment)
    assert isinstance(env, Renderable)
    assert isinstance(env, Resumable)


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


def test_one_seed_stands_for_itself_and_those_that_follow():
    env = SpeakerListener(3)
    assert torch.equal(env.reset(5).obs, env.reset([5, 6, 7]).obs)


def assert_same(a: TimeStep, b: TimeStep) -> None:
    for name, x in vars(a).items():
        y = getattr(b, name)
        assert (x is None and y is None) or torch.equal(x, y), name


def test_a_seed_fixes_the_episodes_that_follow_too():
    a, b = SpeakerListener(2), SpeakerListener(2)
    b.step(torch.zeros(2, 2, 1, dtype=torch.long))
    assert_same(a.reset(3), b.reset(3))
    generator = torch.Generator().manual_seed(0)
    for _ in range(2 * HORIZON + 1):
        action = actions(a, generator)
        assert_same(a.step(action), b.step(action))


def test_at_the_time_limit_next_obs_is_before_the_reset_and_obs_behind_it():
    env, twin = SpeakerListener(20, horizon=3), SpeakerListener(20, horizon=4)
    first = env.reset(0)
    twin.reset(0)
    assert first.is_first.all()
    assert torch.equal(first.obs, first.next_obs)
    generator = torch.Generator().manual_seed(1)
    for t in range(1, 4):
        action = actions(env, generator)
        step, on = env.step(action), twin.step(action)
        assert torch.equal(step.next_obs, on.next_obs)  # the twin's episode is longer by one
        assert torch.equal(step.reward, on.reward)
        if t < 3:
            assert torch.equal(step.obs, step.next_obs)
            assert not step.is_first.any()
            assert not step.ended.any()
        else:
            assert (step.obs[:, 1] != step.next_obs[:, 1]).any(-1).all()
            assert (step.obs[:, 0] != step.next_obs[:, 0]).any()  # another goal, here and there
            assert step.is_first.all()
            assert step.ended.all()
            assert not step.obs[:, 1, :2].any()  # it stands still at the start
        assert not step.terminated.any()
    after = env.step(actions(env, generator))
    assert not after.is_first.any()
    assert not after.ended.any()


def test_episodes_that_follow_start_evenly_spread_with_each_goal_as_often():
    env = SpeakerListener(900, horizon=1)
    env.reset(0)
    env.step(torch.zeros(900, 2, 1, dtype=torch.long))
    place, goal = env.state_dict()["place"], env.state_dict()["goal"]
    assert place.min() >= -1
    assert place.max() < 1
    assert abs(place.mean()) < 0.05
    assert abs(place.var() - 1 / 3) < 0.02
    assert goal.bincount(minlength=3).shape == (3,)
    assert abs(goal.bincount(minlength=3) - 300).max() < 60  # 4 standard deviations


def test_saved_in_the_middle_of_an_episode_it_goes_on_bit_for_bit():
    env, other = SpeakerListener(3), SpeakerListener(3)
    env.reset(0)
    generator = torch.Generator().manual_seed(2)
    for _ in range(10):
        last = env.step(actions(env, generator))
    state = {name: x.clone() for name, x in env.state_dict().items()}
    present = other.load_state_dict(state)
    assert torch.equal(present.obs, last.obs)
    assert torch.equal(present.is_first, last.is_first)
    assert not present.reward.any()
    for _ in range(2 * HORIZON):  # over two resets
        action = actions(env, generator)
        assert_same(env.step(action), other.step(action))


def test_what_a_step_gave_is_not_overwritten_by_the_next():
    env = SpeakerListener(2)
    env.reset(0)
    step = env.step(torch.ones(2, 2, 1, dtype=torch.long))
    before = {name: None if x is None else x.clone() for name, x in vars(step).items()}
    for _ in range(HORIZON):
        env.step(torch.ones(2, 2, 1, dtype=torch.long))
    for name, x in before.items():
        assert x is None or torch.equal(x, getattr(step, name)), name


def returns(policy: Any, games: int = 500) -> Tensor:
    """The team's, of each game."""
    env = SpeakerListener(games)
    obs, total = env.reset(0).obs, torch.zeros(games)
    for _ in range(HORIZON):
        step = env.step(policy(obs)[0])
        obs, total = step.obs, total + env.spec.team_reward(step.reward)
    return total


def test_the_informed_pair_is_far_better_than_one_that_does_not_listen():
    def deaf(obs: Tensor) -> tuple[Tensor, Any]:
        obs = obs.clone()
        obs[:, 1, 8:] = 0
        return informed_pair(obs)

    informed = returns(informed_pair)
    assert informed.mean() > 0.6 * returns(deaf).mean()  # returns are negative: less than 0.6 of the cost
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


def count(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((abs(picture.astype(int) - color).max(-1) <= 8).sum())


def test_a_picture_shows_goal_word_and_trail():
    env = SpeakerListener(1)
    env.reset(0)
    state = env.state_dict()
    place = torch.tensor([[-1.0, 1.0], [0.0, -1.0], [1.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]).unsqueeze(0)
    env.load_state_dict(state | {"place": place, "goal": torch.tensor([1])})
    silent = env.render(0)
    assert (silent.shape, silent.dtype) == ((548, 480, 3), np.uint8)
    red, green, blue = (count(silent, color) for color in LANDMARK_COLORS.values())
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
    assert count(far[274:, 240:], LISTENER) == count(far, LISTENER) > 50


@pytest.mark.parametrize("shape", [(2, 2), (3, 2, 1), (2, 1, 1), (2, 2, 2)])
def test_actions_of_a_wrong_shape_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"speaker_listener: actions must be \(2, 2, 1\), got \("):
        SpeakerListener(2).step(torch.zeros(shape, dtype=torch.long))


def test_a_wrong_number_of_seeds_is_refused():
    with pytest.raises(ValueError, match="speaker_listener: 3 seeds for 2 environments"):
        SpeakerListener(2).reset([1, 2, 3])


@pytest.mark.parametrize("sizes", [(0, 25), (2, 0)])
def test_there_must_be_something_to_play(sizes: tuple[int, int]):
    with pytest.raises(UserError, match="speaker_listener needs at least one environment and step"):
        SpeakerListener(*sizes)
