"""Packages of PettingZoo's API by name: what they give, what was put right in them, and what users get wrong."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mappo.envs.adapters import pettingzoo as zoo
from mappo.envs.check.checker import check
from mappo.envs.registry import FAMILIES
from mappo.envs.vector.serial import SerialEnvs
from mappo.errors import UserError
from mappo.system.packages import install_command


def make(full: str, *, render: bool = False, **options: Any) -> Any:
    family, name = full.split("/", 1)
    return zoo.make(family, name, options, render)


def play(env: Any, steps: int, seed: int = 0) -> list[Any]:
    """What a reset and then steps of random actions give."""
    rng = np.random.default_rng(seed)
    told = [env.reset(seed=seed)]
    for _ in range(steps):
        for agent in env.agents:
            env.action_space(agent).seed(int(rng.integers(1_000_000)))
        told.append(env.step({a: env.action_space(a).sample() for a in env.agents}))
    return told


# name, options, agents, shape of an observation, whether all are given one number
EACH = [
    ("mpe2/simple_spread_v3", {"N": 6}, 6, (36,), False),
    ("mpe2/simple_spread_v3", {"local_ratio": 0.0, "N": 2}, 2, (12,), True),
    ("mpe2/simple_reference_v3", {}, 2, (21,), False),
    ("mpe2/simple_reference_v3", {"local_ratio": 0.0}, 2, (21,), True),
    ("mpe2/simple_speaker_listener_v4", {"continuous_actions": True}, 2, (3,), True),
    ("mpe2/simple_formation_v1", {}, 4, (6,), True),
    ("mpe2/simple_line_v1", {}, 4, (8,), True),
    ("mpe2/simple_adversary_v3", {}, 3, (8,), False),
    ("mpe2/collect_treasure_v1", {}, 8, (86,), False),
    ("sisl/multiwalker_v9", {}, 3, (31,), True),
    ("sisl/multiwalker_v9", {"shared_reward": False, "n_walkers": 2}, 2, (31,), False),
    ("sisl/pursuit_v5", {}, 8, (7, 7, 3), True),
    ("sisl/pursuit_v5", {"shared_reward": False, "tag_reward": 1.0}, 8, (7, 7, 3), False),
    ("butterfly/knights_archers_zombies_v11", {}, 4, (27, 5), False),
    ("butterfly/pistonball_v6", {"n_pistons": 5}, 5, (457, 120, 3), True),
    ("butterfly/cooperative_pong_v6", {}, 2, (280, 480, 3), True),
    ("magent2/adversarial_pursuit_v4", {"map_size": 16}, None, (9, 9, 5), False),
    ("magent2/battle_v4", {"map_size": 16}, 12, (13, 13, 5), False),
    ("mamujoco/HalfCheetah-2x3", {}, 2, (12,), True),
    ("mamujoco/Ant-4x2", {"agent_obsk": 0}, 4, (39,), True),
    ("mamujoco/Humanoid-9|8", {}, 2, (242,), True),
    ("mamujoco/ManySegmentSwimmer-4x2", {}, 4, (5,), True),
]


@pytest.mark.parametrize(("name", "options", "agents", "shape", "shared"), EACH, ids=[f"{e[0]}-{e[1]}" for e in EACH])
def test_each_plays(name: str, options: dict[str, Any], agents: int | None, shape: tuple[int, ...], shared: bool):
    env = make(name, **options)
    steps = play(env, 20)
    assert agents is None or len(env.possible_agents) == agents
    obs = steps[0][0]
    assert shape in [x.shape for x in obs.values()]
    assert all(x.shape == env.observation_space(a).shape for a, x in obs.items())
    assert getattr(env, "shared_reward", False) is shared
    assert env.state is None or np.isfinite(env.state()).all()
    differ = any(len({float(r) for r in rewards.values()}) > 1 for _, rewards, *_ in steps[1:])
    silent = all(not any(rewards.values()) for _, rewards, *_ in steps[1:])
    assert (differ is not shared) or (silent and not shared)
    env.close()


SOUND = [
    ("mpe2/simple_spread_v3", {}, {"truncated": 3}, 25),
    ("mpe2/simple_speaker_listener_v4", {}, {"truncated": 3}, 25),
    ("sisl/pursuit_v5", {"max_cycles": 6}, {"truncated": 3}, 6),
    ("sisl/multiwalker_v9", {"max_cycles": 8}, {"truncated": 3}, 8),
    ("sisl/multiwalker_v9", {"terminate_on_fall": False}, {"terminated": 3}, None),
    ("butterfly/knights_archers_zombies_v11", {"max_cycles": 40}, {"truncated": 3}, 40),
    ("mamujoco/HalfCheetah-2x3", {"max_episode_steps": 12}, {"truncated": 3}, 12),
    ("mamujoco/Humanoid-9|8", {}, {"terminated": 3}, None),
    ("magent2/battle_v4", {"map_size": 12, "max_cycles": 12}, {"truncated": 3}, 12),
]


@pytest.mark.parametrize(("name", "options", "endings", "length"), SOUND, ids=[f"{s[0]}-{s[1]}" for s in SOUND])
def test_the_checker_finds_them_sound(name: str, options: dict[str, Any], endings: dict[str, int], length: int | None):
    report = check(lambda: make(name, **options))
    assert report.violations == []
    assert report.endings == endings
    assert length is None or report.lengths == [length] * 3
    assert not report.masks
    assert report.deaths == (options == {"terminate_on_fall": False})


def test_predators_and_prey_see_images_of_two_shapes():
    batch = SerialEnvs(lambda: make("magent2/adversarial_pursuit_v4", map_size=16), 1)
    shapes = {parts[0].shape for parts in batch.spec.obs_parts}
    assert shapes == {(10, 10, 5), (9, 9, 5)}
    assert batch.reset(0).obs.shape[2:] == (500,)


def test_the_limit_of_multiwalker_becomes_a_truncation_to_the_trainer():
    batch = SerialEnvs(lambda: make("sisl/multiwalker_v9", max_cycles=3), 2)
    batch.reset(0)
    import torch

    for _ in range(2):
        assert not batch.step(torch.zeros(2, 3, 4)).ended.any()
    step = batch.step(torch.zeros(2, 3, 4))
    assert step.ended.all()
    assert not step.terminated.any()
    assert (step.next_obs != step.obs).any()
    assert batch.spec.shared_reward


def test_a_walker_that_fell_leaves_zeros_in_the_state():
    env = make("sisl/multiwalker_v9", terminate_on_fall=False)
    rng, fallen = np.random.default_rng(0), list[str]()
    env.reset(seed=0)
    while not fallen:
        _, _, ends, cuts, _ = env.step({a: rng.uniform(-1, 1, 4) for a in env.agents})
        fallen = [a for a in ends if ends[a]]
        assert not any(cuts.values())
    state = env.state()
    assert state.shape == (75,)
    for i, agent in enumerate(env.possible_agents):
        assert (state[24 * i : 24 * (i + 1)] == 0).all() == (agent in fallen)
    assert len(env.agents) == 3 - len(fallen)


@pytest.mark.parametrize("name", ["pistonball_v6", "cooperative_pong_v6"])
def test_who_plays_by_the_picture_sees_it_change(name: str):
    env = make(f"butterfly/{name}")
    steps = play(env, 6)
    agent = env.possible_agents[0]
    assert steps[0][0][agent].max() > 0
    assert len({obs[a].tobytes() for obs, *_ in steps for a in obs}) > len(env.possible_agents)
    env.close()


def test_zombies_come_at_the_same_time_whatever_was_played_before():
    env = make("butterfly/knights_archers_zombies_v11", max_cycles=30)
    first, again = (play(env, 30) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert all((one[0][a] == other[0][a]).all() for a in one[0])
    assert first[-1][3] == dict.fromkeys(env.possible_agents, True)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mpe2/simple_spread_v3", (700, 700, 3)),
        ("sisl/pursuit_v5", None),
        ("magent2/battle_v4", None),
        ("mamujoco/HalfCheetah-2x3", (480, 480, 3)),
    ],
)
@pytest.mark.filterwarnings("ignore:The system font .* couldn't be found:UserWarning")
def test_pictures(name: str, shape: tuple[int, ...] | None):
    env = make(name, render=True)
    if name.startswith("mamujoco") and not os.environ.get("MUJOCO_GL"):
        pytest.skip("no EGL here")
    play(env, 1)
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert shape is None or picture.shape == shape
    assert picture.std() > 0
    env.close()


def test_mujoco_leaves_no_log_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    make("mamujoco/HalfCheetah-2x3")  # its model is deprecated, in parts
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", ["mpe2", "sisl", "butterfly", "magent2", "mamujoco"])
def test_all_names_can_be_made(family: str):
    for name in zoo.names(family):
        if family == "magent2" and name not in ("gather_v5", "tiger_deer_v4"):
            continue  # the others are large, and one of them stands above
        if name == "CoupledHalfCheetah-1p1":  # fails with mujoco 4 in gymnasium-robotics 1.4.2
            continue
        make(f"{family}/{name}").close()


def test_names_are_found_in_the_packages():
    assert {"simple_spread_v3", "simple_v3", "collect_treasure_v1"} <= set(zoo.names("mpe2"))
    assert zoo.names("sisl") == ["multiwalker_v9", "pursuit_v5"]
    assert zoo.names("butterfly") == ["cooperative_pong_v6", "knights_archers_zombies_v11", "pistonball_v6"]
    assert {"adversarial_pursuit_v4", "battle_v4", "gather_v5"} <= set(zoo.names("magent2"))
    assert "Humanoid-9|8" in zoo.names("mamujoco")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "sisl/multiwalker",
            {},
            "unknown environment 'sisl/multiwalker'; did you mean 'sisl/multiwalker_v9'? There are: multiwalker_v9, "
            "pursuit_v5",
        ),
        (
            "sisl/waterworld_v4",
            {},
            "unknown environment 'sisl/waterworld_v4'. There are: multiwalker_v9, ",
        ),
        (
            "mpe2/simple_spred_v3",
            {},
            "unknown environment 'mpe2/simple_spred_v3'; did you mean 'mpe2/simple_spread_v3' or ",
        ),
        ("mamujoco/HalfCheetah", {}, "did you mean 'mamujoco/HalfCheetah-6x1' or 'mamujoco/HalfCheetah-2x3' or "),
        ("mamujoco/Ant-3x3", {}, "unknown environment 'mamujoco/Ant-3x3'"),
        ("mamujoco/ManySegmentAnt-0x2", {}, "unknown environment 'mamujoco/ManySegmentAnt-0x2'"),
        (
            "mpe2/simple_speaker_listener_v4",
            {"N": 3},
            "mpe2/simple_speaker_listener_v4 has no option 'N'; there are: benchmark_data, continuous_actions, "
            "dynamic_rescaling, max_cycles",
        ),
        ("sisl/multiwalker_v9", {"walkers": 3, "x": 1}, "has no option 'walkers', 'x'; there are: angle_noise, "),
        ("sisl/pursuit_v5", {"render_mode": "human"}, "has no option 'render_mode'; there are: catch_reward, "),
        ("butterfly/cooperative_pong_v6", {"speed": 3}, "has no option 'speed'; there are: ball_speed, "),
        ("butterfly/pistonball_v6", {"pistons": 3}, "has no option 'pistons'; there are: ball_elasticity, "),
        ("magent2/battle_v4", {"penalty": 3}, "has no option 'penalty'; there are: attack_opponent_reward, "),
        ("magent2/tiger_deer_v4", {"penalty": 3}, "has no option 'penalty'; there are: deer_attacked, "),
        ("mamujoco/Ant-4x2", {"limit": 3}, "has no option 'limit'; there are: agent_factorization, "),
        (
            "mpe2/simple_spread_v3",
            {"local_ratio": 3},
            "mpe2/simple_spread_v3 cannot be made with the options {'local_ratio': 3}: AssertionError: local_ratio is ",
        ),
    ],
)
def test_what_users_get_wrong(name: str, options: dict[str, Any], message: str):
    with pytest.raises(UserError) as error:
        make(name, **options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("mpe2/simple_spread_v3", "mpe2", "mpe"),
        ("mpe2/simple_spread_v3", "mpe2.simple_spread_v3", "mpe"),
        ("sisl/pursuit_v5", "pettingzoo.sisl.pursuit.pursuit", "sisl"),
        ("butterfly/pistonball_v6", "pettingzoo", "butterfly"),
        ("magent2/battle_v4", "magent2.environments", "magent"),
        ("mamujoco/Ant-4x2", "gymnasium_robotics", "mujoco"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch):
    family, base = name.split("/")
    make(name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError) as error:
        zoo.make(family, base, {})
    package = FAMILIES[family].package  # as pip calls it
    assert str(error.value) == (
        f"{package} is not installed, or not completely "
        f"(import of {module} halted; None in sys.modules): {install_command(extra)}"
    )


def test_what_the_user_set_for_pictures_stays(monkeypatch: pytest.MonkeyPatch):
    find: Callable[[str], str | None] = lambda name: name  # noqa: E731
    monkeypatch.setattr(zoo.ctypes.util, "find_library", find)
    monkeypatch.setattr(zoo.sys, "platform", "linux")
    for variable, family, default in (("SDL_VIDEODRIVER", "mpe2", "dummy"), ("MUJOCO_GL", "mamujoco", "egl")):
        monkeypatch.delenv(variable, raising=False)
        zoo.names(family)
        assert os.environ[variable] == default
        monkeypatch.setenv(variable, "mine")
        zoo.names(family)
        assert os.environ[variable] == "mine"
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(zoo.ctypes.util, "find_library", lambda name: None)
    zoo.names("mamujoco")
    assert "MUJOCO_GL" not in os.environ  # without EGL, to ask for it would fail
