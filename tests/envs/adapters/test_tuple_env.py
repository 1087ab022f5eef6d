"""Level-based foraging and the robotic warehouse against the packages themselves."""

import ctypes.util
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from lbforaging.foraging import environment as foraging
from rware import warehouse

from mappo.core.protocols import Environment
from mappo.envs.adapters import lbf, rware
from mappo.errors import UserError
from mappo.system.packages import install_command
from vectorized import from_factory

DRAWS = sys.platform == "linux" and all(map(ctypes.util.find_library, ("EGL", "GL", "GLU")))


def vectorised(make: Callable[[], Any], num_envs: int) -> Environment:
    return from_factory(make, num_envs)


def original(make: Any, name: str, options: dict[str, Any]) -> Any:
    """As the package itself makes it."""
    if name == "Foraging-15x15-4p-5f-v3":  # not registered; one that is, with more of what it has
        like = gymnasium.spec("Foraging-15x15-4p-4f-v3").kwargs
        return foraging.ForagingEnv(**{**like, "max_num_food": 5, **options})
    if "max_episode_steps" in options:  # which `gymnasium.make` would keep to itself
        return foraging.ForagingEnv(**{**gymnasium.spec(name).kwargs, **options})
    return gymnasium.make(name, disable_env_checker=True, **options).unwrapped


GAMES = [
    (lbf.make, "Foraging-8x8-2p-2f-coop-v3", {}),
    (lbf.make, "Foraging-2s-5x5-4p-1f-v3", {"penalty": 0.1, "max_episode_steps": 9}),
    (lbf.make, "Foraging-15x15-4p-5f-v3", {"observe_agent_levels": False}),
    (rware.make, "rware-tiny-2ag-v2", {"max_steps": 40}),
    (rware.make, "rware-small-4ag-easy-v2", {"msg_bits": 2, "max_inactivity_steps": 30}),
]


@pytest.mark.parametrize(("make", "name", "options"), GAMES)
def test_it_is_a_plain_loop_over_the_package(make: Any, name: str, options: dict[str, Any]):
    """Law: for the same seeds and actions, observations, rewards and ends are the package's."""
    env, rng = make(name, options), np.random.default_rng(0)
    ends = 0
    for seed in range(8):
        bare = original(make, name, options)
        expected, _ = bare.reset(seed=seed)
        obs, _ = env.reset(seed=seed)
        assert env.possible_agents == env.agents == [f"agent_{i}" for i in range(len(expected))]
        over, steps = False, 0
        while not over and steps < 60:
            for i, agent in enumerate(env.possible_agents):
                assert env.observation_space(agent) == bare.observation_space[i]
                assert env.action_space(agent) == bare.action_space[i]
                assert np.array_equal(obs[agent], expected[i])
                assert obs[agent].dtype == expected[i].dtype == np.float32
            drawn = [rng.integers(space.nvec if "msg_bits" in options else space.n) for space in bare.action_space]
            obs, rewards, terminated, truncated, infos = env.step(dict(zip(env.agents, drawn, strict=True)))
            expected, reward, over, _, _ = bare.step(drawn)
            steps += 1
            assert list(rewards.values()) == reward
            assert all(type(r) is float for r in rewards.values())
            names = env.possible_agents
            assert [list(x) for x in (obs, rewards, terminated, truncated, infos)] == [names] * 5
            assert {terminated[a] or truncated[a] for a in names} == {bool(over)}
            assert env.agents == ([] if over else names)
        assert np.array_equal(np.stack(list(obs.values())), np.stack(expected))  # the final ones
        ends += over
        if over:
            assert env.step({}) == ({}, {}, {}, {}, {})
    assert ends > 0


def foraging_game(options: dict[str, Any] | None = None) -> lbf.Foraging:
    """Two players, of whom the first stands beside the only food and can load it."""
    env = lbf.make("Foraging-5x5-2p-1f-v3", options or {})
    env.reset(seed=0)
    game = env.env
    game.field[:] = 0
    game.field[2, 2] = game._food_spawned = 1
    for player, place in zip(game.players, ((2, 1), (4, 4)), strict=True):
        player.position, player.level = place, 1
    game._gen_valid_moves()
    return env


NONE, NORTH, SOUTH, WEST, EAST, LOAD = range(6)


def send(env: Any, *actions: Any) -> tuple[set[bool], set[bool]]:
    """The flags that a step brings."""
    _, _, terminated, truncated, _ = env.step(dict(zip(env.possible_agents, actions, strict=True)))
    assert {type(flag) for flag in (*terminated.values(), *truncated.values())} == {bool}
    return set(terminated.values()), set(truncated.values())


def test_foraging_ends_by_itself_when_no_food_is_left():
    env = foraging_game()
    assert send(env, NONE, NONE) == ({False}, {False})
    assert send(env, LOAD, NONE) == ({True}, {False})
    assert env.agents == []


def test_foraging_is_truncated_at_its_step_limit():
    env = foraging_game({"max_episode_steps": 3})
    for _ in range(2):
        assert send(env, NONE, NONE) == ({False}, {False})
    assert send(env, NONE, NONE) == ({False}, {True})
    assert env.agents == []


def test_food_that_is_loaded_at_the_step_limit_is_an_end_and_no_truncation():
    env = foraging_game({"max_episode_steps": 3})
    for _ in range(2):
        send(env, NONE, NONE)
    assert send(env, LOAD, NONE) == ({True}, {False})


def test_each_forager_is_given_its_own_reward():
    env = foraging_game({"penalty": 0.25})
    env.env.field[2, 2] = 2
    assert env.step({"agent_0": LOAD, "agent_1": NONE})[1] == {"agent_0": -0.25, "agent_1": 0.0}
    env.env.field[2, 2] = 1
    assert env.step({"agent_0": LOAD, "agent_1": NONE})[1] == {"agent_0": 1.0, "agent_1": 0.0}


@pytest.mark.parametrize(
    ("kind", "paid"), [("individual", [0.0, 1.0]), ("global", [1.0, 1.0]), ("two_stage", [0, 0.5])]
)
def test_robots_are_given_their_own_reward_or_the_teams(kind: str, paid: list[float]):
    env = rware.make("rware-tiny-2ag-v2", {"reward_type": kind})
    env.reset(seed=0)
    game, (x, y) = env.env, env.env.goals[0]
    (idle, robot), shelf = game.agents, game.request_queue[0]
    idle.x, idle.y = 0, 0
    robot.x, robot.y, robot.dir, robot.carrying_shelf = x, y - 1, warehouse.Direction.DOWN, shelf
    shelf.x, shelf.y = x, y - 1
    game._recalc_grid()
    _, rewards, *_ = env.step({"agent_0": 0, "agent_1": 1})
    assert list(rewards.values()) == paid
    assert all(type(r) is float for r in rewards.values())
    assert env.shared_reward is (kind == "global")


@pytest.mark.parametrize(
    ("make", "name", "options", "length"),
    [
        (lbf.make, "Foraging-8x8-2p-2f-coop-v3", {}, 50),
        (lbf.make, "Foraging-8x8-2p-2f-coop-v3", {"max_episode_steps": 7}, 7),
        (lbf.make, "Foraging-8x8-2p-2f-coop-v3", {"max_episode_steps": 80}, 80),
        (rware.make, "rware-tiny-2ag-v2", {}, 500),
        (rware.make, "rware-tiny-2ag-v2", {"max_steps": 13}, 13),
        (rware.make, "rware-tiny-2ag-v2", {"max_inactivity_steps": 9}, 9),
        (rware.make, "rware-tiny-2ag-v2", {"max_inactivity_steps": 600}, 500),
    ],
)
def test_an_episode_of_doing_nothing_is_cut_off_at_the_limit(make: Any, name: str, options: Any, length: int):
    env = make(name, options)
    for _ in range(2):
        env.reset(seed=0)
        for _ in range(length - 1):
            assert send(env, 0, 0) == ({False}, {False})
        assert send(env, 0, 0) == ({False}, {True})
        assert env.agents == []


@pytest.mark.parametrize(("make", "name", "options"), GAMES)
def test_a_seed_means_the_same_game_in_a_used_environment_as_in_a_new_one(make: Any, name: str, options: Any):
    used = make(name, options)
    for seed in range(20):
        new = make(name, options)
        obs, _ = used.reset(seed=seed)
        expected, _ = new.reset(seed=seed)
        assert all(np.array_equal(obs[a], expected[a]) for a in new.agents), f"seed {seed}"
        actions = {a: new.action_space(a).sample() for a in new.agents}
        obs, expected = used.step(actions)[0], new.step(actions)[0]
        assert all(np.array_equal(obs[a], expected[a]) for a in new.possible_agents)


@pytest.mark.parametrize(("make", "name", "options"), GAMES)
def test_without_a_seed_the_random_numbers_go_on(make: Any, name: str, options: Any):
    def starts(env: Any) -> list[np.ndarray]:
        return [np.stack(list(env.reset(seed=seed)[0].values())) for seed in (4, None, None)]

    first, second = starts(make(name, options)), starts(make(name, options))
    assert all(np.array_equal(x, y) for x, y in zip(first, second, strict=True))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[1], first[2])


def may(game: Any, player: Any) -> list[bool]:
    """What the rules of foraging allow: to where there is no wall and no food, and to load what is beside."""
    row, column = player.position
    places = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    inside = [0 <= r < game.rows and 0 <= c < game.cols for r, c in places]
    food = [i and game.field[place] > 0 for i, place in zip(inside, places, strict=True)]
    return [True, *(i and not f for i, f in zip(inside, food, strict=True)), any(food)]


def test_masks_of_foraging():
    env, rng = lbf.make("Foraging-5x5-3p-2f-v3", {}), np.random.default_rng(0)
    loads = 0
    for seed in range(10):
        _, infos = env.reset(seed=seed)
        masks = [infos]
        while env.agents:
            expected = {a: may(env.env, p) for a, p in zip(env.possible_agents, env.env.players, strict=True)}
            given = {a: told["action_mask"] for a, told in masks[-1].items()}
            assert {a: mask.tolist() for a, mask in given.items()} == expected
            assert {mask.dtype for mask in given.values()} == {np.dtype(bool)}
            loads += sum(mask[LOAD] for mask in given.values())
            masks.append(env.step({a: rng.choice(np.flatnonzero(mask)) for a, mask in given.items()})[-1])
        assert list(masks[-1]) == env.possible_agents  # at the end too
    assert loads > 10


def test_all_masks_of_foraging_come_without_its_joint_actions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(foraging.ForagingEnv, "get_valid_actions", lambda self: pytest.fail("exponentially many"))
    foraging_game().step({"agent_0": NONE, "agent_1": NONE})


def test_names_mean_what_the_packages_registrations_say():
    names = [key for key in gymnasium.registry if key.startswith(("Foraging-", "rware-"))]
    assert len(names) > 2000
    for name in names:
        family = lbf if name.startswith("Foraging") else rware
        assert family.settings(name) == gymnasium.spec(name).kwargs, name


def test_foraging_names_beyond_those_registered():
    like = gymnasium.spec("Foraging-15x15-4p-4f-v3").kwargs
    assert "Foraging-15x15-4p-5f-v3" not in gymnasium.registry
    assert lbf.settings("Foraging-15x15-4p-5f-v3") == {**like, "max_num_food": 5}
    assert lbf.settings("Foraging-15x15-4p-4f-ind-v3") == {**like, "max_food_level": 1}
    assert lbf.settings("Foraging-15x15-4p-4f-coop-pen-v3") == {**like, "force_coop": True, "penalty": 0.1}
    assert lbf.settings("Foraging-3s-25x25-12p-4f-v3") == {**like, "field_size": (25, 25), "players": 12, "sight": 3}
    env = lbf.make("Foraging-15x15-4p-5f-v3", {})
    env.reset(seed=0)
    assert len(env.agents) == 4
    assert (env.env.field > 0).sum() == 5


def test_rware_names_beyond_those_registered(monkeypatch: pytest.MonkeyPatch):
    """rware registers them only when asked, and then millions."""
    import rware as package

    seen: dict[str, dict[str, Any]] = {}

    def register(id: str, entry_point: str, kwargs: dict[str, Any]) -> None:
        seen[id] = kwargs
        if len(seen) > 12_000:
            raise StopIteration

    monkeypatch.setattr(package, "register", register)
    package.image_registration()
    with pytest.raises(StopIteration):
        package.full_registration()
    assert {name.split("-v2")[0] for name in seen} >= {"rware-imgdict-Nd-tiny-2ag-easy", "rware-img-5s-tiny-3h-7ag"}
    for name, expected in seen.items():
        settings = rware.settings(name)
        images = {"observation_type", "image_observation_directional"}
        if not images <= set(settings):  # what is left out is the default
            expected = {key: value for key, value in expected.items() if key not in images}
            assert "img" not in name
        assert settings == expected, name
    assert rware.settings("rware-img-2s-4x5-9h-3ag-7req-twostage-v2") == {
        **gymnasium.spec("rware-tiny-3ag-v2").kwargs,
        "shelf_rows": 4,
        "shelf_columns": 5,
        "column_height": 9,
        "sensor_range": 2,
        "request_queue_size": 7,
        "reward_type": warehouse.RewardType.TWO_STAGE,
        "observation_type": warehouse.ObservationType.IMAGE,
        "image_observation_directional": True,
    }


def test_rewards_are_shared_only_where_all_are_given_one_number():
    assert lbf.make("Foraging-8x8-2p-2f-v3", {}).shared_reward is False
    assert rware.make("rware-tiny-2ag-v2", {}).shared_reward is False
    assert rware.make("rware-1x3-8h-2ag-2req-global-v2", {}).shared_reward is True


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (71,)),
        ({"observation_type": "dict"}, (71,)),
        ({"observation_type": "image"}, (3, 3, 5)),
        ({"observation_type": "image", "image_observation_layers": ["shelves", "goals"]}, (3, 3, 2)),
        ({"observation_type": "image_dict"}, (51,)),
        ({"msg_bits": 2}, (89,)),
    ],
)
def test_what_robots_observe_is_read_by_the_vectoriser(options: dict[str, Any], shape: tuple[int, ...]):
    env = vectorised(partial(rware.make, "rware-tiny-2ag-v2", options), 2)
    assert env.spec.obs_shape == shape
    assert env.spec.heads == ((5, 2, 2) if "msg_bits" in options else (5,))
    # The package's dictionaries hold messages that its space does not declare.
    is_told = options == {"observation_type": "dict"}
    with pytest.warns(UserWarning, match="local_message") if is_told else nullcontext():
        step = env.reset(0)
    action = torch.zeros(2, 2, env.spec.action_size, dtype=torch.long)
    if "msg_bits" in options:
        action[..., 1:] = 1
    step = env.step(action)
    assert step.mask is None
    assert step.obs.any()


@pytest.mark.parametrize(
    ("make", "name", "options", "length"),
    [
        (lbf.make, "Foraging-5x5-2p-1f-v3", {"max_episode_steps": 6}, 6),
        (rware.make, "rware-tiny-2ag-v2", {"max_steps": 6}, 6),
    ],
)
def test_in_a_batch(make: Any, name: str, options: dict[str, Any], length: int):
    """Two games in the vectoriser, and the same two by hand: truncated with their last observation."""
    batch, singles = vectorised(partial(make, name, options), 2), [make(name, options) for _ in range(2)]
    assert batch.spec.state_shape is None
    assert not batch.spec.shared_reward
    step = batch.reset(5)
    alive = [True, True]
    for i, env in enumerate(singles):
        obs, _ = env.reset(seed=5 + i)
        assert np.array_equal(step.obs[i], np.stack(list(obs.values())))
    rng, cut = np.random.default_rng(1), 0
    for _ in range(length):
        action = rng.integers(0, batch.spec.heads[0], (2, 2, 1))
        step = batch.step(torch.as_tensor(action))
        for i, env in enumerate(singles):
            if not alive[i]:
                continue  # the next game starts from a seed that only the batch knows
            obs, rewards, terminated, truncated, infos = env.step(dict(zip(env.agents, action[i, :, 0], strict=True)))
            assert np.array_equal(step.next_obs[i], np.stack(list(obs.values())))
            assert step.reward[i].tolist() == pytest.approx(list(rewards.values()))
            assert step.terminated[i].tolist() == list(terminated.values())
            alive[i] = bool(env.agents)
            assert bool(step.ended[i]) == (not alive[i])
            cut += truncated["agent_0"]
            if alive[i] and make is lbf.make:
                assert step.mask is not None
                assert np.array_equal(step.mask[i], [told["action_mask"] for told in infos.values()])
    assert cut > 0


def test_what_is_given_is_nobody_elses():
    for make, name, options in GAMES:
        env = make(name, options)
        obs, infos = env.reset(seed=0)
        given = [*obs.values(), *(told["action_mask"] for told in infos.values() if told)]
        before = [x.copy() for x in given]
        env.agents.pop()
        assert len(env.possible_agents) == len(obs)
        env.reset(seed=1)
        env.step({a: env.action_space(a).sample() for a in env.agents})
        assert all(np.array_equal(x, y) for x, y in zip(given, before, strict=True))
        env.close()


@pytest.mark.parametrize(
    ("make", "name", "options", "told"),
    [
        (lbf.make, "Foraging-8x8-2p-2f-v2", {}, "unknown environment 'lbf/Foraging-8x8-2p-2f-v2'; did you mean 'lbf/F"),
        (lbf.make, "x", {}, "unknown environment 'lbf/x'. Names are like lbf/Foraging-8x8-2p-2f-coop-v3"),
        (lbf.make, "Foraging-8x9-2p-2f-v3", {}, "unknown environment 'lbf/Foraging-8x9-2p-2f-v3'; did you mean"),
        (lbf.make, "Foraging-8x8-0p-2f-v3", {}, "unknown environment 'lbf/Foraging-8x8-0p-2f-v3'; did you mean"),
        (lbf.make, "Foraging-grid-8x8-2p-2f-v3", {}, "lbf/Foraging-grid-8x8-2p-2f-v3: lbforaging 2.0.0 cannot make g"),
        (lbf.make, "Foraging-8x8-2p-2f-v3", {"grid_observation": True}, "lbf/Foraging-8x8-2p-2f-v3: lbforaging 2.0.0"),
        (
            lbf.make,
            "Foraging-8x8-2p-2f-v3",
            {"sights": 2},
            "lbf/Foraging-8x8-2p-2f-v3 has no option 'sights'; there are: players, min_player_level, max_player_level, "
            "min_food_level, max_food_level, field_size, max_num_food, sight, max_episode_steps, force_coop, "
            "normalize_reward, grid_observation, observe_agent_levels, penalty",
        ),
        (lbf.make, "Foraging-8x8-2p-2f-v3", {"render_mode": "human"}, "lbf/Foraging-8x8-2p-2f-v3 has no option 'rende"),
        (
            lbf.make,
            "Foraging-8x8-2p-2f-v3",
            {"min_player_level": 3},
            "lbf/Foraging-8x8-2p-2f-v3 cannot be made with the options {'min_player_level': 3}: AssertionError: min_p",
        ),
        (
            lbf.make,
            "Foraging-8x8-2p-2f-v3",
            {"max_episode_steps": 0},
            "lbf/Foraging-8x8-2p-2f-v3: max_episode_steps mu",
        ),
        (lbf.make, "Foraging-2x2-2p-2f-v3", {}, "lbf/Foraging-2x2-2p-2f-v3: 2 players and food, which lies off the"),
        (lbf.make, "Foraging-5x5-25p-2f-v3", {}, "lbf/Foraging-5x5-25p-2f-v3: 25 players and food, which lies off"),
        (
            rware.make,
            "rware-tiny-2ag-v1",
            {},
            "unknown environment 'rware/rware-tiny-2ag-v1'; did you mean 'rware/rwar",
        ),
        (
            rware.make,
            "rware-tiny-2ag-v2",
            {"steps": 2},
            "rware/rware-tiny-2ag-v2 has no option 'steps'; there are: shelf_columns, column_height, shelf_rows, "
            "n_agents, msg_bits, sensor_range, request_queue_size, max_inactivity_steps, max_steps, reward_type, "
            "layout, observation_type, image_observation_layers, image_observation_directional, "
            "normalised_coordinates",
        ),
        (
            rware.make,
            "rware-tiny-2ag-v2",
            {"reward_type": "team"},
            "rware/rware-tiny-2ag-v2: reward_type must be one of global, individual, two_stage, got 'team'",
        ),
        (
            rware.make,
            "rware-tiny-2ag-v2",
            {"observation_type": 2},
            "rware/rware-tiny-2ag-v2: observation_type must be one of di",
        ),
        (
            rware.make,
            "rware-img-tiny-2ag-v2",
            {"image_observation_layers": "goals"},
            "rware/rware-img-tiny-2ag-v2: image_observation_layers must be a list, got 'goals'",
        ),
        (
            rware.make,
            "rware-tiny-2ag-v2",
            {"max_steps": None},
            "rware/rware-tiny-2ag-v2: nothing ends an episode: use",
        ),
        (rware.make, "rware-tiny-1ag-hard-v2", {}, "rware/rware-tiny-1ag-hard-v2: 0 requests and 1 robots in a wareho"),
        (
            rware.make,
            "rware-1x1-1h-4ag-2req-indiv-v2",
            {},
            "rware/rware-1x1-1h-4ag-2req-indiv-v2: 2 requests and 4 rob",
        ),
        (
            rware.make,
            "rware-1x2-8h-2ag-2req-indiv-v2",
            {},
            "rware/rware-1x2-8h-2ag-2req-indiv-v2 cannot be made with t",
        ),
    ],
)
def test_what_the_user_can_mend(make: Any, name: str, options: dict[str, Any], told: str):
    with pytest.raises(UserError) as raised:
        make(name, options)
    assert str(raised.value).startswith(told)


@pytest.mark.parametrize(
    ("make", "module", "extra"),
    [(lbf.make, "lbforaging.foraging.environment", "lbf"), (rware.make, "rware.warehouse", "rware")],
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, make: Any, module: str, extra: str):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError) as raised:
        make("x", {})
    told = str(raised.value)
    assert told.startswith(f"{module.split('.')[0]} is not installed, or not completely (")
    assert told.endswith(f"): {install_command(extra)}")


def test_what_cannot_be_drawn_says_what_it_needs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(foraging.ForagingEnv, "_init_render", lambda self: ctypes.CDLL("libEGL.so.99"))
    env = foraging_game()
    with pytest.raises(
        UserError, match=r"^ForagingEnv cannot be rendered here \(libEGL.so.99: .*pictures need EGL, on De"
    ):
        env.render()


@pytest.mark.skipif(not DRAWS, reason="no EGL")
def test_pictures_are_drawn_without_a_display_and_of_each_game_alone(monkeypatch: pytest.MonkeyPatch):
    """A game's window clears whichever is current: drawn in turn with another, it would keep what is long gone."""
    monkeypatch.delenv("DISPLAY", raising=False)
    games = [
        lbf.make("Foraging-8x8-2p-2f-v3", {}, True),
        lbf.make("Foraging-8x8-2p-2f-v3", {}, True),
        rware.make("rware-tiny-2ag-v2", {}, True),
    ]
    for seed, env in enumerate(games):
        env.reset(seed=seed)
    pictures = [env.render() for env in games]
    assert [picture.shape for picture in pictures] == [(409, 409, 3), (409, 409, 3), (343, 311, 3)]
    assert {picture.dtype for picture in pictures} == {np.dtype(np.uint8)}
    assert all(picture.min() < 100 and picture.max() == 255 for picture in pictures)
    assert not np.array_equal(pictures[0], pictures[1])
    for _ in range(2):
        assert all(np.array_equal(env.render(), picture) for env, picture in zip(games, pictures, strict=True))
    games[0].reset(seed=1)
    assert np.array_equal(games[0].render(), pictures[1])
    for env in games:
        env.close()
