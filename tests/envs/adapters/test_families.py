"""Environments of other packages, each through the whole way from its name to a `TimeStep`.

What a `CASES` entry has is what docs/environments.md says of it: the last tests hold the page to this file.
"""

import ctypes.util
import functools
import itertools
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from lbforaging.foraging import environment as foraging
from torch import Tensor

import mappo
from fake_smac import FakeLite, FakeSmac
from mappo import envs
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.config.settings import EnvOptions
from mappo.core.protocols import Environment, Renderable
from mappo.core.timestep import TimeStep
from mappo.envs.adapters.smac import SmacLite
from mappo.envs.adapters.smac_env import SmacEnv
from mappo.envs.adapters.vmas import Vmas
from mappo.envs.registry import FAMILIES
from mappo.envs.vector.serial import SerialEnvs
from mappo.errors import UserError
from mappo.policies.random_policy import RandomPolicy
from paths import ROOT
from timestep_checks import check_time_step
from vectorized import from_factory

E = 4
SEED = 7
PAGE = ROOT / "docs/environments.md"
DRAWS = sys.platform == "linux" and all(map(ctypes.util.find_library, ("EGL", "GL", "GLU")))


@dataclass(frozen=True)
class Case:
    """An environment with short episodes.

    Args:
        limit: steps after which an episode is cut off, by its options. steps: how many are played.
        has: `masks`; `deaths`; `ends`: some of these episodes end by themselves; `render`; `gl`: and needs OpenGL for
            it; `seeds`: the same is the same game; `others`: and another seed another game.
        script: actions `(E, A, D)` of a step, from its number and random ones.
        make: what makes one, where it has no name here.
    """

    limit: int
    steps: int
    options: Mapping[str, Any] = field(default_factory=dict)
    has: str = "render seeds others"
    script: Callable[[int, Tensor], Tensor] = lambda t, action: action
    make: Callable[[], Any] | None = None


def attack(t: int, action: Tensor) -> Tensor:
    """In two of four games one of the blue goes to one of the red, who stay, and fights until one is dead."""
    stay, two_west, one_west, hit_west = 6, 4, 5, 16
    action[:2] = stay
    action[:2, 2] = two_west if t < 4 else one_west if t == 4 else hit_west
    return action


def topple(t: int, action: Tensor) -> Tensor:
    return torch.tensor([-1.0, 1, -1, 1]).expand_as(action)


CASES = {
    "mpe2/simple_spread_v3": Case(6, 14, {"max_cycles": 6}),
    "mpe2/simple_speaker_listener_v4": Case(6, 14, {"max_cycles": 6, "continuous_actions": True}),
    "lbf/Foraging-5x5-2p-1f-v3": Case(8, 18, {"max_episode_steps": 8}, "masks ends render gl seeds others"),
    "rware/rware-tiny-2ag-v2": Case(6, 14, {"max_steps": 6}, "render gl seeds others"),
    "mamujoco/Hopper-3x1": Case(20, 45, {"max_episode_steps": 20}, "ends render gl seeds others"),
    "sisl/multiwalker_v9": Case(
        52,
        60,
        {"max_cycles": 52, "n_walkers": 2, "terminate_on_fall": False},
        "deaths ends render seeds others",
        script=topple,
    ),
    "sisl/pursuit_v5": Case(6, 14, {"max_cycles": 6, "n_pursuers": 2, "n_evaders": 2}),
    "butterfly/knights_archers_zombies_v11": Case(
        45, 60, {"max_cycles": 45, "line_death": True}, "deaths render seeds others"
    ),
    "butterfly/pistonball_v6": Case(4, 6, {"max_cycles": 4, "n_pistons": 4}),
    "butterfly/cooperative_pong_v6": Case(4, 6, {"max_cycles": 4}),
    "magent2/battle_v4": Case(14, 20, {"max_cycles": 14, "map_size": 12}, "deaths render seeds", script=attack),
    "smac/...": Case(
        12, 40, has="masks deaths ends render", make=lambda: SmacEnv(FakeSmac(episode_limit=12, damage=1))
    ),
    "smaclite/...": Case(
        6,
        30,
        has="masks deaths ends render seeds others",
        make=lambda: SmacEnv(SmacLite(FakeLite(map_info=6, render_mode="rgb_array")), 6),
    ),
    "vmas/balance": Case(6, 14, {"max_steps": 6}, "render gl seeds others"),
    "envpool/Cleaner-v0": Case(6, 14, {"max_steps": 6}, "masks seeds others"),
}
BATCHED = [key for key in CASES if FAMILIES[key.partition("/")[0]].batched]
SINGLE = [key for key in CASES if key not in BATCHED]


def having(what: str, keys: Any = CASES) -> list[str]:
    return [key for key in keys if what in CASES[key].has.split()]


def each(keys: Any) -> pytest.MarkDecorator:
    """Run a test for each environment; vmas is under the GPL."""
    marked = [pytest.param(key, marks=pytest.mark.gpl) if key.startswith("vmas/") else key for key in keys]
    return pytest.mark.parametrize("key", marked)


def made(key: str, workers: int = 0, num_envs: int = E, **settings: Any) -> Environment:
    kind, case = FAMILIES[key.partition("/")[0]], CASES[key]
    if case.make is not None:
        return from_factory(case.make, num_envs, workers=workers)
    if kind.extra == "envpool":  # large, and no part of `dev`
        pytest.importorskip(kind.module)
    return envs.make(key, num_envs, options=case.options, workers=workers, **settings)


def play(key: str, env: Environment, seed: int, steps: int) -> tuple[list[TimeStep], list[Tensor]]:
    """The steps from a reset on, and the legal random actions between them."""
    policy, seen, sent = RandomPolicy(env.spec, 0), [env.reset(seed)], list[Tensor]()
    for t in range(steps):
        sent.append(CASES[key].script(t, policy(seen[-1].obs, mask=seen[-1].mask)[0]))
        seen.append(env.step(sent[-1]))
    return seen, sent


@functools.cache
def played(key: str, workers: int = 0) -> tuple[Any, list[TimeStep], list[Tensor]]:
    """The spec, and a play in new environments."""
    with closing(made(key, workers)) as env:
        return env.spec, *play(key, env, SEED, CASES[key].steps)


def same(a: TimeStep, b: TimeStep) -> None:
    for each in fields(TimeStep):
        x, y = getattr(a, each.name), getattr(b, each.name)
        assert (x is None) == (y is None), each.name
        assert x is None or (x.dtype == y.dtype and torch.equal(x, y)), each.name


@each(CASES)
def test_reset_and_step_keep_the_contract(key: str):
    spec, steps, _ = played(key)
    for step in steps:
        check_time_step(spec, step, E)
        assert (step.mask is not None) == (key in having("masks"))
        if step.mask is not None:
            assert step.mask[step.active].any(-1).all()
    first = steps[0]
    assert first.active.all()
    assert first.is_first.all()
    assert not first.reward.any()
    assert not first.terminated.any()
    assert not first.ended.any()
    assert torch.equal(first.obs, first.next_obs)
    for before, step in itertools.pairwise(steps):
        on = ~step.ended
        assert torch.equal(step.is_first, step.active & step.ended.unsqueeze(1)), "nobody comes back"
        assert torch.equal(step.next_obs[on], step.obs[on])
        assert torch.equal(step.next_active[on], step.active[on])
        assert not (step.next_active & ~before.active).any()
        assert step.active[step.ended].all()


@each(SINGLE)
def test_the_pool_is_the_plain_loop(key: str):
    """Law 10, bit for bit, over episodes, their ends and what follows."""
    spec, loop, _ = played(key)
    pool_spec, pool, _ = played(key, 2)
    assert pool_spec == spec
    assert any(step.ended.any() for step in loop)
    for step, expected in zip(pool, loop, strict=True):
        same(step, expected)


class ByHand:
    """One environment, stepped and reset by hand: what a `TimeStep` should say of it, in numpy."""

    def __init__(self, env: Any, spec: Any, seed: int) -> None:
        self.env, self.spec, self.seed, self.episode = env, spec, seed, 0
        self.names = env.possible_agents
        self.now = self.begun()

    def begun(self) -> dict[str, Any]:
        derived = np.random.SeedSequence([self.seed, self.episode]).generate_state(1)[0] % 2**31
        obs, infos = self.env.reset(seed=int(derived) if self.episode else self.seed)
        self.infos, state = infos, self.state()
        return {"obs": self.rows(obs), "state": state, "active": self.there(), "is_first": self.there()}

    def step(self, action: np.ndarray) -> dict[str, Any]:
        names, spec, acted = self.names, self.spec, list(self.env.agents)
        obs, rewards, ends, cuts, self.infos = self.env.step({a: self.own(a, action[names.index(a)]) for a in acted})
        pay = dict.fromkeys(names, rewards[acted[0]]) if spec.shared_reward else {a: rewards[a] for a in acted}
        over = not self.env.agents
        told = {"reward": np.array([pay.get(a, 0) for a in names], np.float32), "ended": np.array(over)}
        if over:
            cut = any(cuts[a] and not ends[a] for a in acted)
            told["terminated"] = np.array([not cut or (a in acted and ends[a]) for a in names])
            told["next_active"] = np.array([a in acted and not ends[a] for a in names])
            told |= {"next_obs": self.rows(obs), "next_state": self.state()}
            self.episode += 1
            return told | self.begun()
        told["terminated"] = np.array([a in acted and (ends[a] or cuts[a]) for a in names])
        obs, state = self.rows({a: obs[a] for a in self.env.agents}), self.state()
        told |= {"obs": obs, "state": state, "active": self.there(), "is_first": np.zeros(len(names), bool)}
        return told | {f"next_{name}": told[name] for name in ("obs", "state", "active")}

    def there(self) -> np.ndarray:
        return np.array([a in self.env.agents for a in self.names])

    def state(self) -> Any:
        return None if self.spec.state_shape is None else np.asarray(self.env.state(), np.float32)

    def own(self, agent: str, columns: np.ndarray) -> Any:
        space, j = self.env.action_space(agent), self.names.index(agent)
        if isinstance(space, spaces.Discrete):
            return int(columns[0])
        return columns[self.spec.action_columns(j)].astype(space.dtype).clip(space.low, space.high)

    def rows(self, obs: Mapping[str, Any]) -> np.ndarray:
        """Flat and padded; zeros where there is no observation."""
        size = int(np.prod(self.spec.obs_shape))
        own = [np.asarray(obs[a], np.float32).ravel() if a in obs else np.zeros(0, np.float32) for a in self.names]
        return np.stack([np.pad(x, (0, size - len(x))) for x in own])


@each(SINGLE)
def test_the_plain_loop_is_a_loop_by_hand_over_single_environments(key: str):
    """Law 10: final observations, masks, deaths, the seeds of later episodes included."""
    spec, (first, *steps), actions = played(key)
    case = CASES[key]
    make = case.make or envs.factory(key, EnvOptions(options=case.options))
    for i in range(E):
        one = ByHand(make(), spec, SEED + i)
        with closing(one.env):
            for t, step in enumerate([first, *steps]):
                told = one.now if t == 0 else one.step(actions[t - 1][i].double().numpy())
                for name, expected in told.items():
                    shown = getattr(step, name)
                    assert (shown is None) == (expected is None), name
                    if shown is None:
                        continue
                    shown, expected = shown[i].float().numpy(), expected.reshape(shown[i].shape)
                    if name == "next_obs" and told["ended"]:  # what the dead saw last is nobody's
                        shown, expected = shown[told["next_active"]], expected[told["next_active"]]
                    np.testing.assert_array_equal(shown, expected, f"{name} of step {t}")
                if step.mask is not None:
                    for a in one.env.agents:
                        j = one.names.index(a)
                        assert step.mask[i, j].tolist() == one.infos[a]["action_mask"].tolist()


@each(CASES)
def test_a_time_limit_truncates_with_the_final_observation(key: str):
    _, steps, _ = played(key)
    case, length, truncated, finished = CASES[key], [0] * E, 0, 0
    for step in steps[1:]:
        for i in range(E):
            length[i] += 1
            assert bool(step.ended[i]) or length[i] < case.limit
            if not step.ended[i]:
                continue
            cut = not step.terminated[i].all()
            assert not cut or length[i] == case.limit, "only the limit cuts"
            truncated, finished, length[i] = truncated + cut, finished + (not cut), 0
            if cut:
                there = step.next_active[i]
                assert torch.equal(step.terminated[i], ~there & step.terminated[i]), "who is there goes on elsewhere"
                assert there.any()
                assert not torch.equal(step.next_obs[i][there], step.obs[i][there]), "not the next game's first"
    assert truncated > 0
    assert (finished > 0) == (key in having("ends"))


@each(having("deaths"))
def test_who_dies_is_gone_and_the_episode_goes_on(key: str):
    spec, steps, _ = played(key)
    dead, deaths, outlived = torch.zeros(E, spec.num_agents, dtype=torch.bool), 0, 0
    for before, step in itertools.pairwise(steps):
        on = ~step.ended.unsqueeze(1)
        died = step.terminated & on
        deaths += int(died.sum())
        assert before.active[died].all(), "once"
        outlived += int((dead.any(1) & step.ended & step.next_active.any(1)).sum())
        assert not step.next_active[dead].any()
        dead = (dead | died) & on
        assert not step.active[dead].any()
        assert not step.obs[dead].any()
        assert spec.shared_reward or not step.reward[dead & ~died].any()
        assert torch.equal(step.active, ~dead), "all others are there, after a reset everyone"
    assert deaths >= 2
    assert outlived >= 1, "somebody was cut off by the time limit after another had died"


@each(having("seeds"))
def test_a_seed_makes_the_game(key: str):
    """The same one in environments that have played others, whose neighbours' seeds are others."""
    _, expected, _ = played(key)
    count = min(CASES[key].limit + 1, CASES[key].steps)
    with closing(made(key)) as env:
        other, _ = play(key, env, SEED + 90, count)
        again, _ = play(key, env, SEED, count)
        shifted = env.reset([SEED + 2, SEED + 1, SEED + 3, SEED])
        there, back = ([env.reset(s).obs for s in order] for order in (range(0, 60, E), range(56, -E, -E)))
    for step, known in zip(again, expected, strict=False):
        same(step, known)
    differ = [not torch.equal(x.obs, y.obs) for x, y in zip(other, expected, strict=False)]
    assert any(differ) == (key in having("others"))
    if not isinstance(env, Vmas):  # which has one stream for all
        assert torch.equal(shifted.obs, expected[0].obs[[2, 1, 3, 0]])
    assert all(map(torch.equal, there, reversed(back))), "whatever was there before"


def test_foragers_are_offered_what_the_rules_allow():
    forbidden = 0
    with closing(made("lbf/Foraging-5x5-2p-1f-v3")) as env:
        assert isinstance(env, SerialEnvs)
        games, policy, step = [one.env for one in env.envs], RandomPolicy(env.spec, 0), env.reset(SEED)
        for _ in range(30):
            assert step.mask is not None
            rules = [[[g._is_valid_action(p, a) for a in foraging.Action] for p in g.players] for g in games]
            assert step.mask.tolist() == rules
            forbidden += int((~step.mask).sum())
            step = env.step(policy(step.obs, mask=step.mask)[0])
    assert forbidden > 100


@pytest.mark.parametrize("key", ["smac/...", "smaclite/..."])
def test_smac_takes_what_is_offered_and_nothing_else(key: str):
    stop, taken, refused = 1, 0, 0
    env = made(key, num_envs=1)
    for choice in range(env.spec.heads[0]):
        step, action = env.reset(SEED), torch.full((1, env.spec.num_agents, 1), stop)
        action[0, 0] = choice
        assert step.mask is not None
        if step.mask[0, 0, choice]:
            env.step(action)
            taken += 1
        else:
            with pytest.raises(UserError, match=f"Agent 0 cannot perform action {choice}"):
                env.step(action)
            refused += 1
    assert taken >= 3
    assert refused >= 3


def test_cleaners_end_their_game_by_what_is_not_offered():
    with closing(made("envpool/Cleaner-v0")) as env:
        step = env.reset(SEED)
        assert step.mask is not None
        action = step.mask.int().argmax(-1, keepdim=True)
        action[1, 2] = step.mask[1, 2].int().argmin()
        step = env.step(action)
    assert step.ended.tolist() == [False, True, False, False]
    assert step.terminated.tolist() == [[False] * 3, [True] * 3, [False] * 3, [False] * 3]


@each(having("render"))
@pytest.mark.filterwarnings("ignore:The system font .* couldn't be found:UserWarning")
def test_pictures_show_the_game(key: str):
    if key in having("gl") and not DRAWS:
        pytest.skip("no EGL, GL and GLU here")
    pictures = list[np.ndarray]()
    with closing(made(key, num_envs=1, render=True)) as env:
        assert isinstance(env, Renderable)
        policy, step = RandomPolicy(env.spec, 0), env.reset(SEED)
        for _ in range(3):
            step = env.step(policy(step.obs, mask=step.mask)[0])
            pictures.append(env.render(0).copy())
    for picture in pictures:
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3
        assert picture.any()
    assert any((x.shape != pictures[0].shape) or (x != pictures[0]).any() for x in pictures)


@pytest.mark.parametrize("key", ["mpe2/simple_spread_v3", "lbf/Foraging-5x5-2p-1f-v3"])
def test_a_run_is_the_same_for_any_number_of_workers(key: str, tmp_path: Path):
    """Law 13."""
    texts = list[bytes]()
    for workers in (0, 1, 2):
        options = tuple(f"{name}={value}" for name, value in CASES[key].options.items())
        config = Config(
            env=EnvConfig(num_envs=4, options=options, workers=workers),
            network=NetworkConfig(hidden=(8,)),
            ppo=PPOConfig(rollout_length=20, epochs=2, minibatches=2),
            run=RunConfig(
                total_steps=320, eval_interval=160, eval_episodes=5, dir=str(tmp_path / str(workers)), progress="off"
            ),
        )
        texts.append((mappo.train(key, config).path / "metrics.csv").read_bytes())
    assert texts[0].count(b"\n") == 5
    assert texts[1] == texts[0]
    assert texts[2] == texts[0]


def test_a_battle_is_won():
    stay, two_west, one_west, hit_west = 6, 4, 5, 16
    with closing(made("magent2/battle_v4")) as env:
        env.reset(SEED)
        for t in range(12):
            action = torch.full((E, env.spec.num_agents, 1), stay)
            action[:, 2:] = two_west if t < 4 else one_west if t == 4 else hit_west
            step = env.step(action)
            if step.ended.any():
                break
    assert step.ended.all()
    assert step.terminated.all()


def table(heading: str) -> dict[str, dict[str, str]]:
    """A table of the page: the cells of each row by column, by what stands between the backquotes of its first one."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [[c.strip() for c in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    return {re.findall("`([^`]+)`", next(iter(row.values())))[0]: row for row in rows}


def test_the_page_lists_exactly_the_families():
    versions = (PAGE.parent.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    rows = table("Families")
    assert list(rows) == [f"{name}/..." for name in FAMILIES]
    for row, family in zip(rows.values(), FAMILIES.values(), strict=True):
        assert row["extra"] == ("-" if family.extra is None else f"`{family.extra}`")
        tested = [line.replace("==", " ") for line in versions if line.startswith(f"{family.package}==")]
        assert [row["tested with"]] == (tested or ["a stand-in"])


def test_the_page_ticks_what_is_tested_here_and_nothing_else():
    rows = table("What is tested")
    assert list(rows) == list(CASES)
    always = {"reset", "step", "truncation", "final observation"}
    for key, row in rows.items():
        for column in (*always, "masks", "deaths", "render", "seeds"):
            assert row[column].startswith("✓") == (column in always or column in CASES[key].has.split()), (key, column)
