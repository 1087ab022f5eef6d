"""SMAC's interface in PettingZoo's Parallel API, on battles without StarCraft."""

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from fake_smac import EAST, NO_OP, STOP, FakeLite, FakeSmac
from mappo.core.protocols import Environment
from mappo.envs.adapters.smac import EPISODE_LIMITS, SmacLite, make_smac, make_smaclite, make_smacv2
from mappo.envs.adapters.smac_env import SmacEnv
from mappo.errors import UserError
from vectorized import from_factory

Policy = Callable[[dict[str, Any]], dict[str, int]]


def vectorised(make: Callable[[], Any], num_envs: int) -> Environment:
    return from_factory(make, num_envs)


def at_random(rng: np.random.Generator) -> Policy:
    return lambda infos: {a: rng.choice(np.flatnonzero(told["action_mask"])) for a, told in infos.items()}


def stop(infos: dict[str, Any]) -> dict[str, int]:
    return dict.fromkeys(infos, STOP)


def attack(infos: dict[str, Any]) -> dict[str, int]:
    """The first enemy in range, else to the east."""
    masks = {a: told["action_mask"] for a, told in infos.items()}
    return {a: 6 + int(m[6:].argmax()) if m[6:].any() else EAST if m[EAST] else STOP for a, m in masks.items()}


def play(env: SmacEnv, policy: Policy, seed: int | None = None) -> list[tuple[Any, ...]]:
    """One battle: what each step gave. Only those on `agents` act."""
    _, infos = env.reset(seed=seed)
    steps = list[tuple[Any, ...]]()
    while env.agents:
        steps.append(env.step(policy({a: infos[a] for a in env.agents})))
        infos = steps[-1][-1]
    return steps


def test_it_is_a_plain_loop_over_the_game():
    """Law: rewards, observations, states, masks and ends are the game's, over many battles."""
    env, bare = SmacEnv(FakeSmac(3, episode_limit=5)), FakeSmac(3, episode_limit=5)
    rng, deaths, deaths_at_the_limit = np.random.default_rng(0), 0, 0
    for _ in range(30):
        obs, infos = env.reset()
        bare.reset()
        terminated = False
        while not terminated:
            alive = [f"agent_{i}" for i in range(3) if bare.allies[i]]
            assert env.agents == alive
            assert env.state().dtype == np.float32
            assert np.array_equal(env.state(), bare.get_state())
            assert env.state_space.contains(env.state())
            for i, (seen, mask) in enumerate(zip(bare.get_obs(), bare.get_avail_actions(), strict=True)):
                if f"agent_{i}" in alive:
                    assert np.array_equal(obs[f"agent_{i}"], seen)
                    assert obs[f"agent_{i}"].dtype == np.float32
                    assert infos[f"agent_{i}"]["action_mask"].tolist() == [bool(x) for x in mask]
            actions = {a: np.int64(rng.choice(np.flatnonzero(infos[a]["action_mask"]))) for a in alive}
            obs, rewards, ends, cuts, infos = env.step(actions)
            reward, terminated, info = bare.step([int(actions.get(f"agent_{i}", NO_OP)) for i in range(3)])
            assert rewards == dict.fromkeys(alive, float(reward))
            assert all(type(r) is float for r in rewards.values())
            died = [a for i, a in enumerate(env.possible_agents) if a in alive and not bare.allies[i]]
            deaths += len(died)
            deaths_at_the_limit += len(died) * any(cuts.values())
            decided = info["battle_won"] or not bare.allies.any()
            assert ends == {a: a in died or (terminated and decided) for a in alive}
            assert cuts == {a: a not in died and terminated and not decided for a in alive}
            assert {infos[a]["battle_won"] for a in alive} == {info["battle_won"]}
            assert (env.agents == []) is terminated
        assert env.step({}) == ({}, {}, {}, {}, {})
    assert env.env.sent == bare.sent
    assert deaths > 20
    assert deaths_at_the_limit > 0


def test_the_step_limit_is_a_truncation_whether_or_not_the_game_tells():
    for loud in (False, True):
        # Nobody is ever in range of who stays at home, and one enemy cannot kill 12 in 7 steps.
        env = SmacEnv(FakeSmac(n_agents=3, n_enemies=1, episode_limit=7, health=12, loud=loud))
        steps = play(env, stop)
        assert len(steps) == 7
        everyone = env.possible_agents
        for obs, _, ends, cuts, _ in steps[:-1]:
            assert list(obs) == everyone
            assert not any(ends.values())
            assert not any(cuts.values())
        obs, _, ends, cuts, infos = steps[-1]
        assert ends == dict.fromkeys(everyone, False)
        assert cuts == dict.fromkeys(everyone, True)
        assert infos["agent_0"].get("episode_limit", False) is loud
        assert np.array_equal(np.stack(list(obs.values())), np.stack(env.env.get_obs()))


def test_a_battle_decided_at_the_very_limit_is_over_by_itself():
    for policy, damage, won in ((attack, 0, True), (stop, 2, False)):
        length = len(play(SmacEnv(FakeSmac(damage=damage, episode_limit=99)), policy))
        for limit in (length - 1, length, length + 1):
            steps = play(SmacEnv(FakeSmac(damage=damage, episode_limit=limit)), policy)
            *_, ends, cuts, infos = steps[-1]
            assert len(steps) == min(limit, length)
            assert {told["battle_won"] for told in infos.values()} == {won and limit >= length}
            assert set(cuts.values()) == {limit < length}
            assert set(ends.values()) == {limit >= length}


def test_a_battle_lost_with_a_medic_alive_is_lost_at_the_limit_too():
    """SMAC counts it as lost when none but medics are left: somebody is alive then, and nobody has won."""

    def battle(seed: int, limit: int) -> tuple[FakeSmac, list[tuple[Any, ...]]]:
        env = SmacEnv(FakeSmac(seed, medics=(2,), episode_limit=limit))
        steps = play(env, stop)
        return env.env, steps

    seed = next(seed for seed in range(100) if battle(seed, 99)[0].allies.any())
    length = len(battle(seed, 99)[1])
    for limit in (length, length + 1):
        game, steps = battle(seed, limit)
        assert (game.allies > 0).tolist() == [False, False, True]
        assert len(steps) == length
        assert steps[-1][2]["agent_2"] is True
        assert steps[-1][3]["agent_2"] is False


def test_who_died_is_off_the_list_and_sends_the_no_op():
    env = SmacEnv(FakeSmac(episode_limit=99))
    steps = play(env, stop)
    gone = {a: min(t for t, step in enumerate(steps) if step[2].get(a)) for a in env.possible_agents}
    assert len(set(gone.values())) > 1
    for t, (obs, rewards, ends, cuts, infos) in enumerate(steps):
        there = [a for a in env.possible_agents if gone[a] >= t]
        assert [list(x) for x in (obs, rewards, ends, cuts, infos)] == [there] * 5
        assert [a for a in there if ends[a]] == [a for a in there if gone[a] == t]
        for a in there:
            assert obs[a].any() == (gone[a] > t)  # of the dead, zeros
        assert env.env.sent[t] == [STOP if gone[a] >= t else NO_OP for a in env.possible_agents]
        assert all(type(action) is int for action in env.env.sent[t])


def test_rewards_are_the_teams_and_come_to_20_at_most():
    steps = play(SmacEnv(FakeSmac(damage=0, episode_limit=99)), attack)
    assert SmacEnv.shared_reward is True
    assert sum(next(iter(step[1].values())) for step in steps) == pytest.approx(20)


@pytest.mark.parametrize("crash_at", [1, 3])
def test_a_crash_of_starcraft_is_a_truncation_and_shows_what_was_seen_last(crash_at: int):
    env = SmacEnv(FakeSmac(health=9, crash_at=crash_at))
    obs, infos = env.reset()
    for _ in range(crash_at - 1):
        obs, _, _, _, infos = env.step(stop(infos))
    seen, state = np.stack(list(obs.values())), env.state().copy()
    obs, rewards, ends, cuts, infos = env.step(stop(infos))
    assert rewards == dict.fromkeys(env.possible_agents, 0.0)
    assert ends == dict.fromkeys(env.possible_agents, False)
    assert cuts == dict.fromkeys(env.possible_agents, True)
    assert env.agents == []
    assert np.array_equal(np.stack(list(obs.values())), seen)
    assert np.array_equal(env.state(), state)
    assert infos["agent_0"]["action_mask"].any()
    assert len(play(env, stop)) > 1  # and the next battle is as good as any
    assert env.env.most_running == 1


def test_starcraft_is_started_once_however_often_a_first_battle_is_left():
    env = SmacEnv(FakeSmac())
    for _ in range(3):
        _, infos = env.reset()
        env.step(stop(infos))
    assert (env.env.running, env.env.most_running) == (1, 1)
    play(env, stop)
    env.reset()
    assert (env.env.running, env.env.most_running) == (1, 1)
    env.close()
    assert env.env.running == 0


def test_what_reset_returns_is_not_read():
    env, other = SmacEnv(FakeSmac(4, retries=True)), SmacEnv(FakeSmac(4))
    (obs, infos), (expected, _) = env.reset(seed=1), other.reset()
    assert list(infos) == list(obs) == env.possible_agents
    assert all(np.array_equal(obs[a], expected[a]) for a in obs)


def test_nothing_given_is_written_over():
    env = SmacEnv(FakeSmac(health=9))
    obs, infos = env.reset()
    given = [*obs.values(), env.state(), *(told["action_mask"] for told in infos.values())]
    before = [x.copy() for x in given]
    env.step(dict.fromkeys(env.agents, EAST))
    assert all(np.array_equal(x, y) for x, y in zip(given, before, strict=True))
    assert env.agents is not env.possible_agents


def test_a_limit_may_be_given_where_there_is_none_or_a_later_one():
    assert SmacEnv(FakeSmac(episode_limit=12), 20).episode_limit == 12
    steps = play(SmacEnv(FakeSmac(episode_limit=12, health=99), 5), stop)
    assert len(steps) == 5
    assert set(steps[-1][3].values()) == {True}
    for limit in (None, 0, -3):
        with pytest.raises(UserError, match=r"^SmacLite has no step limit: use an episode_limit of 1 or more$"):
            SmacEnv(SmacLite(FakeLite(render_mode="rgb_array")), limit)


def test_pictures():
    env = SmacEnv(FakeSmac())
    _, infos = env.reset()
    env.step(stop(infos))
    picture = env.render()
    assert (picture.shape, picture.dtype, int(picture.max())) == ((4, 6, 3), np.uint8, 1)
    env.env = SimpleNamespace()
    with pytest.raises(UserError, match=r"^SimpleNamespace cannot be rendered: it has no render$"):
        env.render()


def legal(mask: Tensor, generator: torch.Generator) -> Tensor:
    """At random, with a liking for attacks and for the east, where enemies are."""
    liking = torch.tensor([1.0, 1, 1, 1, 9, 1, 40, 40])
    return torch.multinomial((mask * liking).flatten(0, 1), 1, generator=generator).view(*mask.shape[:2], 1)


def test_in_a_batch():
    """Two games in the vectoriser, and the same two by hand."""
    games: list[FakeSmac] = []

    def make() -> SmacEnv:
        games.append(FakeSmac(10 + len(games), episode_limit=5))
        return SmacEnv(games[-1])

    env, singles = vectorised(make, 2), [SmacEnv(FakeSmac(seed, episode_limit=5)) for seed in (10, 11)]
    assert env.spec.shared_reward
    assert env.spec.state_shape == (15,)
    assert env.spec.obs_shape == (7,)
    assert env.spec.heads == (8,)
    step, generator = env.reset(0), torch.Generator().manual_seed(0)
    for single in singles:
        single.reset()
    seen = {"won": 0, "died": 0, "cut": 0}
    for _ in range(150):
        assert step.mask is not None
        action = legal(step.mask, generator)
        step = env.step(action)
        for i, single in enumerate(singles):
            names = single.agents
            acted = {a: int(action[i, single.possible_agents.index(a), 0]) for a in names}
            obs, rewards, ends, cuts, infos = single.step(acted)
            assert step.reward[i].tolist() == pytest.approx([next(iter(rewards.values()))] * 3)
            assert step.next_state is not None
            assert np.array_equal(step.next_state[i], single.state())
            for j, a in enumerate(single.possible_agents):
                if a in names and not ends[a]:
                    assert np.array_equal(step.next_obs[i, j], obs[a])
            assert bool(step.ended[i]) == (not single.agents)
            if single.agents:
                assert step.active[i].tolist() == [a in single.agents for a in single.possible_agents]
                seen["died"] += sum(ends.values())
            else:
                assert bool(step.terminated[i].all()) == (not any(cuts.values()))
                seen["won"] += infos[names[0]]["battle_won"]
                seen["cut"] += any(cuts.values())
                obs, infos = single.reset()
            for j, a in enumerate(single.possible_agents):
                if a in single.agents:
                    assert np.array_equal(step.obs[i, j], obs[a])
                    assert step.mask is not None
                    assert np.array_equal(step.mask[i, j], infos[a]["action_mask"])
    assert min(seen.values()) > 0, seen


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """SMAC, SMACv2, SMAClite and pysc2, as far as they are called when an environment is made."""
    made: dict[str, Any] = {"maps": ["SMAC_Maps/3m.SC2Map", "SMAC_Maps/10gen_zerg.SC2Map"]}

    def starcraft(map_name: str = "8m", difficulty: str = "7", capability_config: Any = None, **known: Any) -> FakeSmac:
        made["smac"] = {"map_name": map_name, "difficulty": difficulty, "capability_config": capability_config, **known}
        return FakeSmac(episode_limit=60)

    def wrapper(**settings: Any) -> FakeSmac:
        game = starcraft(**settings)
        settings["capability_config"]["team_gen"]["env_key"] = "team_gen"  # it writes there
        return game

    def map_data(path: str) -> None:
        if path not in made["maps"]:
            raise ValueError(f"Map {path} not found")

    def config(version: str | None) -> Any:
        if "binary" not in made:
            raise FileNotFoundError("no Versions")
        return SimpleNamespace(map_data=map_data)

    def module(name: str, **held: Any) -> None:
        new = ModuleType(name)
        new.__dict__.update(held)
        monkeypatch.setitem(sys.modules, name, new)

    def registry() -> dict[str, Any]:
        return {"3m": {}, "2s3z": {}}

    for name in ("smac", "smac.env.starcraft2", "smac.env.starcraft2.maps", "smacv2", "pysc2"):
        module(name)
    module("smac.env", StarCraft2Env=starcraft)
    module("smac.env.starcraft2.maps.smac_maps", get_smac_map_registry=registry)
    module("smacv2.env", StarCraftCapabilityEnvWrapper=wrapper, StarCraft2Env=starcraft)
    module("pysc2.run_configs", get=config)
    module("pysc2.maps", get=lambda name: SimpleNamespace(path=f"SMAC_Maps/{name}.SC2Map"))
    module("smaclite")
    module("smaclite.env", SMACliteEnv=FakeLite)
    for name, settings in (("2s3z", {"map_info": 9}), ("MMM2", {"map_info": 9}), ("custom", {})):
        spec = gymnasium.envs.registration.EnvSpec(f"smaclite/{name}-v0", entry_point="none", kwargs=settings)
        monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    return made


def test_smac_by_name(packages: dict[str, Any]):
    packages["binary"] = True
    env = make_smac("3m", {"difficulty": "9"})
    assert packages["smac"] == {"map_name": "3m", "difficulty": "9", "capability_config": None}
    assert env.episode_limit == 60
    for name, options, told in (
        ("2s3", {}, "unknown environment 'smac/2s3'; did you mean 'smac/2s3z'?"),
        ("3m", {"difficult": 1}, "smac/3m has no option 'difficult'; there are: difficulty, capability_config, known"),
        ("3m", {"map_name": "2s3z"}, "smac/3m has no option 'map_name'"),
        ("2s3z", {}, "smac/2s3z needs StarCraft II and the map 2s3z (Map SMAC_Maps/2s3z.SC2Map not found)"),
    ):
        with pytest.raises(UserError) as raised:
            make_smac(name, options)
        assert str(raised.value).startswith(told)
    del packages["binary"]
    with pytest.raises(UserError, match=r"needs StarCraft II .*no Versions.*SC2PATH"):
        make_smac("3m", {})


@pytest.mark.parametrize(
    ("name", "ours", "theirs"), [("zerg_5_vs_5", 5, 5), ("zerg_10_vs_11", 10, 11), ("10gen_zerg", 5, 5)]
)
def test_smacv2_by_name(packages: dict[str, Any], name: str, ours: int, theirs: int):
    """The published configurations: units, how often each, and which makes no team alone."""
    packages["binary"] = True
    make_smacv2(name, {"difficulty": "9"})
    settings = packages["smac"]
    config = settings.pop("capability_config")
    assert settings == {
        "map_name": "10gen_zerg",
        "difficulty": "9",
        "obs_own_pos": True,
        "use_unit_ranges": True,
        "min_attack_range": 2,
    }
    assert config.pop("team_gen") == {
        "dist_type": "weighted_teams",
        "unit_types": ["zergling", "baneling", "hydralisk"],
        "weights": [0.45, 0.1, 0.45],
        "exception_unit_types": ["baneling"],
        "observe": True,
        "env_key": "team_gen",
    }
    places = {"dist_type": "surrounded_and_reflect", "p": 0.5, "map_x": 32, "map_y": 32}
    assert config == {"n_units": ours, "n_enemies": theirs, "start_positions": places}


def test_smacv2_leaves_the_users_options_alone(packages: dict[str, Any]):
    packages["binary"] = True
    options = {"capability_config": {"n_units": 3, "n_enemies": 3, "team_gen": {"dist_type": "all_teams"}}}
    make_smacv2("zerg_5_vs_5", options)
    assert packages["smac"]["capability_config"]["n_units"] == 3
    assert options["capability_config"]["team_gen"] == {"dist_type": "all_teams"}
    with pytest.raises(UserError, match=r"^unknown environment 'smacv2/zerg_5_v_5'; did you mean 'smacv2/zerg_5_vs_5'"):
        make_smacv2("zerg_5_v_5", {})
    with pytest.raises(UserError, match=r"has no option 'difficult'"):
        make_smacv2("zerg_5_vs_5", {"difficult": 1})
    with pytest.raises(UserError, match=r"^smacv2/terran_5_vs_5 needs StarCraft II and the map 10gen_terran"):
        make_smacv2("terran_5_vs_5", {})


@pytest.mark.usefixtures("packages")
def test_smaclite_by_name(capsys: pytest.CaptureFixture[str]):
    for name in ("2s3z", "2s3z-v0"):
        env = make_smaclite(name, {}, render=True)
        assert env.episode_limit == EPISODE_LIMITS["2s3z"] == 120
        assert env.env.env.game.health == 9
    assert capsys.readouterr().out == ""
    assert make_smaclite("MMM2", {"episode_limit": 6}).episode_limit == 6
    env.reset(seed=0)
    assert env.render().shape == (4, 6, 3)
    for name, options, told in (
        ("2s3y", {}, "unknown environment 'smaclite/2s3y'; did you mean 'smaclite/2s3z'?"),
        ("2s3z", {"x": 1}, "smaclite/2s3z has no option 'x'; there are: map_file, seed, settings, episode_limit"),
        ("custom", {"map_file": "x.json"}, "SmacLite has no step limit: use an episode_limit of 1 or more"),
    ):
        with pytest.raises(UserError) as raised:
            make_smaclite(name, options)
        assert str(raised.value).startswith(told)


@pytest.mark.usefixtures("packages")
def test_smaclite_is_cut_at_the_limit_and_starts_the_same_from_a_seed():
    def played(env: SmacEnv, seed: int) -> list[np.ndarray]:
        states, rng = list[np.ndarray](), np.random.default_rng(5)
        _, infos = env.reset(seed=seed)
        states.append(env.state())
        while env.agents:
            *_, infos = env.step(at_random(rng)({a: infos[a] for a in env.agents}))
            states.append(env.state())
        return states

    used = make_smaclite("2s3z", {"episode_limit": 6})
    played(used, 1)
    first, again = played(make_smaclite("2s3z", {"episode_limit": 6}), 2), played(used, 2)
    assert len(first) == len(again)
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    steps = play(make_smaclite("2s3z", {"episode_limit": 2}), stop, seed=0)
    assert [set(step[3].values()) for step in steps] == [{False}, {True}]
    assert set(steps[-1][2].values()) == {False}


@pytest.mark.parametrize("make", [make_smac, make_smacv2, make_smaclite])
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, make: Any):
    package = make.__name__.removeprefix("make_")
    owner = {"smaclite": "uoe-agents"}.get(package, "oxwhirl")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as raised:
        make("2s3z", {})
    assert str(raised.value).startswith(f"{package} is not installed, or not completely (")
    assert f"git+https://github.com/{owner}/{package}'" in str(raised.value)


def test_another_protobuf_than_asked_for_is_the_users_to_mend(monkeypatch: pytest.MonkeyPatch):
    def fail(name: str) -> Any:
        raise TypeError("Descriptors cannot be created directly.\nIf this call came from a _pb2.py file, ...")

    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(UserError, match=r"not completely \(Descriptors cannot be created directly\.\): pip install"):
        make_smac("3m", {})


def test_workers_need_no_torch():
    code = "import sys; from mappo.envs.adapters import lbf, rware, smac; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
