"""Law 9: the batched spread follows mpe2's `simple_spread_v3` step for step."""

from typing import Any

import numpy as np
import pytest
import torch
from mpe2 import simple_spread_v3
from torch import Tensor

from mappo.core.protocols import Environment, Resumable
from mappo.core.timestep import TimeStep
from mappo.envs.batched.spread import AGENT_RADIUS, Spread, central_planner
from mappo.errors import UserError
from mappo.functional.distributions import sample_heads

SEEDS = [0, 1, 7, 123]
HORIZON = 25


class Original:
    """mpe2's games, one for each seed, behind the batched interface."""

    def __init__(self, agents: int, seeds: list[int], **options: Any) -> None:
        self.games = [simple_spread_v3.parallel_env(N=agents, **options) for _ in seeds]
        self.names = [f"agent_{i}" for i in range(agents)]
        self.obs = np.stack([self._row(g.reset(seed=s)[0]) for g, s in zip(self.games, seeds, strict=True)])

    def step(self, action: Tensor) -> tuple[np.ndarray, np.ndarray, bool, bool]:
        """Observations, rewards, terminated, truncated; the flags are the same in all games."""
        rows = []
        for game, choice in zip(self.games, action.squeeze(-1).tolist(), strict=True):
            results = game.step(dict(zip(self.names, choice, strict=True)))
            rows.append([self._row(result) for result in results[:4]])
        obs, reward, terminated, truncated = (np.stack(x) for x in zip(*rows, strict=True))
        assert truncated.all() or not truncated.any()
        return obs, reward, bool(terminated.any()), bool(truncated.all())

    def world(self, game: int) -> Any:
        return self.games[game].unwrapped.world

    def _row(self, by_name: dict[str, Any]) -> np.ndarray:
        return np.stack([by_name[name] for name in self.names])


def actions(env: Spread, generator: torch.Generator) -> Tensor:
    return torch.randint(5, (env.num_envs, env.num_agents, 1), generator=generator)


def overlaps(env: Spread) -> int:
    """Pairs of agents that touch now."""
    place = env.state_dict()["place"][:, : env.num_agents].double()
    apart = torch.cdist(place, place) + 10 * torch.eye(env.num_agents, dtype=torch.float64)
    return int((apart < 2 * AGENT_RADIUS).sum()) // 2


def squeeze(env: Spread, original: Original, factor: float) -> None:
    """Moves everything towards the middle, in both, so that agents overlap."""
    state = env.state_dict()
    env.load_state_dict(state | {"place": state["place"] * factor})
    for game in range(env.num_envs):
        for entity in original.world(game).entities:
            entity.state.p_pos = entity.state.p_pos * factor


def assert_follows(env: Spread, original: Original, tolerance: float) -> int:
    """One episode of random actions in both. Gives the number of overlaps on the way."""
    generator, touches = torch.Generator().manual_seed(0), overlaps(env)
    for t in range(1, HORIZON + 1):
        action = actions(env, generator)
        step = env.step(action)
        obs, reward, terminated, truncated = original.step(action)
        np.testing.assert_allclose(step.reward.numpy(), reward, rtol=0, atol=tolerance)
        np.testing.assert_allclose(step.next_obs.numpy(), obs, rtol=0, atol=max(tolerance, 1e-6))
        assert not terminated
        assert not step.terminated.any()
        assert truncated == bool(step.ended.all()) == bool(step.ended.any()) == (t == HORIZON)
        touches += 0 if truncated else overlaps(env)
    return touches


@pytest.mark.parametrize("agents", [2, 3, 5])
def test_an_episode_is_that_of_mpe2(agents: int):
    env = Spread(len(SEEDS), agents, dtype=torch.float64)
    env.reset(SEEDS)
    assert_follows(env, Original(agents, SEEDS), 1e-6)


@pytest.mark.parametrize("agents", [2, 3, 5])
def test_contacts_are_those_of_mpe2(agents: int):
    env, original = Spread(len(SEEDS), agents, dtype=torch.float64), Original(agents, SEEDS)
    env.reset(SEEDS)
    squeeze(env, original, 0.15)
    touches = assert_follows(env, original, 1e-6)
    assert touches >= 2 * agents  # or this test would test nothing


def test_the_share_of_own_collisions_is_that_of_mpe2():
    env, original = Spread(4, 3, local_ratio=0.2, dtype=torch.float64), Original(3, SEEDS, local_ratio=0.2)
    env.reset(SEEDS)
    squeeze(env, original, 0.15)
    assert_follows(env, original, 1e-6)


@pytest.mark.parametrize("factor", [1.0, 0.15])
def test_float32_stays_near(factor: float):
    env, original = Spread(len(SEEDS), 3), Original(3, SEEDS)
    env.reset(SEEDS)
    squeeze(env, original, factor)
    assert_follows(env, original, 1e-3)


@pytest.mark.parametrize("agents", [2, 3, 5])
def test_a_reset_from_a_seed_is_mpe2s_bit_for_bit(agents: int):
    env, original = Spread(len(SEEDS), agents, dtype=torch.float64), Original(agents, SEEDS)
    step = env.reset(SEEDS)
    assert np.array_equal(step.obs.numpy(), original.obs)
    for game in range(len(SEEDS)):
        places = np.stack([entity.state.p_pos for entity in original.world(game).entities])
        assert np.array_equal(env.state_dict()["place"][game].numpy(), places)


def test_the_joint_observation_is_mpe2s_state():
    env, original = Spread(len(SEEDS), 3, dtype=torch.float64), Original(3, SEEDS)
    joint = env.reset(SEEDS).obs.flatten(1).numpy()
    assert np.array_equal(joint, np.stack([game.state() for game in original.games]))


def test_spaces_are_mpe2s():
    env, original = Spread(1, 5), Original(5, [0])
    game = original.games[0]
    assert env.spec.agents == tuple(game.possible_agents)
    for name, space, heads in zip(env.spec.agents, env.spec.obs_spaces, env.spec.action_heads, strict=True):
        assert space == game.observation_space(name)
        assert heads.categorical == (game.action_space(name).n,)
    assert isinstance(env, Environment)
    assert isinstance(env, Resumable)


def test_one_seed_stands_for_itself_and_those_that_follow():
    env = Spread(3)
    assert torch.equal(env.reset(5).obs, env.reset([5, 6, 7]).obs)


def assert_same(a: TimeStep, b: TimeStep) -> None:
    for name, x in vars(a).items():
        y = getattr(b, name)
        assert (x is None and y is None) or torch.equal(x, y), name


def test_a_seed_fixes_the_episodes_that_follow_too():
    a, b = Spread(2), Spread(2)
    b.step(torch.zeros(2, 3, 1, dtype=torch.long))
    assert_same(a.reset(3), b.reset(3))
    generator = torch.Generator().manual_seed(0)
    for _ in range(2 * HORIZON + 1):
        action = actions(a, generator)
        assert_same(a.step(action), b.step(action))


def test_at_the_time_limit_next_obs_is_before_the_reset_and_obs_behind_it():
    env, twin = Spread(2, horizon=3), Spread(2, horizon=4)
    first = env.reset(0)
    twin.reset(0)
    assert first.is_first.all()
    assert torch.equal(first.obs, first.next_obs)
    generator = torch.Generator().manual_seed(1)
    for t in range(1, 4):
        action = actions(env, generator)
        step, on = env.step(action), twin.step(action)
        assert torch.equal(step.next_obs, on.next_obs)  # the twin's episode is longer by one
        if t < 3:
            assert torch.equal(step.obs, step.next_obs)
            assert not step.is_first.any()
            assert not step.ended.any()
        else:
            assert (step.obs != step.next_obs).any(-1).all()
            assert step.is_first.all()
            assert step.ended.all()
            assert not step.obs[..., :2].any()  # all stand still at the start
        assert not step.terminated.any()
    after = env.step(actions(env, generator))
    assert not after.is_first.any()
    assert not after.ended.any()


def test_episodes_that_follow_start_evenly_spread_over_the_square():
    env = Spread(500, 3, horizon=1)
    env.reset(0)
    env.step(torch.zeros(500, 3, 1, dtype=torch.long))
    place = env.state_dict()["place"]
    assert place.min() >= -1
    assert place.max() < 1
    assert abs(place.mean()) < 0.05
    assert abs(place.var() - 1 / 3) < 0.02


def test_saved_in_the_middle_of_an_episode_it_goes_on_bit_for_bit():
    env, other = Spread(3), Spread(3)
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
    env = Spread(2)
    step = env.reset(0)
    before = {name: None if x is None else x.clone() for name, x in vars(step).items()}
    for _ in range(HORIZON):
        env.step(torch.ones(2, 3, 1, dtype=torch.long))
    for name, x in before.items():
        assert x is None or torch.equal(x, getattr(step, name)), name


def episode_returns(policy: Any, agents: int, games: int = 200) -> Tensor:
    """Sum over agents and steps, of each game."""
    env = Spread(games, agents)
    obs, total = env.reset(0).obs, torch.zeros(games)
    for _ in range(HORIZON):
        action, _ = policy(obs)
        assert action.shape == (games, agents, 1)
        assert action.min() >= 0
        assert action.max() < 5
        step = env.step(action)
        obs, total = step.obs, total + step.reward.sum(-1)
    return total


@pytest.mark.parametrize("agents", [2, 3, 5])
def test_the_planner_is_far_better_than_chance(agents: int):
    def at_random(obs: Tensor) -> tuple[Tensor, None]:
        noise = torch.rand(*obs.shape[:2], 1)
        return sample_heads(torch.zeros(*obs.shape[:2], 5), noise, (5,))[0], None

    planned, chance = episode_returns(central_planner, agents), episode_returns(at_random, agents)
    assert planned.mean() > 0.4 * chance.mean()  # returns are negative: less than 0.4 of the cost
    assert (planned > chance).float().mean() > 0.9


def test_the_planner_takes_the_assignment_of_least_distance():
    # Agent 0 is nearer to both landmarks, yet leaves the near one to agent 1.
    agents, landmarks = torch.tensor([[0.0, 0.0], [-1.0, 0.0]]), torch.tensor([[0.1, 0.0], [0.5, 0.0]])
    env = Spread(1, 2)
    state = env.state_dict()
    step = env.load_state_dict(state | {"place": torch.cat([agents, landmarks]).unsqueeze(0)})
    action, memory = central_planner(step.obs, "kept")
    assert action.squeeze().tolist() == [2, 2]  # both to the right
    assert memory == "kept"
    at_goal = env.load_state_dict(state | {"place": torch.cat([landmarks, landmarks]).unsqueeze(0)})
    assert central_planner(at_goal.obs)[0].squeeze().tolist() == [0, 0]


def in_both_conventions(agents: int, games: int, spread: float) -> tuple[Spread, Spread]:
    """Games of mpe2's and of the paper's conventions, from one state in which agents move."""
    envs = [Spread(games, agents, dtype=torch.float64, conventions=name) for name in ("mpe2", "paper")]  # type: ignore
    generator = torch.Generator().manual_seed(3)
    place = torch.rand(games, 2 * agents, 2, generator=generator, dtype=torch.float64) * 2 * spread - spread
    velocity = torch.randn(games, agents, 2, generator=generator, dtype=torch.float64)
    for env in envs:
        env.load_state_dict(env.state_dict() | {"place": place, "velocity": velocity})
    return envs[0], envs[1]


@pytest.mark.parametrize("agents", [1, 3, 4])
def test_one_step_of_the_papers_conventions_is_that_of_numpy(agents: int):
    games = 50
    _, env = in_both_conventions(agents, games, 0.3)
    state = {name: x.numpy() for name, x in env.state_dict().items() if name in ("place", "velocity")}
    action = actions(env, torch.Generator().manual_seed(4))
    step = env.step(action)
    touches = 0
    for game in range(games):
        place, velocity = state["place"][game, :agents].copy(), state["velocity"][game].copy()
        landmarks = state["place"][game, agents:]
        force = np.array([[0, 0], [-5, 0], [5, 0], [0, -5], [0, 5]], dtype=float)[action[game, :, 0].numpy()]
        for i in range(agents):
            for j in range(agents):
                if i != j:
                    apart = np.linalg.norm(place[i] - place[j])
                    depth = 1e-3 * np.logaddexp(0, -(apart - 0.3) / 1e-3)
                    force[i] += 100 * (place[i] - place[j]) / apart * depth
        velocity = 0.75 * velocity + 0.1 * force
        place += 0.1 * velocity
        reward = 0.0
        for i in range(agents):
            reward -= sum(min(np.linalg.norm(agent - landmark) for agent in place) for landmark in landmarks)
            bumps = sum(np.linalg.norm(place[i] - other) < 0.3 for other in place)  # itself too
            touches += bumps - 1
            reward -= bumps
        np.testing.assert_allclose(step.reward[game].numpy(), [reward] * agents, rtol=0, atol=1e-9)
        np.testing.assert_allclose(env.state_dict()["place"][game, :agents].numpy(), place, rtol=0, atol=1e-9)
        np.testing.assert_allclose(step.next_obs[game, :, :2].numpy(), velocity, rtol=0, atol=1e-6)
    assert agents == 1 or touches >= 50  # or this test would test little


def test_on_one_state_the_papers_reward_is_what_mpe2s_agents_share_and_a_constant():
    # mpe2's agents sum to half of (N g - 2 pairs), g the common distance; the paper's is N g - 2 pairs - N.
    mpe2, paper = in_both_conventions(3, 200, 0.5)
    for env in (mpe2, paper):
        state = env.state_dict()
        still = {"velocity": torch.zeros_like(state["velocity"])}
        far = state["place"] * torch.tensor([1.0] * 3 + [9.0] * 3, dtype=torch.float64).unsqueeze(-1)
        env.load_state_dict(state | still | {"place": far})
    # Forces move only the paper's agents at once: put mpe2's where those are, and let them stand for one step.
    stay = torch.zeros(200, 3, 1, dtype=torch.long)
    reward = paper.step(stay).reward
    pairs = ((paper._apart < 2 * AGENT_RADIUS).sum((1, 2)) / 2).double()
    here = paper.state_dict()["place"]
    mpe2.load_state_dict(mpe2.state_dict() | {"place": here, "velocity": torch.zeros(200, 3, 2)})
    own = mpe2.step(stay).reward
    assert torch.equal(mpe2.state_dict()["place"], here)
    assert pairs.sum() > 20
    common = -mpe2._to_goal.amin(1).sum(-1)
    torch.testing.assert_close(reward[:, 0], 3 * common - 2 * pairs - 3, rtol=0, atol=1e-9)
    torch.testing.assert_close(reward[:, 0], 2 * own.sum(-1) - 3, rtol=0, atol=1e-9)
    assert torch.equal(paper.spec.team_reward(reward), reward[:, 0])
    assert paper.spec.shared_reward
    assert not mpe2.spec.shared_reward
    assert torch.equal(reward, reward[:, :1].expand(-1, 3))


def test_in_the_papers_conventions_a_move_is_seen_at_once():
    mpe2, paper = (Spread(1, 1, conventions=name) for name in ("mpe2", "paper"))  # type: ignore
    right = torch.full((1, 1, 1), 2)
    x = []
    for env in (mpe2, paper):
        env.load_state_dict(env.state_dict() | {"place": torch.zeros(1, 2, 2)})
        x.append([float(env.step(right).obs[0, 0, 2]) for _ in range(2)])
    assert x[0] == pytest.approx([0.0, 0.05])
    assert x[1] == pytest.approx([0.05, 0.05 + 0.0875])


def test_the_papers_landmarks_lie_within_four_fifths():
    paper, mpe2 = Spread(500, horizon=1, conventions="paper"), Spread(500)
    mpe2.reset(0)
    paper.reset(0)
    scale = torch.tensor([1.0] * 3 + [0.8] * 3).unsqueeze(-1)
    torch.testing.assert_close(paper.state_dict()["place"], mpe2.state_dict()["place"] * scale)
    paper.step(torch.zeros(500, 3, 1, dtype=torch.long))
    agents, landmarks = paper.state_dict()["place"].split(3, 1)
    assert 0.99 < agents.abs().max() <= 1
    assert 0.79 < landmarks.abs().max() <= 0.8


def test_there_are_two_conventions():
    with pytest.raises(UserError, match="spread has the conventions 'mpe2' and 'paper', got 'mpe'"):
        Spread(1, conventions="mpe")  # type: ignore


@pytest.mark.parametrize("shape", [(2, 3), (2, 2, 1), (1, 3, 1), (2, 3, 2)])
def test_actions_of_a_wrong_shape_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"spread: actions must be \(2, 3, 1\), got \("):
        Spread(2).step(torch.zeros(shape, dtype=torch.long))


def test_a_wrong_number_of_seeds_is_refused():
    with pytest.raises(ValueError, match="spread: 3 seeds for 2 environments"):
        Spread(2).reset([1, 2, 3])


@pytest.mark.parametrize("sizes", [(0, 3, 25), (2, 0, 25), (2, 3, 0)])
def test_there_must_be_someone_to_play(sizes: tuple[int, int, int]):
    with pytest.raises(UserError, match="spread needs at least one environment, agent and step"):
        Spread(*sizes)
