"""Environments by name: each keeps the contract of `types.py`."""

import itertools
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import mappo
from games import Game
from mappo import envs
from mappo.config.presets import TWINS
from mappo.core.protocols import Environment, Renderable, Resumable
from mappo.core.timestep import TimeStep
from mappo.envs import make
from mappo.envs.probes.basic import Constant, Signal
from mappo.envs.vector.serial import SerialEnvs
from mappo.errors import UserError
from mappo.policies.random_policy import RandomPolicy
from mappo.system import shutdown
from timestep_checks import check_time_step

NAMES = [*envs.NATIVE, "mpe2/simple_spread_v3", "mpe2/simple_speaker_listener_v4"]
E = 3
# Where episodes, or lives, may end by themselves; all others end by a time limit.
ENDING = {"matrix/climbing", "matrix/penalty"} | {f"probe/{x}" for x in ("memory", "death", "respawn", "arrival")}
ENDING |= {"probe/combined", "battle"}
# Where each game looks like any other.
ALIKE = {"matrix/climbing", "matrix/penalty"} | {f"probe/{x}" for x in ("constant", "roles", "death", "respawn")}
FIXED = {"matrix/climbing", "matrix/penalty", "speaker_listener", "reference", "mpe2/simple_speaker_listener_v4"}
FIXED |= {f"probe/{x}" for x in ("unequal", "respawn", "arrival", "combined", "mixed")}


def steps_of(env: Environment, seed: Any, count: int) -> list[TimeStep]:
    policy, steps = RandomPolicy(env.spec, 0), [env.reset(seed)]
    for _ in range(count):
        steps.append(env.step(policy(steps[-1].obs)[0]))
    return steps


@pytest.mark.parametrize("name", NAMES)
def test_an_environment_keeps_the_contract_through_its_resets(name: str):
    env = make(name, E)
    assert isinstance(env, Environment)
    assert env.num_envs == E
    assert env.device == torch.device("cpu")
    spec = env.spec
    assert len(spec.obs_spaces) == len(spec.action_heads) == len(spec.groups) == spec.num_agents
    steps = steps_of(env, 7, 60)
    for step in steps:
        check_time_step(env.spec, step, E)
    start, ends = steps[0], [s for s in steps if s.ended.any()]
    assert torch.equal(start.is_first, start.active)
    assert not start.reward.any()
    assert not start.terminated.any()
    assert not start.ended.any()
    assert torch.equal(start.obs.nan_to_num(), start.next_obs.nan_to_num())
    assert len(ends) >= 2
    for before, step in itertools.pairwise(steps):
        assert torch.equal(step.is_first, step.active & (~before.active | step.ended.unsqueeze(-1)))
        kept = ~step.ended
        assert torch.equal(step.next_obs[kept].nan_to_num(), step.obs[kept].nan_to_num())
        assert torch.equal(step.next_active[kept], step.active[kept])
    if name in ENDING:
        assert any(step.terminated.any() for step in steps)
    else:
        assert all(step.active.all() for step in steps)
        assert not any(step.terminated.any() for step in steps), "all of these end by a time limit"
    moved = [not torch.equal(step.next_obs.nan_to_num(), step.obs.nan_to_num()) for step in ends]
    assert name in ALIKE or all(moved) or (name in ENDING and any(moved)), "what is behind a reset is another game"
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_is_the_same_game(name: str):
    def observed(seed: Any) -> Tensor:
        return torch.stack([s.obs for s in steps_of(make(name, E), seed, 3)]).nan_to_num()

    assert torch.equal(observed(7), observed(7))
    if name not in ALIKE:
        assert not torch.equal(observed(7), observed(8))
    assert torch.equal(observed(7)[0], observed([7, 8, 9])[0])
    assert torch.equal(observed([7, 8, 9])[0, 2], observed([9, 1, 2])[0, 0])


@pytest.mark.parametrize("name", [name for name in envs.NATIVE if name.startswith(("probe", "matrix"))])
def test_a_probe_depends_on_its_own_seed_alone(name: str):
    """Through all of its episodes, whatever and however many are beside it."""

    def played(seeds: list[int], index: int) -> list[Tensor]:
        env = make(name, len(seeds))
        steps = [env.reset(seeds)]
        for t in range(30):
            kind = torch.long if env.spec.action_dtype == torch.long else torch.float32
            action = torch.full((len(seeds), env.spec.num_agents, env.spec.action_size), t % 2, dtype=kind)
            steps.append(env.step(action))
        return [x[index].nan_to_num() for step in steps for x in step.tensors().values() if x is not None]

    alone = played([7], 0)
    for seeds in ([7, 8, 9], [8, 7], [2**62, 0, 3, 7, 7], [1, 7] * 50):
        for x, other in zip(alone, played(seeds, seeds.index(7)), strict=True):
            assert torch.equal(x, other)
    if name not in ALIKE:
        assert not all(map(torch.equal, alone, played([8], 0)))
        assert not all(map(torch.equal, alone, played([7 + 2**32], 0)))


def test_the_numbers_of_a_probe_are_spread_as_they_should_be():
    """And do not follow from one another, neither in time, nor from seed to seed, nor within a sample."""
    env = Signal(2000, num_agents=2)
    steps = [env.reset(0), *(env.step(torch.zeros(2000, 2, 1, dtype=torch.long)) for _ in range(9))]
    numbers = torch.stack([step.obs.argmax(-1) for step in steps])  # (10, E, 2)
    for axis in (None, 0, 1, 2):
        first = numbers if axis is None else numbers.narrow(axis, 0, numbers.shape[axis] - 1)
        second = numbers if axis is None else numbers.narrow(axis, 1, numbers.shape[axis] - 1)
        pairs = (4 * first + second).flatten().bincount(minlength=16)
        expected = first.numel() / (4 if axis is None else 16)
        counted = pairs[[0, 5, 10, 15]] if axis is None else pairs
        chi2 = ((counted - expected) ** 2 / expected).sum()
        assert chi2 < 45, (axis, pairs)
    uniform = env._rand(50, dtype=torch.float64)
    assert 0 <= uniform.min() < 1e-3 < 0.999 < uniform.max() < 1
    assert uniform.mean() == pytest.approx(0.5, abs=0.005)
    assert uniform.std() == pytest.approx(12**-0.5, abs=0.005)


@pytest.mark.parametrize("agents", [1, 2, 4])
@pytest.mark.parametrize("name", [n for n in NAMES if n not in {*FIXED, "battle"}])
def test_the_number_of_agents_may_be_chosen(name: str, agents: int):
    env = make(name, E, num_agents=agents)
    assert env.spec.num_agents == agents
    for step in steps_of(env, 1, 2):
        check_time_step(env.spec, step, E)


def test_a_battle_takes_two_or_more():
    assert make("battle", E, num_agents=3).spec.num_agents == 3
    with pytest.raises(UserError, match="two agents"):
        make("battle", E, num_agents=1)


@pytest.mark.parametrize("name", sorted(FIXED))
def test_a_number_of_agents_that_is_fixed_is_not_chosen(name: str):
    with pytest.raises(UserError, match=f"the number of agents of {name} is fixed"):
        make(name, E, num_agents=2)


@pytest.mark.parametrize("name", TWINS)
def test_the_batched_game_and_the_package_have_the_same_spaces(name: str):
    ours, theirs = make(name, 1).spec, make(envs.original_name(name, "mpe2"), 1).spec
    assert ours.agents == theirs.agents
    assert ours.action_heads == theirs.action_heads
    assert [s.shape for s in ours.obs_spaces] == [s.shape for s in theirs.obs_spaces]


def test_what_can_draw_and_what_can_be_saved_says_so():
    assert isinstance(make("spread", 1), Renderable)
    assert isinstance(make("spread", 1), Resumable)
    assert not isinstance(make("mpe2/simple_spread_v3", 1), Resumable)


def test_a_package_draws_if_asked():
    env = make("mpe2/simple_spread_v3", 1, render=True)
    assert isinstance(env, SerialEnvs)
    env.reset(0)
    picture = env.render(0)
    assert picture.ndim == 3
    assert picture.shape[-1] == 3
    assert picture.std() > 0
    env.close()


@pytest.mark.parametrize(
    ("name", "near"),
    [("spred", "spread"), ("simple_spread_v3", "mpe2/simple_spread_v3"), ("probe/sinal", "probe/signal")],
)
def test_an_unknown_name_is_told_with_the_nearest(name: str, near: str):
    with pytest.raises(UserError, match=f"unknown environment '{name}'; did you mean '{near}'") as told:
        make(name, 1)
    for known in [*envs.NATIVE, "mpe2/...", "module:function"]:
        assert known in str(told.value)


def test_a_family_alone_is_no_environment():
    for family in (*envs.NATIVE_FAMILIES, *envs.FAMILIES):
        with pytest.raises(UserError, match=f"{family} is a family of environments: name one, such as {family}/"):
            envs.check_name(family)


def test_a_name_like_no_other_is_told_without_a_guess():
    with pytest.raises(UserError, match="unknown environment 'xyz'") as told:
        envs.check_name("xyz")
    assert "did you mean" not in str(told.value)


def test_a_missing_package_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mpe2", None)
    with pytest.raises(UserError, match=r"mpe2 is not installed.*pip install 'mpe2"):
        make("mpe2/simple_spread_v3", 1)


def test_the_original_of_an_environment_is_found():
    assert envs.original_name("spread", "mpe2") == "mpe2/simple_spread_v3"
    assert envs.original_name("mpe2/simple_spread_v3", "mpe2") == "mpe2/simple_spread_v3"
    assert envs.original_name("foraging/Foraging-5x5-2p-1f-v3", "lbf") == "lbf/Foraging-5x5-2p-1f-v3"
    assert envs.translate_options("foraging/Foraging-5x5-2p-1f-v3", {"penalty": 1}) == {"penalty": 1}
    with pytest.raises(UserError, match=r"foraging/.* cannot be evaluated on 'mpe2': use lbf"):
        envs.original_name("foraging/Foraging-5x5-2p-1f-v3", "mpe2")
    with pytest.raises(UserError, match="spread cannot be evaluated on 'vmas': use mpe2"):
        envs.original_name("spread", "vmas")
    with pytest.raises(UserError, match="probe/signal cannot be evaluated on 'mpe2': it follows no package"):
        envs.original_name("probe/signal", "mpe2")


def test_numbers_come_from_a_package_and_its_version(monkeypatch: pytest.MonkeyPatch):
    assert envs.package_version("mpe2/simple_spread_v3").startswith("mpe2 1.")
    assert envs.package_version("spread").startswith("mappo ")
    assert envs.package_version("foraging/Foraging-5x5-2p-1f-v3").startswith("mappo ")
    monkeypatch.setitem(envs.FAMILIES, "nothing", replace(envs.FAMILIES["mpe2"], package="nothing"))
    assert envs.package_version("nothing/at_all") == "nothing (not installed)"


def test_the_constant_probe_pays_one_for_ever():
    env = Constant(E, horizon=4)
    steps = steps_of(env, 0, 9)
    for t, step in enumerate(steps[1:], 1):
        assert (step.reward == 1).all()
        assert (step.obs == 1).all()
        assert bool(step.ended.all()) == bool(step.ended.any()) == (t % 4 == 0)


def test_the_signal_probe_pays_the_share_of_agents_that_are_right():
    env = Signal(2, num_agents=4)
    step = env.reset(0)
    assert (step.obs.sum(-1) == 1).all()
    right = step.obs.argmax(-1, keepdim=True)
    assert (env.step(right).reward == 1).all()
    wrong = (env.reset(0).obs.argmax(-1, keepdim=True) + 1) % 4
    assert (env.step(wrong).reward == 0).all()
    half = env.reset(0).obs.argmax(-1, keepdim=True)
    half[:, :2] = (half[:, :2] + 1) % 4
    assert (env.step(half).reward == 0.5).all()


class Hangs(Game):
    """Its `close` returns only when the test is over."""

    may_close = threading.Event()
    made = 0

    def close(self) -> None:
        self.may_close.wait(100)


@pytest.mark.parametrize("place", ["training", "evaluation"])
def test_an_error_is_told_even_if_the_environments_made_before_it_do_not_close(
    place: str, monkeypatch: pytest.MonkeyPatch
):
    """A constructor fails, and what was made before it has to be closed."""
    monkeypatch.setattr(shutdown, "FAILED_CLOSE", 0.05, raising=False)
    monkeypatch.setattr(Hangs, "may_close", threading.Event())
    monkeypatch.setattr(Hangs, "made", 0)

    def make_env() -> Hangs:
        Hangs.made += 1
        if Hangs.made == (2 if place == "training" else 3):
            raise RuntimeError("the port is taken")
        return Hangs()

    config = mappo.Config.from_dict({"env": {"num_envs": 2, "workers": 0}, "run": {"eval_episodes": 2}})
    with (
        pytest.warns(UserWarning, match=r"close\(\) did not return within 0\.05 s, and is waited for no longer"),
        pytest.raises(mappo.UserError, match="the port is taken"),
    ):
        envs.for_training(make_env, config, torch.device("cpu"))
    Hangs.may_close.set()


def test_what_was_made_before_an_error_is_closed(monkeypatch: pytest.MonkeyPatch):
    closed: list[int] = []

    def make_env() -> Game:
        if len(closed) + len(made) == 2:
            raise RuntimeError("the port is taken")
        made.append(Game())
        made[-1].close = lambda: closed.append(1)
        return made[-1]

    made: list[Any] = []
    with pytest.raises(mappo.UserError, match="the port is taken"):
        SerialEnvs(make_env, 3)
    assert closed == [1, 1]
