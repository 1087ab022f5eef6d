"""Law 9: the batched reference game follows mpe2's `simple_reference_v3` step for step."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from mpe2 import simple_reference_v3
from torch import Tensor

from mappo.core.protocols import Environment, Renderable, Resumable
from mappo.core.timestep import TimeStep
from mappo.envs.batched.reference import Reference, informed_pair
from mappo.envs.batched.rendering import AGENT_COLORS, LANDMARK_COLORS
from mappo.errors import UserError

SEEDS = [0, 1, 7, 123, 9999, 2**31]
HORIZON = 25
NAMES = ("agent_0", "agent_1")


class Original:
    """mpe2's games, one for each seed, behind the batched interface."""

    def __init__(self, seeds: list[int], **options: Any) -> None:
        self.games = [simple_reference_v3.parallel_env(**options) for _ in seeds]
        self.obs = np.stack([self._row(g.reset(seed=s)[0]) for g, s in zip(self.games, seeds, strict=True)])

    def step(self, action: Tensor) -> tuple[np.ndarray, np.ndarray, bool, bool]:
        """Observations, rewards, terminated, truncated; the flags are the same in all games."""
        rows = []
        for game, choice in zip(self.games, action.squeeze(-1).tolist(), strict=True):
            results = game.step(dict(zip(NAMES, choice, strict=True)))
            rows.append([self._row(result) for result in results[:4]])
        obs, reward, terminated, truncated = (np.stack(x) for x in zip(*rows, strict=True))
        assert obs.dtype == np.float32
        assert truncated.all() or not truncated.any()
        return obs, reward, bool(terminated.any()), bool(truncated.all())

    def world(self, game: int) -> Any:
        return self.games[game].unwrapped.world

    def _row(self, by_name: dict[str, Any]) -> np.ndarray:
        return np.stack([by_name[name] for name in NAMES])


def actions(env: Reference, generator: torch.Generator) -> Tensor:
    return torch.randint(50, (env.num_envs, 2, 1), generator=generator)


def assert_follows(env: Reference, original: Original, act: Any, tolerance: float) -> None:
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


@pytest.mark.parametrize("local_ratio", [0.5, 0.2, 1.0, 0.0])
def test_an_episode_is_that_of_mpe2(local_ratio: float):
    env = Reference(50, local_ratio=local_ratio, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    env.reset(range(50))
    original = Original(list(range(50)), local_ratio=local_ratio)
    assert_follows(env, original, lambda _: actions(env, generator), 1e-9)


def test_an_episode_at_the_goals_is_that_of_mpe2():
    env = Reference(len(SEEDS), dtype=torch.float64)
    env.reset(SEEDS)
    assert_follows(env, Original(SEEDS), lambda obs: informed_pair(obs)[0], 1e-9)


def test_float32_stays_near():
    env, generator = Reference(len(SEEDS)), torch.Generator().manual_seed(0)
    env.reset(SEEDS)
    assert_follows(env, Original(SEEDS), lambda _: actions(env, generator), 1e-5)


def test_a_reset_from_a_seed_is_mpe2s_bit_for_bit():
    seeds = [*SEEDS, *range(100, 150)]
    env, original = Reference(len(seeds), dtype=torch.float64), Original(seeds)
    step = env.reset(seeds)
    assert np.array_equal(step.obs.numpy(), original.obs)
    state = env.state_dict()
    for game in range(len(seeds)):
        world = original.world(game)
        places = np.stack([entity.state.p_pos for entity in world.entities])
        assert np.array_equal(state["place"][game].numpy(), places)
        for agent in range(2):
            assert world.agents[agent].goal_b is world.landmarks[int(state["goal"][game, agent])]
            assert world.agents[agent].goal_a is world.agents[1 - agent]
    assert len(set(map(tuple, state["goal"].tolist()))) == 9


def test_the_joint_observation_is_mpe2s_state():
    env, original = Reference(len(SEEDS), dtype=torch.float64), Original(SEEDS)
    joint = env.reset(SEEDS).obs.flatten(1).numpy()
    assert np.array_equal(joint, np.stack([game.state() for game in original.games]))


def test_spaces_are_mpe2s():
    env, game = Reference(1), Original([0]).games[0]
    spec = env.spec
    assert spec.agents == tuple(game.possible_agents) == NAMES
    for name, space, heads in zip(spec.agents, spec.obs_spaces, spec.action_heads, strict=True):
        assert space == game.observation_space(name)
        assert heads.categorical == (game.action_space(name).n,)
        assert heads.shape == ()
    assert spec.groups == (0, 0)
    assert (spec.obs_shape, spec.heads, spec.action_dtype) == ((21,), (50,), torch.int64)
    assert isinstance(env, Environment)
    assert isinstance(env, Renderable)
    assert isinstance(env, Resumable)


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


def test_one_seed_stands_for_itself_and_those_that_follow():
    env = Reference(3)
    assert torch.equal(env.reset(5).obs, env.reset([5, 6, 7]).obs)


def assert_same(a: TimeStep, b: TimeStep) -> None:
    for name, x in vars(a).items():
        y = getattr(b, name)
        assert (x is None and y is None) or torch.equal(x, y), name


def test_a_seed_fixes_the_episodes_that_follow_too():
    a, b = Reference(2), Reference(2)
    b.step(torch.zeros(2, 2, 1, dtype=torch.long))
    assert_same(a.reset(3), b.reset(3))
    generator = torch.Generator().manual_seed(0)
    for _ in range(2 * HORIZON + 1):
        action = actions(a, generator)
        assert_same(a.step(action), b.step(action))


def test_without_a_seed_the_stream_goes_on():
    env = Reference(2)
    env.reset(3)
    obs = [env.reset().obs for _ in range(2)]
    assert not torch.equal(*obs)
    env.reset(3)
    assert torch.equal(env.reset().obs, obs[0])


def test_at_the_time_limit_next_obs_is_before_the_reset_and_obs_behind_it():
    env, twin = Reference(20, horizon=3), Reference(20, horizon=4)
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
            assert (step.obs != step.next_obs)[..., 2:8].all()
            assert (step.obs != step.next_obs)[..., 8:11].any()  # another goal, here and there
            assert step.is_first.all()
            assert step.ended.all()
            assert not step.obs[..., :2].any()  # they stand still at the start
        assert not step.terminated.any()
    after = env.step(actions(env, generator))
    assert not after.is_first.any()
    assert not after.ended.any()


def test_episodes_that_follow_start_evenly_spread_with_each_pair_of_goals_as_often():
    env = Reference(900, horizon=1)
    env.reset(0)
    env.step(torch.zeros(900, 2, 1, dtype=torch.long))
    place, goal = env.state_dict()["place"], env.state_dict()["goal"]
    assert place.min() >= -1
    assert place.max() < 1
    assert abs(place.mean()) < 0.05
    assert abs(place.var() - 1 / 3) < 0.02
    count = (goal[:, 0] * 3 + goal[:, 1]).bincount(minlength=9)
    assert count.shape == (9,)
    assert abs(count - 100).max() < 40  # 4 standard deviations


def test_saved_in_the_middle_of_an_episode_it_goes_on_bit_for_bit():
    env, other = Reference(3), Reference(3)
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
    env = Reference(2)
    env.reset(0)
    step = env.step(torch.ones(2, 2, 1, dtype=torch.long))
    before = {name: None if x is None else x.clone() for name, x in vars(step).items()}
    for _ in range(HORIZON):
        env.step(torch.ones(2, 2, 1, dtype=torch.long))
    for name, x in before.items():
        assert x is None or torch.equal(x, getattr(step, name)), name


def returns(policy: Any, games: int = 500) -> Tensor:
    """The team's, of each game."""
    env = Reference(games)
    obs, total = env.reset(0).obs, torch.zeros(games)
    for _ in range(HORIZON):
        step = env.step(policy(obs)[0])
        obs, total = step.obs, total + env.spec.team_reward(step.reward)
    return total


def test_the_informed_pair_is_far_better_than_one_that_does_not_listen():
    def deaf(obs: Tensor) -> tuple[Tensor, Any]:
        obs = obs.clone()
        obs[..., 11:] = 0
        return informed_pair(obs)

    informed = returns(informed_pair)
    assert informed.mean() > 0.6 * returns(deaf).mean()  # returns are negative: less than 0.6 of the cost
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

    assert returns(informed_pair).mean() > 1.02 * returns(search).mean()


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
    env, original = Reference(20), Original(list(range(20)))
    obs, seen, total, there = env.reset(range(20)).obs, torch.as_tensor(original.obs), 0.0, 0.0
    for _ in range(HORIZON):
        step = env.step(informed_pair(obs)[0])
        obs, total = step.obs, total + step.reward.double().numpy()
        rows, reward, _, _ = original.step(informed_pair(seen)[0])
        seen, there = torch.as_tensor(rows), there + reward
    np.testing.assert_allclose(total, there, rtol=0, atol=1e-3)


def count(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((abs(picture.astype(int) - color).max(-1) <= 8).sum())


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
        assert count(silent, color) > 80
    left, middle, right = (silent[34:200, x : x + 160] for x in (0, 160, 320))
    first, second = AGENT_COLORS[1], AGENT_COLORS[2]
    assert count(left, first) > 100  # rings of the agents' colours
    assert count(right, second) > 100
    assert count(left, second) == count(right, first) == count(middle, first) == count(middle, second) == 0
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


@pytest.mark.parametrize("shape", [(2, 2), (3, 2, 1), (2, 1, 1), (2, 2, 2)])
def test_actions_of_a_wrong_shape_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"reference: actions must be \(2, 2, 1\), got \("):
        Reference(2).step(torch.zeros(shape, dtype=torch.long))


def test_a_wrong_number_of_seeds_is_refused():
    with pytest.raises(ValueError, match="reference: 3 seeds for 2 environments"):
        Reference(2).reset([1, 2, 3])


@pytest.mark.parametrize("sizes", [(0, 25), (2, 0)])
def test_there_must_be_something_to_play(sizes: tuple[int, int]):
    with pytest.raises(UserError, match="reference needs at least one environment and step"):
        Reference(*sizes)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_from_0_to_1(share: float):
    with pytest.raises(UserError, match="local_ratio must be from 0 to 1"):
        Reference(1, local_ratio=share)
