"""Law 9: the batched spread follows mpe2's `simple_spread_v3` in contacts and rewards, and the paper's code.

What it shares with its twins is in `test_mpe_twins.py`.
"""

import numpy as np
import pytest
import torch
from mpe2 import simple_spread_v3
from torch import Tensor

from mappo.envs.batched.spread import AGENT_RADIUS, CONTACT_MARGIN, Spread, central_planner
from mappo.errors import UserError
from mappo.functional.distributions import sample_heads
from mpe_original import Original, assert_follows, random_actions, team_returns

SEEDS = [0, 1, 7, 123]


def overlaps(env: Spread) -> int:
    """Pairs of agents that touch now."""
    place = env.state_dict()["place"][:, : env.num_agents].double()
    apart = torch.cdist(place, place) + 10 * torch.eye(env.num_agents, dtype=torch.float64)
    return int((apart < 2 * AGENT_RADIUS).sum()) // 2


def squeezed(agents: int, factor: float, dtype: torch.dtype, **options: float) -> tuple[Spread, Original]:
    """Both, with everything moved towards the middle, so that agents overlap."""
    env, original = Spread(4, agents, dtype=dtype, **options), Original(simple_spread_v3, SEEDS, N=agents, **options)
    env.reset(SEEDS)
    state = env.state_dict()
    env.load_state_dict(state | {"place": state["place"] * factor})
    for index in range(env.num_envs):
        for entity in original.world(index).entities:
            entity.state.p_pos = entity.state.p_pos * factor
    return env, original


def touches_on_the_way(env: Spread, original: Original, tolerance: float) -> int:
    """One episode of random actions in both, and the number of overlaps on the way."""
    generator, touches = torch.Generator().manual_seed(0), list[int]()

    def act(obs: Tensor) -> Tensor:
        touches.append(overlaps(env))
        return random_actions(env, generator)

    assert_follows(env, original, act, tolerance)
    return sum(touches)


@pytest.mark.parametrize("agents", [2, 3, 5])
def test_contacts_are_those_of_mpe2(agents: int):
    touches = touches_on_the_way(*squeezed(agents, 0.15, torch.float64), 1e-6)
    assert touches >= 2 * agents  # or this test would test nothing


def test_the_share_of_own_collisions_is_that_of_mpe2():
    assert touches_on_the_way(*squeezed(3, 0.15, torch.float64, local_ratio=0.2), 1e-6) >= 6


def test_contacts_in_float32_stay_near():
    assert touches_on_the_way(*squeezed(3, 0.15, torch.float32), 1e-3) >= 6


def test_a_contact_has_the_same_bits_in_any_number_of_environments():
    many = Spread(40)
    noise = torch.rand(many._apart.shape, generator=torch.Generator().manual_seed(1))
    apart = 2 * AGENT_RADIUS + (noise - 0.5) * 10 * CONTACT_MARGIN
    for count in (8, 16, 24):
        few = Spread(count)
        for env in (many, few):
            env._apart.copy_(apart[..., : env.num_envs])
            env._between.fill_(1.0)
        assert few._contact().any()
        assert torch.equal(few._contact(), many._contact()[..., :count])


@pytest.mark.parametrize("agents", [2, 3, 5])
def test_the_planner_is_far_better_than_chance(agents: int):
    def at_random(obs: Tensor) -> tuple[Tensor, None]:
        noise = torch.rand(*obs.shape[:2], 1)
        return sample_heads(torch.zeros(*obs.shape[:2], 5), noise, (5,))[0], None

    env = Spread(200, agents)
    planned, chance = team_returns(env, central_planner), team_returns(env, at_random)
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
    action = random_actions(env, torch.Generator().manual_seed(4))
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
    pairs = ((paper._apart < 2 * AGENT_RADIUS).sum((0, 1)) / 2).double()
    here = paper.state_dict()["place"]
    mpe2.load_state_dict(mpe2.state_dict() | {"place": here, "velocity": torch.zeros(200, 3, 2)})
    own = mpe2.step(stay).reward
    assert torch.equal(mpe2.state_dict()["place"], here)
    assert pairs.sum() > 20
    common = -mpe2._to_goal.amin(0).sum(0)
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


def test_there_must_be_an_agent():
    with pytest.raises(UserError, match="spread needs at least one environment, agent and step: 2, 0, 25"):
        Spread(2, 0)
