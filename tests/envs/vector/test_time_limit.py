"""A time limit is a truncation, whatever the environment calls it."""

import copy
from typing import Any

import numpy as np
import pytest

from mappo.envs.vector.time_limit import TimeLimit
from mappo.errors import UserError


class Script:
    """`a`, `b` and `c` count steps. `script` says at which step who ends, `blind` who then observes nothing."""

    shared_reward = True

    def __init__(self, script: dict[int, dict[str, str]], blind: str = "", late: dict[int, str] | None = None) -> None:
        self.script, self.blind, self.late = script, blind, late or {}
        self.possible_agents = ["a", "b", "c", "d"]
        self.agents: list[str] = []
        self.given: Any = None
        self.options: list[Any] = []

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.options.append(options)
        self.clock, self.seed, self.agents = 0, seed, ["a", "b", "c"]
        return dict.fromkeys("abc", self.state()), {}

    def step(self, actions: dict[str, Any]) -> Any:
        self.clock += 1
        how = {a: self.script.get(self.clock, {}).get(a, "") for a in self.agents}
        ends, cuts = ({a: h == kind for a, h in how.items()} for kind in ("end", "cut"))
        obs = {a: self.state() for a in self.agents if not (how[a] and a in self.blind)}
        self.agents = [a for a in self.agents if not how[a]] + list(self.late.get(self.clock, ""))
        obs |= {a: self.state() for a in self.agents}
        self.given = (obs, dict.fromkeys(how, 1.0), ends, cuts, {a: {"own": a} for a in how})
        return copy.deepcopy(self.given)

    def state(self) -> Any:
        return np.array([self.clock])


ALL_END = dict.fromkeys("abc", "end")


def steps(env: TimeLimit, count: int) -> list[tuple[Any, Any, list[str]]]:
    """Terminations and truncations of each step, and who is there after it."""
    told: list[tuple[Any, Any, list[str]]] = []
    for _ in range(count):
        _, _, ends, cuts, _ = env.step(dict.fromkeys(env.agents, 0))
        told.append(("".join(a for a in ends if ends[a]), "".join(a for a in cuts if cuts[a]), list(env.agents)))
    return told


@pytest.mark.parametrize("cuts", [False, True])
def test_an_end_at_the_limit_is_a_truncation_and_an_earlier_death_stays_one(cuts: bool):
    env = TimeLimit(Script({2: {"b": "end"}, 4: ALL_END}), 4, cuts=cuts)
    env.reset(seed=0)
    assert steps(env, 4) == [
        ("", "", ["a", "b", "c"]),
        ("b", "", ["a", "c"]),
        ("", "", ["a", "c"]),
        ("", "ac", []),
    ]


@pytest.mark.parametrize("cuts", [False, True])
@pytest.mark.parametrize("when", [1, 3])
def test_an_end_before_the_limit_is_one(cuts: bool, when: int):
    env = TimeLimit(Script({when: ALL_END}), 4, cuts=cuts)
    env.reset(seed=0)
    assert steps(env, when)[-1] == ("abc", "", [])


def test_a_limit_that_does_not_cut_leaves_what_goes_on():
    env = TimeLimit(Script({3: {"b": "end"}, 4: {"a": "cut"}, 5: ALL_END}), 3, cuts=False)
    env.reset(seed=0)
    told = [("", "b", ["a", "c"]), ("", "a", ["c"]), ("c", "", [])]
    assert steps(env, 5)[2:] == told


def test_a_limit_that_cuts_ends_the_episode_for_all_with_what_they_observe():
    inner = Script({2: {"c": "end"}, 3: {"b": "end"}}, late={3: "d"})
    env = TimeLimit(inner, 3, cuts=True)
    env.reset(seed=0)
    steps(env, 2)
    obs, rewards, ends, cuts, infos = env.step({"a": 0, "b": 0})
    assert env.agents == []
    assert inner.agents == ["a", "d"]  # to it nothing has happened
    assert (ends, cuts) == ({"a": False, "b": False}, {"a": True, "b": True})  # c is dead, and d did not act
    assert obs == {"a": [3], "b": [3], "d": [3]}
    assert rewards == {"a": 1.0, "b": 1.0}
    assert infos == {"a": {"own": "a"}, "b": {"own": "b"}}


def test_each_episode_is_counted_from_its_reset():
    env = TimeLimit(Script({}), 2, cuts=True)
    for _ in range(2):
        env.reset(seed=0)
        assert env.agents == ["a", "b", "c"]
        assert steps(env, 2) == [("", "", ["a", "b", "c"]), ("", "abc", [])]
    env.reset(seed=0)
    steps(env, 1)
    env.reset(seed=0)  # in the middle of an episode
    assert steps(env, 2)[0] == ("", "", ["a", "b", "c"])


def test_who_observes_nothing_at_the_limit_stays_terminated():
    env = TimeLimit(Script({2: ALL_END}, blind="b"), 2, cuts=False)
    env.reset(seed=0)
    assert steps(env, 2)[1] == ("b", "ac", [])


def test_what_the_environment_keeps_is_not_written_into():
    class Keeps(Script):
        def step(self, actions: dict[str, Any]) -> Any:
            super().step(actions)
            return self.given

    inner = Keeps({1: ALL_END})
    env = TimeLimit(inner, 1, cuts=True)
    env.reset(seed=0)
    assert steps(env, 1) == [("", "abc", [])]
    assert inner.given[2:4] == (dict.fromkeys("abc", True), dict.fromkeys("abc", False))


def test_everything_else_is_the_environments_own():
    inner = Script({})
    env = TimeLimit(inner, 5, cuts=True)
    obs, infos = env.reset(seed=7)
    assert (obs, infos, inner.seed) == ({"a": [0], "b": [0], "c": [0]}, {}, 7)
    steps(env, 1)
    assert env.state() == [1]
    assert env.possible_agents is inner.possible_agents
    assert env.shared_reward is True
    assert not hasattr(env, "state_space")
    with pytest.raises(AttributeError, match="'Script' object has no attribute 'render'"):
        _ = env.render
    assert copy.deepcopy(env).clock == 1


def test_options_of_a_reset_are_passed_on_where_there_are_any():
    class Plain(Script):
        def reset(self, seed: int | None = None) -> Any:  # type: ignore[override]
            return super().reset(seed)

    assert TimeLimit(Plain({}), 5, cuts=True).reset(seed=1)[0]["a"] == [0]
    inner = Script({})
    env = TimeLimit(inner, 5, cuts=True)
    env.reset(seed=1)
    env.reset(seed=1, options={"map": 2})
    assert inner.options == [None, {"map": 2}]


def test_a_limit_below_one_step_is_refused():
    with pytest.raises(UserError, match="a time limit must be at least 1 step, got 0"):
        TimeLimit(Script({}), 0, cuts=True)
