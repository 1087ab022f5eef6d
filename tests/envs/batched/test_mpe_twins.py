"""Law 9: the batched particle worlds follow mpe2's step for step; all that the twins have in common."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from mpe2 import simple_reference_v3, simple_speaker_listener_v4, simple_spread_v3

from mappo import envs
from mappo.core.protocols import Environment, Renderable, Resumable
from mappo.core.spec import ActionHeads
from mappo.envs.batched.particles import Particles
from mappo.envs.batched.reference import Reference
from mappo.envs.batched.speaker_listener import SpeakerListener
from mappo.envs.batched.spread import Spread
from mappo.errors import UserError
from mpe_original import HORIZON, SEEDS, Original, assert_follows, assert_same, random_actions, team_returns


@dataclass(frozen=True)
class Twin:
    """A batched environment and its original.

    Args:
        make: the batched environment, from the number of environments and keywords.
        original: mpe2's environments, from seeds.
        movers: the agents that move, if not all do.
        goal_obs: where observations show a goal, if they do.
        goals: the goals of mpe2's world, as indices of landmarks.
    """

    make: Callable[..., Particles]
    original: Callable[..., Original]
    movers: Any = None
    goal_obs: Any = None
    goals: Callable[[Any], list[int]] = lambda world: []


def goals_of_both(world: Any) -> list[int]:
    assert all(agent.goal_a is world.agents[1 - i] for i, agent in enumerate(world.agents))
    return [world.landmarks.index(agent.goal_b) for agent in world.agents]


TWINS = {
    f"spread-{n}": Twin(partial(Spread, num_agents=n), partial(Original, simple_spread_v3, N=n)) for n in (2, 3, 5)
} | {
    "reference": Twin(
        Reference, partial(Original, simple_reference_v3), goal_obs=np.s_[:, :, 8:11], goals=goals_of_both
    ),
    "speaker_listener": Twin(
        SpeakerListener,
        partial(Original, simple_speaker_listener_v4),
        movers=slice(1, 2),
        goal_obs=np.s_[:, 0, :3],
        goals=lambda world: [world.landmarks.index(world.agents[0].goal_b)],
    ),
}


# In the tests of actions alone: resets and seeds are the same code.
CONTINUOUS = {
    f"{name}-continuous": replace(
        twin,
        make=partial(twin.make, continuous_actions=True),
        original=partial(twin.original, continuous_actions=True),
    )
    for name, twin in TWINS.items()
    if name not in ("spread-2", "spread-5")
}


@pytest.fixture(params=TWINS.values(), ids=TWINS)
def twin(request: pytest.FixtureRequest) -> Twin:
    return request.param


@pytest.fixture(params=[*TWINS.values(), *CONTINUOUS.values()], ids=[*TWINS, *CONTINUOUS])
def any_twin(request: pytest.FixtureRequest) -> Twin:
    return request.param


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_an_episode_is_that_of_mpe2(any_twin: Twin, dtype: torch.dtype, tolerance: float):
    seeds = [*SEEDS, *range(20, 32)]
    env = any_twin.make(len(seeds), dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    env.reset(seeds)
    assert_follows(env, any_twin.original(seeds), lambda _: random_actions(env, generator), tolerance)


def test_a_reset_from_a_seed_is_mpe2s_bit_for_bit(twin: Twin):
    seeds = [*SEEDS, *range(100, 150)]
    env = twin.make(len(seeds), dtype=torch.float64)
    original = twin.original(seeds)
    assert np.array_equal(env.reset(seeds).obs.numpy(), original.obs)
    state = env.state_dict()
    goals = state.get("goal", torch.zeros(len(seeds), 0)).view(len(seeds), -1).tolist()
    for index in range(len(seeds)):
        world = original.world(index)
        places = np.stack([entity.state.p_pos for entity in world.entities])
        assert np.array_equal(state["place"][index].numpy(), places)
        assert goals[index] == twin.goals(world)
    assert len(set(map(tuple, goals))) == 3 ** len(goals[0])  # each goal, and each pair of goals


def test_the_joint_observation_without_the_padding_is_mpe2s_state(twin: Twin):
    env = twin.make(len(SEEDS), dtype=torch.float64)
    original = twin.original(SEEDS)
    obs = env.reset(SEEDS).obs
    sizes = [env.spec.obs_size(agent) for agent in range(env.spec.num_agents)]
    joint = torch.cat([obs[:, agent, :size] for agent, size in enumerate(sizes)], -1).numpy()
    assert np.array_equal(joint, np.stack([e.state() for e in original.envs]))
    assert all(not obs[:, agent, size:].any() for agent, size in enumerate(sizes))


def test_spaces_are_mpe2s(any_twin: Twin):
    env = any_twin.make(1)
    original = any_twin.original([0]).envs[0]
    spec = env.spec
    assert spec.agents == tuple(original.possible_agents)
    for name, space, heads in zip(spec.agents, spec.obs_spaces, spec.action_heads, strict=True):
        assert space == original.observation_space(name)
        assert heads == ActionHeads.from_space(original.action_space(name))
    assert isinstance(env, Environment)
    assert isinstance(env, Renderable)
    assert isinstance(env, Resumable)


def test_one_seed_stands_for_itself_and_those_that_follow(twin: Twin):
    env = twin.make(3)
    assert torch.equal(env.reset(5).obs, env.reset([5, 6, 7]).obs)


def test_a_seed_fixes_the_episodes_that_follow_too(twin: Twin):
    a, b = twin.make(2), twin.make(2)
    generator = torch.Generator().manual_seed(0)
    b.step(random_actions(b, generator))
    assert_same(a.reset(3), b.reset(3))
    for _ in range(2 * HORIZON + 1):
        action = random_actions(a, generator)
        assert_same(a.step(action), b.step(action))


def test_without_a_seed_the_stream_goes_on(twin: Twin):
    env = twin.make(2)
    env.reset(3)
    obs = [env.reset().obs for _ in range(2)]
    assert not torch.equal(*obs)
    env.reset(3)
    assert torch.equal(env.reset().obs, obs[0])


def test_at_the_time_limit_next_obs_is_before_the_reset_and_obs_behind_it(twin: Twin):
    env, longer = twin.make(20, horizon=3), twin.make(20, horizon=4)
    first = env.reset(0)
    longer.reset(0)
    assert first.is_first.all()
    assert torch.equal(first.obs, first.next_obs)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        action = random_actions(env, generator)
        step, other = env.step(action), longer.step(action)
        assert_same(step, other)
        assert torch.equal(step.obs, step.next_obs)
        assert not step.is_first.any()
        assert not step.ended.any()
    action = random_actions(env, generator)
    step, other = env.step(action), longer.step(action)
    assert torch.equal(step.next_obs, other.next_obs)  # its episode is longer by one step
    assert torch.equal(step.reward, other.reward)
    changed = step.obs != step.next_obs
    assert changed[:, twin.movers or slice(None)].any(-1).all()
    assert twin.goal_obs is None or changed[twin.goal_obs].any()
    assert not step.obs[:, twin.movers or slice(None), :2].any()  # all stand still at the start
    assert step.is_first.all()
    assert step.ended.all()
    assert not step.terminated.any()
    after = env.step(random_actions(env, generator))
    assert not after.is_first.any()
    assert not after.ended.any()


def test_episodes_that_follow_start_evenly_spread_with_each_goal_as_often(twin: Twin):
    env = twin.make(900, horizon=1)
    env.reset(0)
    env.step(random_actions(env, torch.Generator().manual_seed(0)))
    state = env.state_dict()
    place = state["place"]
    assert place.min() >= -1
    assert place.max() < 1
    assert abs(place.mean()) < 0.05
    assert abs(place.var() - 1 / 3) < 0.02
    if "goal" in state:
        goal = state["goal"].view(900, -1)
        kinds = 3 ** goal.shape[1]
        count = (goal * 3 ** torch.arange(goal.shape[1])).sum(-1).bincount(minlength=kinds)
        assert count.shape == (kinds,)
        deviation = (900 * (1 / kinds) * (1 - 1 / kinds)) ** 0.5
        assert abs(count - 900 / kinds).max() < 4 * deviation


def test_saved_in_the_middle_of_an_episode_it_goes_on_bit_for_bit(any_twin: Twin):
    env, other = any_twin.make(3), any_twin.make(3)
    env.reset(0)
    generator = torch.Generator().manual_seed(2)
    for _ in range(10):
        last = env.step(random_actions(env, generator))
    present = other.load_state_dict(env.state_dict())
    assert torch.equal(present.obs, last.obs)
    assert torch.equal(present.is_first, last.is_first)
    assert not present.reward.any()
    for _ in range(2 * HORIZON):  # over two resets
        action = random_actions(env, generator)
        assert_same(env.step(action), other.step(action))


def test_what_a_step_gave_is_not_overwritten_by_the_next(twin: Twin):
    env = twin.make(2)
    generator = torch.Generator().manual_seed(3)
    steps = [env.reset(0), env.step(random_actions(env, generator))]
    copies = [{name: None if x is None else x.clone() for name, x in vars(step).items()} for step in steps]
    for _ in range(HORIZON):
        env.step(random_actions(env, generator))
    for step, copy in zip(steps, copies, strict=True):
        for name, x in copy.items():
            assert x is None or torch.equal(x, getattr(step, name)), name


def test_a_wrong_number_of_seeds_is_refused(twin: Twin):
    env = twin.make(2)
    with pytest.raises(ValueError, match=f"{env.name}: 3 seeds for 2 environments"):
        env.reset([1, 2, 3])


@pytest.mark.parametrize(("num_envs", "horizon"), [(0, 25), (2, 0)])
def test_there_must_be_an_environment_and_a_step(twin: Twin, num_envs: int, horizon: int):
    with pytest.raises(UserError, match=r"^[a-z_]+ needs at least one environment(, agent)? and step: "):
        twin.make(num_envs, horizon=horizon)


@pytest.mark.parametrize("name", ["spread-3", "speaker_listener", "reference"])
def test_numbers_beyond_the_bounds_are_clipped_as_by_mpe2(name: str):
    twin = CONTINUOUS[f"{name}-continuous"]
    env = twin.make(len(SEEDS), dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    env.reset(SEEDS)
    assert_follows(env, twin.original(SEEDS), lambda _: 4 * random_actions(env, generator) - 1.5, 1e-9)


def test_the_first_number_of_a_move_does_nothing_and_each_other_pushes_one_way():
    env = Spread(5, 1, dtype=torch.float64, continuous_actions=True)
    env.reset(0)
    velocity = env.step(torch.eye(5).unsqueeze(1)).next_obs[:, 0, :2]
    assert velocity.tolist() == [[0, 0], [-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]]


def test_a_word_of_numbers_is_heard_as_it_was_said():
    for kind, listener in ((SpeakerListener, 1), (Reference, 0)):
        env = kind(2, continuous_actions=True)
        env.reset(0)
        step = env.step(action := random_actions(env, torch.Generator().manual_seed(6)))
        word = action[:, 1 - listener, :3] if listener else action[:, 1, 5:]
        assert torch.equal(step.next_obs[:, listener, -word.shape[-1] :], word)


@pytest.mark.parametrize("name", ["spread", "speaker_listener", "reference"])
def test_a_scripted_policy_that_pushes_both_ways_at_once_is_better(name: str):
    returns = []
    for continuous in (False, True):
        env: Any = envs.make(name, 200, options={"continuous_actions": continuous})
        (policy,) = envs.baselines(name, env.spec).values()
        returns.append(team_returns(env, policy))
    assert (returns[1] > returns[0]).float().mean() > 0.8


@pytest.mark.parametrize("name", ["spread", "speaker_listener", "reference"])
def test_continuous_actions_are_true_or_false(name: str):
    with pytest.raises(UserError, match="continuous_actions must be true or false, in lower case, got 'True'"):
        envs.make(name, 1, options={"continuous_actions": "True"})
