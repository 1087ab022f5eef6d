"""The adapter of vmas, held against the bare package, and each of its traps on its own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mappo.algorithms.mappo import MAPPO
from mappo.config import Config, EnvConfig, PPOConfig
from mappo.core.protocols import Environment, Renderable, Resumable
from mappo.core.timestep import TimeStep
from mappo.envs.adapters.vmas import make
from mappo.errors import UserError
from mappo.rollouts.collector import Collector

pytestmark = pytest.mark.gpl

CHOICES = {"continuous_actions": False}
SIGNS = {"continuous_actions": False, "multidiscrete_actions": True}


def bare(scenario: str, num_envs: int, **options: Any) -> Any:
    import vmas

    return vmas.make_env(scenario, num_envs, seed=0, terminated_truncated=True, **options)


def drawn(env: Environment, steps: int, seed: int = 0) -> list[Tensor]:
    """Random actions in the padded layout, some of them beyond the bounds."""
    generator, spec = torch.Generator().manual_seed(seed), env.spec
    shape = (steps, env.num_envs, spec.num_agents)
    if spec.continuous:
        return list(torch.randn(*shape, spec.continuous, generator=generator) * 1.5)
    sizes = torch.tensor([h.categorical for h in spec.action_heads])
    return list((torch.rand(*shape, len(spec.heads), generator=generator) * sizes).long())


def end_soon(env: Any, *which: int) -> None:
    """The next step of these games is their last."""
    env.steps[list(which)] = env.max_steps - 1


def all_the_same(one: TimeStep, other: TimeStep, rows: Any = slice(None)) -> bool:
    fields = ("obs", "next_obs", "reward", "terminated", "ended", "is_first")
    return all(torch.equal(getattr(one, field)[rows], getattr(other, field)[rows]) for field in fields)


def padded(obs: list[Tensor]) -> np.ndarray:
    rows = np.zeros((len(obs[0]), len(obs), max(x.shape[1] for x in obs)), np.float32)
    for j, x in enumerate(obs):
        rows[:, j, : x.shape[1]] = x
    return rows


@pytest.mark.parametrize(
    ("scenario", "options"),
    [
        ("balance", {"n_agents": 4}),
        ("navigation", {}),
        ("reverse_transport", {}),
        ("simple_speaker_listener", {}),
        ("simple_speaker_listener", CHOICES),
        ("simple_crypto", SIGNS),
    ],
)
def test_it_is_a_loop_over_the_bare_package(scenario: str, options: dict[str, Any]):
    env, other = make(scenario, 5, "cpu", {"max_steps": 12, **options}), bare(scenario, 5, max_steps=12, **options)
    start = env.reset(7)
    np.testing.assert_array_equal(start.obs, padded(other.reset(seed=7)))
    end_soon(env._env, 0, 3)  # so that games come apart
    end_soon(other, 0, 3)
    agents, cut, ends = other.n_agents, 0, 0
    for action in drawn(env, 40):
        step = env.step(action)
        own = [action[:, j, : heads.size].clone() for j, heads in enumerate(env.spec.action_heads)]
        if env.spec.continuous:
            own = [x.clamp(*map(torch.tensor, (s.low, s.high))) for x, s in zip(own, other.action_space, strict=True)]
        obs, reward, terminated, truncated, _ = other.step(own)
        ended = terminated | truncated
        after = padded(obs)
        np.testing.assert_array_equal(step.next_obs, after)
        np.testing.assert_array_equal(step.reward, np.stack(reward, 1))
        np.testing.assert_array_equal(step.terminated, np.stack([terminated] * agents, 1))
        np.testing.assert_array_equal(step.ended, ended)
        np.testing.assert_array_equal(step.is_first, np.stack([ended] * agents, 1))
        for i in ended.nonzero()[:, 0].tolist():
            after[i] = padded(other.reset_at(i))[i]
        np.testing.assert_array_equal(step.obs, after)
        assert step.active.all()
        assert step.next_active.all()
        ends, cut = ends + int(ended.sum()), cut + int((truncated & ~terminated).sum())
    assert ends >= 15
    assert cut >= 5
    assert (ends > cut) == (scenario == "reverse_transport")  # its package lies on the goal now and then


def test_games_that_end_together_are_reset_together():
    env, other = make("navigation", 4, "cpu", {"max_steps": 3}), bare("navigation", 4, max_steps=3)
    env.reset(1)
    other.reset(seed=1)
    for t, action in enumerate(drawn(env, 9)):
        step = env.step(action)
        reached = obs = other.step(list(action.clamp(-1, 1).unbind(1)))[0]
        if t % 3 == 2:
            obs = other.reset()
        np.testing.assert_array_equal(step.obs, padded(obs))
        # A time limit: truncated, with what was reached beside what follows.
        assert step.ended.tolist() == [t % 3 == 2] * 4
        assert not step.terminated.any()
        np.testing.assert_array_equal(step.next_obs, padded(reached))


def test_what_terminates_at_the_time_limit_is_terminated(monkeypatch: pytest.MonkeyPatch):
    env = make("navigation", 2, "cpu", {"max_steps": 1})
    env.reset(0)
    monkeypatch.setattr(env._env.scenario, "done", lambda: torch.tensor([True, False]))
    step = env.step(torch.zeros(2, 4, 2))
    assert step.ended.tolist() == [True, True]
    assert step.terminated.tolist() == [[True] * 4, [False] * 4]


@pytest.mark.parametrize("scenario", ["balance", "navigation", "dropout"])
def test_a_reset_leaves_other_games_alone(scenario: str):
    one, other = make(scenario, 4, "cpu", {}), make(scenario, 4, "cpu", {})
    one.reset(3)
    other.reset(3)
    for t, action in enumerate(drawn(one, 20)):
        if t == 10:
            end_soon(one._env, 2)
        left, right = one.step(action), other.step(action)
        assert all_the_same(left, right, [0, 1, 3])
        assert torch.equal(left.ended, torch.tensor([False, False, t == 10, False]))
        assert torch.equal(left.obs[2], right.obs[2]) == (t < 10)


def test_who_goes_on_keeps_what_it_saw():
    """To observe is to draw noise, where a scenario has it."""
    env = make("give_way", 3, "cpu", {"obs_noise": 0.5})
    env.reset(0)
    end_soon(env._env, 1)
    step = env.step(torch.zeros(3, 2, 2))
    assert torch.equal(step.obs[[0, 2]], step.next_obs[[0, 2]])
    assert not torch.isclose(step.obs[1], step.next_obs[1]).any()


def test_what_was_given_stays():
    """Tensors of earlier steps are not written to, whatever vmas does in place."""
    env = make("balance", 3, "cpu", {"max_steps": 4})
    steps = [env.reset(0)]
    copies = [[steps[0].obs.clone(), steps[0].next_obs.clone(), steps[0].reward.clone()]]
    for action in drawn(env, 10):
        steps.append(env.step(action))
        copies.append([steps[-1].obs.clone(), steps[-1].next_obs.clone(), steps[-1].reward.clone()])
    for step, kept in zip(steps, copies, strict=True):
        assert all(map(torch.equal, (step.obs, step.next_obs, step.reward), kept))


def test_environments_of_one_process_do_not_disturb_each_other():
    options = {"max_steps": 3, "obs_noise": 0.1}
    alone = make("give_way", 3, "cpu", options)
    actions = drawn(alone, 12)
    expected = [alone.reset(5), *map(alone.step, actions)]
    env, other = make("give_way", 3, "cpu", options), make("balance", 2, "cpu", {"max_steps": 2})
    got = [env.reset(5)]
    for action, foreign in zip(actions, drawn(other, 12), strict=True):
        other.reset(5)
        other.step(foreign)
        got.append(env.step(action))
    assert all(map(all_the_same, got, expected))


def test_the_rest_of_the_process_draws_as_before():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (vmas seeds it)
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    env = make("give_way", 3, "cpu", {"max_steps": 2, "obs_noise": 0.1})
    env.reset(9)
    for action in drawn(env, 4):
        env.step(action)
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(3) == expected[1]).all()  # noqa: NPY002


def test_the_first_seed_starts_the_stream():
    env = make("balance", 3, "cpu", {"max_steps": 4})
    actions = drawn(env, 10)

    def played(seed: Any) -> list[TimeStep]:
        return [env.reset(seed), *map(env.step, actions)]

    first = played(11)
    assert all(map(all_the_same, played(11), first))
    assert all(map(all_the_same, played([11, 5, 2]), first))
    assert not torch.isclose(played(12)[0].obs[:, :, 8:10], first[0].obs[:, :, 8:10]).any()  # to the goal
    starts = [env.reset().obs[:, :, 8:10] for _ in range(2)]
    assert not torch.isclose(starts[0], starts[1]).any()
    with pytest.raises(ValueError, match="2 seeds for 3 environments"):
        env.reset([1, 2])


def test_numbers_are_clamped_and_the_senders_tensor_is_left_alone():
    env = make("simple_speaker_listener", 2, "cpu", {})
    action = torch.full((2, 2, 5), -7.0)
    env.reset(0)
    beyond = env.step(action)
    assert torch.equal(action, torch.full((2, 2, 5), -7.0))
    env.reset(0)
    # A message lies in [0, 1]; the last three columns are not the listener's.
    within = env.step(torch.tensor([[[-1.0, -1, 0, 0, 0], [-1, -1, 9, 9, 9]]] * 2))
    assert all_the_same(beyond, within)


@pytest.mark.parametrize(("options", "action"), [(CHOICES, [2]), (SIGNS, [0, 2]), ({}, [0.0, 1.0])])
def test_each_agent_gets_its_own_action(options: dict[str, Any], action: list[float]):
    """Agent 1 alone goes up."""
    env = make("simple_spread", 2, "cpu", options)
    sent = torch.zeros(2, 3, len(action), dtype=env.spec.action_dtype)
    sent[:, 1] = torch.tensor(action)
    env.reset(0)
    still = env.step(torch.zeros_like(sent)).obs[..., 2:4]  # velocities, of those that touched too
    env.reset(0)
    gained = env.step(sent).obs[..., 2:4] - still
    assert (gained[:, 1, 1] > 0.05).all()
    gained[:, 1, 1] = 0
    assert torch.equal(gained, torch.zeros(2, 3, 2))


def test_the_spec_of_unequal_agents():
    spec = make("simple_speaker_listener", 1, "cpu", {}).spec
    assert spec.agents == ("speaker_0", "listener_0")
    assert [s.shape for s in spec.obs_spaces] == [(3,), (11,)]
    assert spec.action_heads[0].low == (-1, -1, 0, 0, 0)
    assert spec.action_heads[0].high == (1, 1, 1, 1, 1)
    assert spec.action_heads[1].high == (1, 1)
    assert spec.groups == (0, 1)
    assert spec.state_shape is None
    assert make("simple_speaker_listener", 1, "cpu", SIGNS).spec.heads == (3, 3, 3)
    assert make("simple_speaker_listener", 1, "cpu", CHOICES).spec.heads == (27,)
    step = make("simple_speaker_listener", 1, "cpu", {}).reset(0)
    assert step.obs.shape == (1, 2, 11)
    assert torch.equal(step.obs[:, 0, 3:], torch.zeros(1, 8))


@pytest.mark.parametrize(
    ("scenario", "options", "shared"),
    [
        ("balance", {}, True),
        ("balance", {"shared_reward": False}, False),
        ("simple_speaker_listener", {}, True),
        ("transport", {}, True),  # nobody gets anything in random play
        ("navigation", {}, False),  # collisions are each agent's own
        ("navigation", {"shared_reward": True}, True),
        ("discovery", {}, False),
    ],
)
def test_whether_the_reward_is_the_teams(scenario: str, options: dict[str, Any], shared: bool):
    assert make(scenario, 2, "cpu", options).spec.shared_reward == shared


def test_a_shared_reward_is_the_mean_over_agents():
    own, shared = (make("navigation", 64, "cpu", {"shared_reward": x}) for x in (False, True))
    own.reset(0)
    shared.reset(0)
    differ = False
    for action in drawn(own, 20):
        each, team = own.step(action).reward, shared.step(action).reward
        assert torch.equal(team, team[:, :1].expand_as(team))
        torch.testing.assert_close(team[:, 0], each.mean(1))
        assert torch.equal(own.spec.team_reward(each), each.sum(1))
        differ |= bool((each != each[:, :1]).any())
    assert differ


def test_rewards_with_an_axis_too_many():
    """wheel gives (E, 1)."""
    env = make("wheel", 2, "cpu", {})
    env.reset(0)
    assert env.step(drawn(env, 1)[0]).reward.shape == (2, 4)


def test_what_cannot_be_made_is_told():
    def fails(match: str, name: str = "balance", num_envs: int = 1, **options: Any) -> None:
        with pytest.raises(UserError, match=match):
            make(name, num_envs, "cpu", options)

    fails("unknown environment 'vmas/balence'; did you mean 'vmas/balance'", "balence")
    fails("unknown environment 'vmas/xyz'. There are: balance, ", "xyz")
    fails("num_agents.* not used by the scenario", num_agents=4)
    fails("seed, wrapper cannot be chosen", seed=1, wrapper="rllib")
    fails("max_steps must be a whole number from 1 on, got 0", max_steps=0)
    fails("max_steps must be a whole number from 1 on, got '9'", max_steps="9")
    fails("at least one environment", num_envs=0)
    fails("make sure continuous_actions=False", multidiscrete_actions=True)
    fails("observes dicts", "football", dict_obs=True)


def test_missing_vmas_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "vmas", None)
    with pytest.raises(UserError, match=r"vmas is not installed, .*pip install '?vmas"):
        make("balance", 1, "cpu", {})


def test_gyms_notice_is_not_shown(tmp_path: Path):
    (tmp_path / "gym_notices").mkdir()
    (tmp_path / "gym_notices" / "__init__.py").touch()
    (tmp_path / "gym_notices" / "notices.py").write_text("notices = {'0.26.2': 'Gym has been unmaintained'}")
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom mappo.envs.adapters import vmas\n"
    code += "vmas.make('simple', 1, 'cpu', {})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert done.stderr == ""


@pytest.mark.parametrize("options", [{}, CHOICES, SIGNS])
def test_a_collector_and_a_learner_take_it(options: dict[str, Any]):
    env = make("simple_speaker_listener", 4, "cpu", {"max_steps": 5, **options})
    assert isinstance(env, Renderable)
    assert not isinstance(env, Resumable)
    config = Config(env=EnvConfig(num_envs=4), ppo=PPOConfig(rollout_length=10, epochs=1))
    agent = MAPPO(env.spec, config, seed=0)
    collector = Collector(env, agent, 10, env.reset(0), torch.Generator().manual_seed(0))
    rollout, played = collector.collect()
    assert played["episodes"] == 8
    assert played["episode_length"] == 5
    assert played["return_sum"] == pytest.approx(float(rollout.reward[..., 0].sum()) / 8, rel=1e-5)
    assert all(bool(x.isfinite()) for x in agent.update(rollout).values())


def test_it_draws():
    env = make("balance", 2, "cpu", {})
    env.reset(0)
    first, again, other = (env.render(index) for index in (0, 0, 1))
    env.close()
    assert first.dtype == np.uint8
    assert first.shape == (700, 700, 3)
    assert (first != again).sum() < 10  # of 1.5 million; the first frame may differ in one
    assert (first != other).sum() > 1000
