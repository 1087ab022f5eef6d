"""Names of agents, kinds of spaces and states, seeds: read as they are, or refused before the first step."""

import enum
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from gymnasium import spaces

import mappo
from mappo import envs
from mappo.config.settings import EnvOptions
from mappo.envs.batched.spread import Spread
from mappo.envs.check.checker import check
from mappo.envs.vector.pool import WorkerPool
from mappo.envs.vector.serial import SerialEnvs
from mappo.errors import UserError
from mappo.runs.directory import read_run
from training_runs import CONFIG, within


class Side(enum.Enum):
    LEFT = 1
    RIGHT = 2


class Named:
    """Each agent observes its own letter's number, and is paid it for action 1; a game lasts five steps."""

    metadata: ClassVar[dict[str, str]] = {"name": "named"}

    def __init__(self, *names: Any, **extra: Any) -> None:
        self.possible_agents: Any = list(names)
        self.seeds = list[int]()
        for name, value in extra.items():
            setattr(self, name, value)

    def observation_space(self, agent: Any) -> Any:
        return spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def action_space(self, agent: Any) -> Any:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        assert seed is not None
        self.seeds.append(seed)
        self.agents, self.clock = list(self.possible_agents), 0
        return self.see(), {}

    def step(self, actions: dict[Any, int]) -> Any:
        self.clock += 1
        acted, over = list(actions), self.clock == 5
        self.agents = [] if over else acted
        rewards = {a: number(a) * int(action) for a, action in actions.items()}
        return self.see(), rewards, dict.fromkeys(acted, False), dict.fromkeys(acted, over), {}

    def see(self) -> dict[Any, Any]:
        return {a: np.array([number(a), self.clock], dtype=np.float32) for a in self.possible_agents}


def number(agent: Any) -> int:
    return ord(str(agent)[0])


class Nameless:
    """Shown by its place in memory."""


@pytest.mark.parametrize(
    ("possible", "problem"),
    [
        ([1, "1"], r"two agents are 1 as text"),
        (["a", "b", "a"], r"two agents are a as text"),
        ([np.int64(3), 3], r"two agents are 3 as text"),
        ([("x", 0), "('x', 0)"], r"two agents are \('x', 0\) as text"),
        ([Side.LEFT, "Side.LEFT"], r"two agents are Side.LEFT as text"),
        ([1, 1.0], r"two names are equal, and one key of a dict"),
        ([True, 1], r"two names are equal"),
        ([], r"there is no agent"),
        (7, r"this is no list"),
        (None, r"this is no list"),
        ([["a"], ["b"]], r"names must be keys of a dict"),
        ([("a", [1]), ("b", [2])], r"names must be keys of a dict"),
        ([Nameless(), Nameless()], r"an object is no name"),
    ],
)
def test_names_that_a_run_cannot_tell_apart_are_refused_before_the_first_reset(possible: Any, problem: str):
    env = Named(possible_agents=possible)
    with pytest.raises(UserError, match=rf"^Named: possible_agents is .*: {problem}.*; name each agent once"):
        SerialEnvs(lambda: env, 1)
    assert not env.seeds
    assert [v.code for v in check(lambda: env).violations] == ["agents"]


@pytest.mark.parametrize("names", [[0, 1], [("red", 0), ("red", 1)], [Side.LEFT, Side.RIGHT], ["größe/2", "a b?"]])
def test_names_of_every_kind_are_read(names: list[Any]):
    env = SerialEnvs(lambda: Named(*names), 2)
    assert env.spec.agents == tuple(map(str, names))
    assert env.reset(0).obs[0, :, 0].tolist() == list(map(number, names))
    assert check(lambda: Named(*names)).ok


def test_a_run_that_could_not_be_loaded_again_is_refused_before_it_begins(tmp_path: Path):
    config = replace(CONFIG, env=replace(CONFIG.env, workers=0))
    with pytest.raises(UserError, match=r"^a run in this environment could never be read again: 'agents' must be"):
        mappo.train(lambda: Named("a", "b" * 2000), within(config, tmp_path / "long", total_steps=80))

    class Twins(Spread):
        def __init__(self, num_envs: int) -> None:
            super().__init__(num_envs)
            self.spec = replace(self.spec, agents=("same",) * 3)

    with pytest.raises(UserError, match=r"^a run in this environment could never be read again: 'agents' must be"):
        mappo.train(lambda num_envs: Twins(num_envs), within(CONFIG, tmp_path / "twins", total_steps=80))
    assert not list(tmp_path.iterdir())


def rewards(env: Any) -> dict[str, list[float]]:
    """By agent, where all do 1."""
    env.reset(0)
    action = torch.ones(env.num_envs, env.spec.num_agents, 1, dtype=torch.int64)
    reward = env.step(action).reward
    return {agent: reward[:, j].tolist() for j, agent in enumerate(env.spec.agents)}


def test_an_order_given_is_taken_where_the_names_are_the_same():
    for order, agents in (("cab", "cab"), ("ca", "abc"), ("cabd", "abc"), ("", "abc")):
        env = SerialEnvs(lambda: Named("a", "b", "c"), 2, EnvOptions(agents=tuple(order)))
        assert env.spec.agents == tuple(agents)
        assert rewards(env) == {a: [number(a)] * 2 for a in agents}
    assert SerialEnvs(lambda: Named(10, 9), 1, EnvOptions(agents=("9", "10"))).spec.agents == ("9", "10")


def test_a_set_has_the_order_of_its_text():
    for possible in ({"c", "a", "b"}, frozenset(["b", "c", "a"])):
        assert SerialEnvs(lambda possible=possible: Named(possible_agents=possible), 1).spec.agents == ("a", "b", "c")


class Shuffled(Named):
    """Names in an order that is another in each process, like that of a set."""

    def __init__(self, folder: Path, *names: str) -> None:
        own = folder / str(os.getpid())
        if not own.exists():
            own.write_text(str(len(list(folder.iterdir()))))
        first = int(own.read_text()) % len(names)
        super().__init__(*names[first:], *names[:first])


@pytest.mark.skipif(os.name == "nt", reason="worker processes need POSIX")
@pytest.mark.parametrize("order", [(), ("b", "c", "a")])
def test_workers_with_names_in_other_orders_agree_on_one(tmp_path: Path, order: Sequence[str]):
    env = WorkerPool(lambda: Shuffled(tmp_path, "a", "b", "c"), 4, EnvOptions(workers=2, agents=tuple(order)))
    try:
        assert len(list(tmp_path.iterdir())) == 2, "two processes, two orders"
        assert not order or env.spec.agents == order
        assert rewards(env) == {a: [number(a)] * 4 for a in "abc"}
    finally:
        env.close()


def test_a_runs_own_order_is_kept_by_all_that_load_it(tmp_path: Path):
    config = within(CONFIG, tmp_path / "run", total_steps=160, eval_interval=160, eval_episodes=8)
    config = replace(config, env=replace(config.env, workers=0))
    run = mappo.train(lambda: Named("a", "b", "c"), config)

    def other() -> Named:
        return Named("c", "a", "b")

    assert run.evaluate(8, env=other) == run.evaluate(8, env=lambda: Named("a", "b", "c"))

    def stop(update: Any) -> None:
        if update.index == 2:
            raise mappo.StopTraining

    parts = within(replace(config, run=replace(config.run, total_steps=320)), tmp_path / "parts")
    mappo.train(lambda: Named("a", "b", "c"), parts, callback=stop)
    resumed = mappo.train(lambda: Named("c", "a", "b"), parts, resume=True)
    assert resumed.finished
    assert read_run(resumed.path)[2].agents == ("a", "b", "c")
    with pytest.raises(UserError, match="the agents are"):
        run.evaluate(8, env=lambda: Named("a", "b", "d"))


def test_training_and_evaluations_have_one_order():
    """Each set of environments is made for itself: the second follows the first."""
    made = list[Named]()

    def make() -> Named:
        made.append(Named(*("ab" if len(made) < 8 else "ba")))
        return made[-1]

    both = envs.for_training(make, replace(CONFIG, env=replace(CONFIG.env, workers=0)), torch.device("cpu"))
    assert made[-1].possible_agents == ["b", "a"]
    assert [env.spec.agents for env in both if env is not None] == [("a", "b")] * 2


@pytest.mark.parametrize("seed", [0, 2**31, 2**32 + 5])
def test_seeds_of_episodes_lie_below_two_to_the_31(seed: int):
    env = SerialEnvs(lambda: Named("a"), 3)
    env.reset(seed)
    for _ in range(200):
        env.step(torch.zeros(3, 1, 1, dtype=torch.int64))
    seeds = [s for single in env.envs for s in single.seeds]
    assert len(set(seeds)) == len(seeds) == 3 * 41
    assert 2**30 < max(seeds) < 2**31, "as wide as an int32 allows"
    for single, first in zip(env.envs, range(seed, seed + 3), strict=True):
        derived = [int(np.random.SeedSequence([first, k]).generate_state(1)[0]) for k in range(1, 41)]
        assert single.seeds == [s % 2**31 for s in (first, *derived)]
    made: list[Named] = []
    assert check(lambda: made.append(Named("a")) or made[-1], episodes=2, seed=seed).ok
    assert {seed % 2**31, (seed + 1) % 2**31} == {s for single in made for s in single.seeds}


class Gym:
    """A space of the old package, but for its name."""

    __module__ = "gym.spaces.discrete"

    def __repr__(self) -> str:
        return "Discrete(2)"


class OwnGym(Gym):
    """A user's own class of such a space."""

    __module__ = "my_spaces"


@pytest.mark.parametrize("which", ["observation_space", "action_space"])
@pytest.mark.parametrize(
    ("space", "code", "message"),
    [
        (Gym(), "old-gym", r"Discrete\(2\) of the old package gym; use gymnasium's: `from gymnasium import spaces`"),
        (OwnGym(), "old-gym", r"Discrete\(2\) of the old package gym"),
        (None, "no-space", r"None, which is no space of gymnasium; return a space"),
        (3, "no-space", r"3, which is no space"),
        (spaces.Discrete, "no-space", r"<class 'gymnasium.spaces.discrete.Discrete'>, which is no space"),
        ({"x": spaces.Discrete(2)}, "no-space", r"\{'x': Discrete\(2\)\}, which is no space"),
        ((2,), "no-space", r"\(2,\), which is no space"),
    ],
)
def test_what_is_no_space_is_named(which: str, space: Any, code: str, message: str):
    def make() -> Named:
        return Named("a", "b", **{which: lambda agent: space})

    with pytest.raises(UserError, match=f"^Named: {which} of a is {message}"):
        SerialEnvs(make, 1)
    assert [v.code for v in check(make).violations] == [code]


def box(*shape: int) -> spaces.Box:
    return spaces.Box(-9, 9, shape, np.float32)


class Stated(Named):
    def __init__(self, state: Any, **extra: Any) -> None:
        super().__init__("a", "b", **extra)
        self.made = state

    def state(self) -> Any:
        return self.made(self.clock) if callable(self.made) else self.made


@pytest.mark.parametrize("space", [42, -1, 0, None, "Box", lambda: box(2), lambda agent: box(2), (2,), Gym(), box(0)])
def test_what_is_no_space_of_the_state_says_nothing_of_it(space: Any):
    for env, shape in (
        (lambda: Named("a", state_space=space), None),
        (lambda: Stated(None, state_space=space), None),
        (lambda: Stated(lambda t: np.array([t, 1.0]), state_space=space), (2,)),
    ):
        batch = SerialEnvs(env, 1)
        assert batch.spec.state_shape == shape
        assert (batch.reset(0).state is None) == (shape is None)
        assert check(env).ok


@pytest.mark.parametrize("base", [Named, Stated])
def test_a_space_of_the_state_may_be_not_implemented(base: Any):
    class Abstract(base):
        @property
        def state_space(self) -> Any:
            raise NotImplementedError

    arguments = ("a", "b") if base is Named else (lambda t: np.array([t, 1.0]),)
    batch = SerialEnvs(lambda: Abstract(*arguments), 1)
    assert batch.spec.state_shape == (None if base is Named else (2,))
    assert check(lambda: Abstract(*arguments)).ok


def test_a_space_of_the_state_without_a_state_is_no_state():
    for extra in ({}, {"state": np.zeros(2)}, {"state": None}):
        env = SerialEnvs(lambda extra=extra: Named("a", state_space=box(2), **extra), 1)
        assert env.spec.state_shape is None
        assert env.reset(0).state is None


@pytest.mark.parametrize(
    "state",
    [{"t": 1, "v": [2.0]}, {"a": [1.0], "b": [2.0]}, [[1.0, 2.0], [3.0]], ["red", "blue"], object(), [None, 1.0]],
)
def test_a_state_that_is_no_array_is_refused_in_one_sentence(state: Any):
    with pytest.raises(UserError, match=r"^state\(\) is .*, which is no array of numbers; return an array") as caught:
        SerialEnvs(lambda: Stated(state), 1)
    assert "\n" not in str(caught.value)
    assert [v.code for v in check(lambda: Stated(state)).violations] == ["state-value"]


def test_a_state_that_is_none_at_the_end_is_refused():
    env = SerialEnvs(lambda: Stated(lambda t: np.zeros(2) if t < 5 else None), 1)
    env.reset(0)
    action = torch.zeros(1, 2, 1, dtype=torch.int64)
    for _ in range(4):
        env.step(action)
    with pytest.raises(UserError, match=r"^state\(\) is None, which is no array"):
        env.step(action)


def test_a_state_of_each_agent_is_refused():
    def make() -> Named:
        return Named("a", state=lambda agent: np.zeros(2))

    with pytest.raises(UserError, match=r"^Named: state\(agent\) takes arguments; declare state\(self\)"):
        SerialEnvs(make, 1)
    assert [v.code for v in check(make).violations] == ["state-arguments"]


def test_an_attribute_behind_a_wrapper_is_no_state():
    class Wrapped(Named):
        unwrapped: Any = Named("a", state={"a": 1})

        def state(self) -> Any:
            return self.unwrapped.state()

    env = SerialEnvs(lambda: Wrapped("a"), 1)
    assert env.spec.state_shape is None
    assert env.reset(0).state is None
    assert check(lambda: Wrapped("a")).ok
    Wrapped.unwrapped = Named("a", state=lambda: sum(1))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="object is not iterable"):
        SerialEnvs(lambda: Wrapped("a"), 1)
    assert [v.code for v in check(lambda: Wrapped("a")).violations] == ["raised"]


def test_infos_may_be_none():
    class NoInfos(Named):
        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            return super().reset(seed)[0], None

        def step(self, actions: dict[Any, int]) -> Any:
            return *super().step(actions)[:4], None

    env = SerialEnvs(lambda: NoInfos("a", "b"), 2)
    assert rewards(env) == {"a": [97] * 2, "b": [98] * 2}
    assert check(lambda: NoInfos("a", "b")).ok


@pytest.mark.parametrize("kind", [set, tuple, np.array, lambda names: dict.fromkeys(names).keys(), frozenset])
def test_agents_may_be_any_collection(kind: Any):
    class Collected(Named):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, kind(value) if name == "agents" else value)

    assert rewards(SerialEnvs(lambda: Collected("a", "b"), 2)) == {"a": [97] * 2, "b": [98] * 2}
    report = check(lambda: Collected("a", "b"))
    assert [v.code for v in report.violations] == []


@pytest.mark.parametrize("agents", [None, 3])
def test_agents_that_are_no_collection_are_refused(agents: Any):
    class Uncounted(Named):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, agents if name == "agents" else value)

    env = SerialEnvs(lambda: Uncounted("a", "b"), 1)
    with pytest.raises(UserError, match=r"^Uncounted: .* it has no agents after reset, a list"):
        env.reset(0)
    assert [v.code for v in check(lambda: Uncounted("a", "b")).violations] == ["missing"]
