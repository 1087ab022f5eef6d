"""`mappo check` names each thing that can be wrong with an environment, and nothing that is not."""

import io
import itertools
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from gymnasium import spaces
from rich.console import Console

from mappo.envs.check.checker import Report, check, show, workers
from mappo.envs.vector.rules import RULES
from mappo.envs.vector.serial import SerialEnvs
from mappo.envs.vector.time_limit import TimeLimit
from mappo.errors import UserError
from mappo.policies.random_policy import RandomPolicy


class Team:
    """A good one: `b` dies at step 3, others are cut off at a step from 6 to 12, and each step forbids one action."""

    metadata: ClassVar[dict[str, str]] = {"name": "team"}
    observes: spaces.Space[Any] = spaces.Box(-100, 100, (3,), np.float32)

    def __init__(self) -> None:
        self.possible_agents = ["a", "b", "c"]

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self.observes

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.rng = np.random.default_rng(seed)
        self.clock, self.length = 0, int(self.rng.integers(6, 13))
        self.agents = list(self.possible_agents)
        self.luck = self.rng.random()
        return {a: self.see(a) for a in self.agents}, {a: {"action_mask": self.may()} for a in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        assert list(actions) == [a for a in self.possible_agents if a in self.agents]
        assert all(action != self.clock % 3 for action in actions.values())
        acting = self.agents
        self.clock, self.luck = self.clock + 1, self.rng.random()
        ends = {a: a == "b" and self.clock == 3 for a in acting}
        cuts = dict.fromkeys(acting, self.clock == self.length)
        self.agents = [a for a in acting if not ends[a] and not cuts[a]]
        infos = {a: {"action_mask": self.may()} for a in acting}
        return {a: self.see(a) for a in acting}, {a: self.pay(a) for a in acting}, ends, cuts, infos

    def see(self, agent: str) -> Any:
        return np.array([self.clock, "abc".index(agent), self.luck], dtype=np.float32)

    def may(self) -> Any:
        return np.array([self.clock % 3 != i for i in range(3)], dtype=np.int8)

    def pay(self, agent: str) -> Any:
        return float("abc".index(agent))

    def state(self) -> Any:
        return np.array([self.clock, self.luck], dtype=np.float32)

    def close(self) -> None:
        pass


Bug = tuple[str, str, Callable[[], Any]]
BUGS: list[Bug] = []


def bug(code: str, where: str = "team") -> Callable[[Any], Any]:
    """The rule that an environment breaks, and where it is first seen to."""

    def note(make: Callable[[], Any]) -> Callable[[], Any]:
        BUGS.append((code, where, make))
        return make

    return note


@bug("raised", "team, episode 1, step 4")
class Raises(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        given = super().step(actions)
        return given if self.clock < 4 else {}["nobody"]


@bug("raised", "team")
class RaisesInState(Team):
    def state(self) -> Any:
        raise RuntimeError("no state today")


@bug("close-raised")
class RaisesAtClose(Team):
    def close(self) -> None:
        raise OSError("gone")


@bug("unreadable", "team, episode 1, step 1")
class NoCamera(Team):
    def __array__(self, *_: Any) -> Any:
        raise OSError("no camera")

    def step(self, actions: dict[str, Any]) -> Any:
        obs, *others = super().step(actions)
        return {**obs, "a": self}, *others


@bug("flag-value", "team, a, episode 1, step 1")
class FlagsForAllInOne(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        obs, rewards, ends, cuts, infos = super().step(actions)
        return obs, rewards, dict.fromkeys(ends, np.array(list(ends.values()))), cuts, infos


@bug("turn-based")
class Turns(Team):
    agent_iter = None


@bug("missing")
class NoAgents(Team):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        given = super().reset(seed)
        del self.agents
        return given


@bug("missing", "Discrete")
def a_space_for_an_environment() -> Any:
    return spaces.Discrete(2)


@bug("agents")
class Twins(Team):
    def __init__(self) -> None:
        self.possible_agents = ["a", "b", "b"]


@bug("old-gym", "team, a")
class OldSpaces(Team):
    def action_space(self, agent: str) -> Any:
        return type("Discrete", (), {"__module__": "gym.spaces"})()


@bug("no-space", "team, a")
class NoSpace(Team):
    observes: Any = None


@bug("state-arguments")
class StateOfAnAgent(Team):
    def state(self, agent: str) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return np.zeros(2)


@bug("state-value")
class StateByName(Team):
    def state(self) -> Any:
        return {"clock": self.clock}


@bug("spaces")
class Letters(Team):
    observes = spaces.Text(3)

    def see(self, agent: str) -> Any:
        return "abc"[: 1 + self.clock % 3]


@bug("reset-seed")
class NoSeed(Team):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset(0)


@bug("reset-return")
class OldReset(Team):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed)[0]


@bug("step-return", "team, episode 1, step 1")
class OldStep(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        obs, rewards, ends, _, infos = super().step(actions)
        return obs, rewards, ends, infos


@bug("never-ends", "team, episode 1, step 60")
class Endless(Team):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        given = super().reset(seed)
        self.length = 1_000_000
        return given


@bug("limit-as-termination")
class LimitCalledEnd(Team):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        given = super().reset(seed)
        self.length = 8
        return given

    def step(self, actions: dict[str, Any]) -> Any:
        obs, rewards, ends, cuts, infos = super().step(actions)
        return obs, rewards, {a: ends[a] or cuts[a] for a in ends}, dict.fromkeys(cuts, False), infos


@bug("nobody")
class Empty(Team):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed)
        self.agents = []
        return {}, {}


@bug("possible-agents-changed", "team, episode 1, step 11")
class Shrinks(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        given = super().step(actions)
        self.possible_agents = [a for a in self.possible_agents if a in self.agents]
        return given


@bug("possible-agents-changed", "team")
class GrowsAtReset(Team):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        given = super().reset(seed)
        self.possible_agents = [*self.possible_agents, "d"]
        return given


@bug("unknown-agent", "team, ghost, episode 1, step 1")
class Stranger(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        given = super().step(actions)
        given[1]["ghost"] = 1.0
        return given


@bug("unknown-agent", "team, ghost, episode 1, reset")
class StrangerOnAgents(Team):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        given = super().reset(seed)
        self.agents.append("ghost")
        return given

    def step(self, actions: dict[str, Any]) -> Any:
        self.agents.remove("ghost")
        given = super().step(actions)
        self.agents += ["ghost"] if self.agents else []
        return given


@bug("agent-order", "team, episode 1, reset")
class Backwards(Team):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        given = super().reset(seed)
        self.agents.reverse()
        return given


@bug("not-flagged", "team, b, episode 1, step 3")
class GoesSilently(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        obs, rewards, ends, cuts, infos = super().step(actions)
        return obs, rewards, dict.fromkeys(ends, False), cuts, infos


@bug("not-flagged", "team, a, episode 1, step 11")
class EndsSilently(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        obs, rewards, ends, cuts, infos = super().step(actions)
        return obs, rewards, ends, dict.fromkeys(cuts, False), infos


@bug("over-but-listed", "team, b, episode 1, step 3")
class LivesOn(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        given = super().step(actions)
        self.agents = list(given[0]) if any(self.agents) else []
        return given


@bug("not-emptied", "team, a, episode 1, step 11")
class StaysListed(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        given = super().step(actions)
        self.agents = self.agents or list(given[0])
        return given

    def may(self) -> Any:
        return super().may() * (self.clock < self.length)  # nothing is legal at the end, where nobody acts


class Haunted(Team):
    """What is added for `b` after it is dead."""

    extra: ClassVar[dict[int, Any]] = {}

    def step(self, actions: dict[str, Any]) -> Any:
        given = super().step(actions)
        if self.clock > 3:
            for place, value in self.extra.items():
                given[place]["b"] = value
        return given


@bug("given-after-end", "team, b, episode 1, step 4")
class FlagsTheDead(Haunted):
    extra: ClassVar[dict[int, Any]] = {2: True, 1: 0.0}


@bug("given-after-end", "team, b, episode 1, step 4")
class ShowsTheDead(Haunted):
    extra: ClassVar[dict[int, Any]] = {0: np.zeros(3, dtype=np.float32)}


@bug("given-after-end", "team, b, episode 1, step 4")
class PaysTheTeamNaN(Haunted):
    """The team's reward is read from an agent that acted."""

    extra: ClassVar[dict[int, Any]] = {1: float("nan")}
    shared_reward = True

    def pay(self, agent: str) -> Any:
        return 7.0


@bug("given-after-end", "team, b, episode 1, step 4")
class PaysTheTeam(Haunted):
    extra: ClassVar[dict[int, Any]] = {1: 7.0}
    shared_reward = True

    def pay(self, agent: str) -> Any:
        return 7.0


@bug("flag-value", "team, a, episode 1, step 1")
class FlagAsText(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        observations, rewards, terminations, truncations, infos = super().step(actions)
        return observations, rewards, {**terminations, "a": "False"}, truncations, infos


@bug("reward-after-end", "team, b, episode 1, step 4")
class PaysTheDead(Haunted):
    extra: ClassVar[dict[int, Any]] = {1: -1.0}


@bug("reward-number", "team, b, episode 1, step 4")
class PaysTheDeadNaN(Haunted):
    extra: ClassVar[dict[int, Any]] = {1: float("nan")}


@bug("reward-number", "team, b, episode 1, step 4")
class PaysTheDeadWords(Haunted):
    extra: ClassVar[dict[int, Any]] = {1: "well done"}


@bug("given-after-end", "team, b, episode 1, step 4")
class PaysTheDeadNone(Haunted):
    extra: ClassVar[dict[int, Any]] = {1: None}


class Takes(Team):
    """Takes what an agent should be given, from `from_step` on."""

    place, agent, from_step = 0, "a", 1

    def step(self, actions: dict[str, Any]) -> Any:
        given = super().step(actions)
        if self.clock >= self.from_step:
            given[self.place].pop(self.agent, None)
        return given


@bug("no-observation", "team, a, episode 1, step 1")
class ShowsNothing(Takes):
    def step(self, actions: dict[str, Any]) -> Any:
        given = super().step(actions)
        if not self.agents:
            given[0]["a"] = self.see("a")
        return given


@bug("no-observation", "team, c, episode 1, reset")
class ShowsNothingAtFirst(Team):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        given = super().reset(seed)
        del given[0]["c"]
        return given


@bug("no-final-observation", "team, a, episode 1, step 11")
class ShowsNothingAtTheEnd(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        obs, *given = super().step(actions)
        return {a: obs[a] for a in self.agents}, *given


@bug("no-reward", "team, a, episode 1, step 1")
class PaysNothing(Takes):
    place = 1


@bug("no-flags", "team, c, episode 1, step 2")
class TerminationForgotten(Takes):
    place, agent, from_step = 2, "c", 2


@bug("no-flags", "team, a, episode 1, step 1")
class FlagsTheOver(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        obs, rewards, ends, cuts, infos = super().step(actions)
        return obs, rewards, {a: e for a, e in ends.items() if e}, {a: c for a, c in cuts.items() if c}, infos


@bug("no-flags", "team, a, episode 1, step 1")
class FlagsNobody(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        obs, rewards, _, _, infos = super().step(actions)
        return obs, rewards, {}, {}, infos


@bug("reward-number", "team, c, episode 1, step 2")
class PaysNaN(Team):
    def pay(self, agent: str) -> Any:
        return float("nan") if agent == "c" and self.clock == 2 else 1.0


@bug("reward-number", "team, a, episode 1, step 1")
class PaysVectors(Team):
    def pay(self, agent: str) -> Any:
        return np.array([1.0, 2.0])


@bug("reward-number", "team, a, episode 1, step 1")
class PaysWords(Team):
    def pay(self, agent: str) -> Any:
        return "well done"


@bug("reward-number", "team, a, episode 1, step 1")
class PaysAnEndlessInteger(Team):
    def pay(self, agent: str) -> Any:
        return 10**400


@bug("reward-size", "team, a, episode 1, step 1")
class PaysTooMuch(Team):
    def pay(self, agent: str) -> Any:
        return -1e19


@bug("not-shared", "team, episode 1, step 1")
class SharesNot(Team):
    shared_reward = True


@bug("large-state")
class StateOfAWall(Team):
    def state(self) -> Any:
        return np.full((150, 160, 1), self.clock, np.uint8)


@bug("large-image", "team, a")
class SeesAWall(Team):
    """Images larger than any network for them needs."""

    observes = spaces.Box(0, 255, (150, 160, 1), np.uint8)

    def see(self, agent: str) -> Any:
        return np.full((150, 160, 1), self.clock, np.uint8)


@bug("obs-space", "team, a, episode 1, step 4")
class OutOfAlphabet(Team):
    observes = spaces.Discrete(4)

    def see(self, agent: str) -> Any:
        return self.clock


@bug("obs-space", "team, a, episode 1, reset")
class LacksAKey(Team):
    observes = spaces.Dict({"near": spaces.Discrete(2), "far": spaces.Discrete(2)})

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        given = super().reset(seed)
        return {a: {"near": 0} for a in given[0]}, given[1]

    def see(self, agent: str) -> Any:
        return {"near": 0, "far": self.clock % 2}


@bug("obs-shape", "team, a, episode 1, step 3")
class OneMore(Team):
    def see(self, agent: str) -> Any:
        x = super().see(agent)
        return np.append(x, x[:1]) if self.clock >= 3 else x


@bug("obs-kind", "team, a, episode 1, reset")
class FractionsForIntegers(Team):
    observes = spaces.Box(0, 255, (3,), np.uint8)


@bug("obs-extra", "team, a, episode 1, reset")
class MoreThanDeclared(Team):
    observes = spaces.Dict(near=Team.observes)

    def see(self, agent: str) -> Any:
        return {"near": super().see(agent), "far": 1}


@bug("obs-dtype", "team, a, episode 1, reset")
class Doubles(Team):
    def see(self, agent: str) -> Any:
        return super().see(agent).astype(np.float64)


@bug("obs-bounds", "team, a, episode 1, step 5")
class Wanders(Team):
    observes = spaces.Box(-4, 4, (3,), np.float32)


@bug("obs-constant")
class Still(Team):
    def see(self, agent: str) -> Any:
        return np.zeros(3, dtype=np.float32)


@bug("not-finite", "team, b, episode 1, step 2")
class Infinite(Team):
    def see(self, agent: str) -> Any:
        x = super().see(agent)
        x[1] = np.inf if agent == "b" and self.clock == 2 else x[1]
        return x


@bug("not-finite", "team, b, episode 1, step 2")
class TooLargeForFloat32(Team):
    def see(self, agent: str) -> Any:
        x = super().see(agent)
        return x if agent != "b" or self.clock != 2 else x.astype(np.float64) + 1e300


@bug("not-finite", "team, episode 1, step 1")
class StateInfinite(Team):
    def state(self) -> Any:
        return np.array([self.clock, np.nan if self.clock else 0.0])


@bug("mask-size", "team, a, episode 1, reset")
class LongMask(Team):
    def may(self) -> Any:
        return np.array([*super().may(), 1], dtype=np.int8)

    def step(self, actions: dict[str, Any]) -> Any:
        return super().step(dict.fromkeys(actions, (self.clock + 1) % 3))


@bug("mask-values", "team, a, episode 1, reset")
class LogitsForAMask(Team):
    def may(self) -> Any:
        return np.where(super().may(), 0.0, -1e9)

    def step(self, actions: dict[str, Any]) -> Any:
        return super().step(dict.fromkeys(actions, (self.clock + 1) % 3))


@bug("mask-twice", "team, a, episode 1, reset")
class TwoMasks(Team):
    observes = spaces.Dict(observation=Team.observes, action_mask=spaces.Box(0, 1, (3,), np.int8))

    def see(self, agent: str) -> Any:
        return {"observation": super().see(agent), "action_mask": 1 - self.may()}


@bug("mask-dtype", "team, a, episode 1, reset")
class FloatMask(Team):
    def may(self) -> Any:
        return super().may().astype(np.float32)


@bug("mask-empty", "team, a, episode 1, step 4")
class NothingLegal(Team):
    def may(self) -> Any:
        return super().may() * (self.clock != 4)

    def step(self, actions: dict[str, Any]) -> Any:
        return super().step(actions) if self.clock != 4 else self.anything(actions)

    def anything(self, actions: dict[str, Any]) -> Any:
        self.clock += 3
        given = super().step(dict.fromkeys(actions, 2))
        self.clock -= 3
        return given


@bug("mask-late", "team, a, episode 1, step 1")
class LateMask(Team):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.free = True
        return super().reset(seed)[0], {}

    def step(self, actions: dict[str, Any]) -> Any:
        self.free, actions = False, dict.fromkeys(actions, 1) if self.free else actions
        return super().step(actions)


@bug("mask-missing", "team, a, episode 1, step 2")
class GapsInMask(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        if self.clock == 2:
            actions = actions | {"a": 0}
        *given, infos = super().step(actions)
        return *given, {a: info for a, info in infos.items() if a != "a" or self.clock != 2}


@bug("state-shape", "team, episode 1, step 3")
class StateOfTheLiving(Team):
    def state(self) -> Any:
        return np.concatenate([self.see(a) for a in self.agents or ["a", "c"]])


@bug("state-shape", "team, episode 1, reset")
class StateSpaceWrong(Team):
    state_space = spaces.Box(-np.inf, np.inf, (5,), np.float32)


@bug("state-constant")
class StateStill(Team):
    def state(self) -> Any:
        return np.ones(2, dtype=np.float32)


@bug("state-order", "team, episode 1, reset")
class StateBackwards(Team):
    def state(self) -> Any:
        return np.concatenate([self.see(a) for a in "cba"])


@bug("seed-reset", "team, a")
class SeedIgnored(Team):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(None)


@bug("seed-reset", "team, a")
class SeedOfTheObject(Team):
    """Like itself, unlike another."""

    born = 0

    def __init__(self) -> None:
        super().__init__()
        SeedOfTheObject.born += 1
        self.own = self.born

    def see(self, agent: str) -> Any:
        return super().see(agent) + np.float32(self.own % 50)


@bug("seed-steps", "team, a")
class CarriesOn(Team):
    """Its chance is not seeded, and the first observation does not show it."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = np.random.default_rng(0)

    def step(self, actions: dict[str, Any]) -> Any:
        given = super().step(actions)
        given[0]["a"][2] = self.dice.random()
        return given


@bug("entangled", "team, a")
class GlobalChance(Team):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        np.random.seed(seed)  # noqa: NPY002
        return super().reset(seed)

    def step(self, actions: dict[str, Any]) -> Any:
        given = super().step(actions)
        given[0]["a"][2] = np.random.random()  # noqa: NPY002
        return given


@bug("aliasing", "team, episode 1, step 1")
class OneBuffer(Team):
    def __init__(self) -> None:
        super().__init__()
        self.buffer = {a: np.zeros(3, dtype=np.float32) for a in self.possible_agents}

    def see(self, agent: str) -> Any:
        self.buffer[agent][:] = super().see(agent)
        return self.buffer[agent]


@bug("aliasing", "team, episode 2, reset")
class LastObservationOverwritten(OneBuffer):
    """By the reset."""

    def see(self, agent: str) -> Any:
        x = super().see(agent)
        return x if self.clock in (0, self.length) else x.copy()

    def step(self, actions: dict[str, Any]) -> Any:
        self.buffer = {a: x.copy() for a, x in self.buffer.items()}
        return super().step(actions)


@bug("aliasing", "team, episode 1, step 1")
class StateBuffer(Team):
    def __init__(self) -> None:
        super().__init__()
        self.shared = np.zeros(2, dtype=np.float32)

    def state(self) -> Any:
        self.shared[:] = super().state()
        return self.shared

    def step(self, actions: dict[str, Any]) -> Any:
        given = super().step(actions)
        self.state()
        return given


@bug("opponents")
class Duel(Team):
    """A long one, in which `a` gains what the others lose."""

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.purse = np.random.default_rng(seed).normal(size=500).cumsum()
        given = super().reset(seed)
        self.length = 59
        return given

    def pay(self, agent: str) -> Any:
        return float(self.purse[self.clock]) if agent == "a" else -float(self.purse[self.clock])


@bug("action-changed", "team, episode 1, step 1")
class TakesActions(Team):
    def step(self, actions: dict[str, Any]) -> Any:
        return super().step({a: actions.pop(a) for a in list(actions)})


@bug("none", "NoneType")
def forgets_to_return() -> Any:
    Team()


@bug("same-object")
def always_one() -> Any:
    return ONE


ONE = Team()


def codes(report: Report) -> list[str]:
    return [v.code for v in report.violations]


def test_a_good_environment_has_nothing_wrong_and_is_described():
    report = check(Team, episodes=5, max_steps=60)
    assert codes(report) == []
    assert report.ok
    assert report.name == "team"
    assert report.agents == ("a", "b", "c")
    assert [(g.agents, g.acts) for g in report.groups] == [(("a", "b", "c"), "Discrete(3)")]
    assert report.state_shape == (2,)
    assert (report.masks, report.deaths, report.arrivals) == (True, True, False)
    assert not report.shared_reward
    assert not report.equal_rewards
    lengths = [int(np.random.default_rng(seed).integers(6, 13)) for seed in range(5)]
    assert report.lengths == lengths
    assert report.endings == {"truncated": 5}
    assert report.steps == sum(lengths)
    assert report.steps_per_second > 0
    assert report.steps_per_cpu_second > 0


def test_bounds_of_each_number_are_summed_up():
    class Bounded(Team):
        observes = spaces.Box(np.full(20, -3, dtype=np.float32), np.arange(20, dtype=np.float32))

        def see(self, agent: str) -> Any:
            return np.array([0] * 19 + [self.clock], dtype=np.float32)

    report = check(Bounded)
    assert codes(report) == []
    assert report.groups[0].observes == "Box(-3 to 19, (20,), float32)"


@pytest.mark.parametrize(("code", "where", "make"), BUGS, ids=[f"{code}-{make.__name__}" for code, _, make in BUGS])
def test_each_bug_alone_is_named(code: str, where: str, make: Callable[[], Any]):
    report = check(make, episodes=5, max_steps=60)
    assert codes(report) == [code]
    violation = report.violations[0]
    rule = RULES[code]
    assert violation.level == rule.level
    assert report.ok == (rule.level == "warning")
    assert violation.where == where
    assert violation.fix == rule.fix.format(step=8)  # of the time limit
    show(report, Console(file=io.StringIO(), width=100))


# Wrong for other reasons: nothing is learned from numbers that are not finite; evaluations of endless games never end;
# and one environment alone is the same object as itself.
BEYOND_STEPS = {"not-finite", "reward-number", "reward-size", "never-ends", "same-object"}


@pytest.mark.parametrize(("code", "make"), [(code, make) for code, _, make in BUGS if code not in BEYOND_STEPS])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_an_error_is_refused_in_training_and_nothing_else(code: str, make: Callable[[], Any]):
    def play() -> None:
        env = SerialEnvs(make, 1)
        policy, step = RandomPolicy(env.spec, 0), env.reset(0)
        for _ in range(60):
            step = env.step(policy(step.obs, mask=step.mask)[0])

    if RULES[code].level == "warning":
        play()
        return
    with pytest.raises(UserError):
        play()


def test_every_rule_has_its_bug():
    in_other_processes = {"names-order", "names-differ"}  # see test_other_process.py
    assert {code for code, _, _ in BUGS} | in_other_processes == set(RULES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Twins, "possible_agents is ['a', 'b', 'b']: two agents are b as text"),
        (NoSpace, "observation_space of a is None, which is no space of gymnasium"),
        (StateOfAnAgent, "state(agent: str) -> Any takes arguments"),
        (StateByName, "state() is {'clock': 0}, which is no array of numbers"),
        (OldReset, "reset returned dict"),
        (OldStep, "step returned (dict, dict, dict, dict)"),
        (LimitCalledEnd, "all 3 episodes terminated at step 8: this looks like a time limit"),
        (Backwards, "env.agents is c, b, a, and possible_agents a, b, c"),
        (Stranger, "rewards holds 'ghost', which is not in possible_agents: a, b, c"),
        (StrangerOnAgents, "agents holds 'ghost', which is not in possible_agents: a, b, c"),
        (GoesSilently, "b left env.agents, and neither terminated nor truncated: it counts as terminated"),
        (FlagsTheDead, "b is not in env.agents and has an entry in rewards, terminations"),
        (PaysTheDead, "b is not in env.agents and received the reward -1"),
        (FlagsTheOver, "a acted and received no termination and no truncation, which counts as False"),
        (PaysWords, "a received the reward 'well done', which is not one finite number"),
        (SharesNot, "shared_reward is True, and the agents received 0, 1, 2: the first reward counts for all"),
        (LacksAKey, "the observation of a is a dict of near; its space says a dict of far, near"),
        (OneMore, "the observation of a has shape (4,); its space says (3,)"),
        (FractionsForIntegers, "the observation of a has dtype float32; its space says uint8"),
        (Doubles, "the observation of a has dtype float64; its space says float32"),
        (Wanders, "the observation of a holds 5; its space says -4 to 4"),
        (Infinite, "the observation of b holds inf"),
        (StateInfinite, "state() holds nan"),
        (LongMask, "a has an action mask of shape (4,); its actions need (3,)"),
        (LogitsForAMask, "a has an action mask that holds -1e+09"),
        (LateMask, "a has an action mask, and no agent had a mask at the reset"),
        (StateOfTheLiving, "state() has shape (6,) in place of (9,)"),
        (StateBackwards, "state() holds the observations in the order c, b, a, but possible_agents is a, b, c"),
        (SeedIgnored, "reset(seed=0) on the same environment returns other observations than the first time"),
        (SeedOfTheObject, "reset(seed=0) on another environment returns other observations than the first time"),
        (CarriesOn, "the same seed and actions on the same environment give other results from step 1 on"),
        (GlobalChance, "two environments stepped in turn give other results than each alone, from step 1 on"),
        (OneBuffer, "an observation that was returned before has changed since"),
        (StateBuffer, "a state that was returned before has changed since"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_what_is_said(make: Callable[[], Any], message: str):
    assert [v.message for v in check(make, max_steps=60).violations] == [message]


def test_each_rule_is_told_once_with_how_often_it_was_broken():
    report = check(Doubles, episodes=2, max_steps=60)
    lengths = report.lengths
    assert [v.times for v in report.violations] == [sum(3 * 4 + 2 * (n - 3) for n in lengths)]  # b sees four times


def test_what_was_returned_is_looked_at_once_more_and_no_longer():
    report = check(StateBuffer, episodes=1)
    assert [v.times for v in report.violations] == report.lengths


def test_who_is_terminated_and_truncated_is_terminated():
    class Both(LimitCalledEnd):
        def step(self, actions: dict[str, Any]) -> Any:
            obs, rewards, ends, _, infos = super().step(actions)
            return obs, rewards, ends, ends, infos

    report = check(Both)
    assert codes(report) == ["limit-as-termination"]
    assert report.endings == {"terminated": 3}


def test_an_exception_is_told_with_the_lines_of_the_users_code():
    message = check(Raises, max_steps=60).violations[0].message
    first, *lines = message.split("\n")
    assert first == "step raised KeyError: 'nobody'"
    assert len(lines) == 1
    assert lines[0].endswith('in step: return given if self.clock < 4 else {}["nobody"]')
    assert "test_checker.py, line " in lines[0]


def test_an_exception_is_told_where_the_environment_has_removed_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Homeless(Team):
        def step(self, actions: dict[str, Any]) -> Any:
            tmp_path.rmdir()
            raise ValueError("no map here")

    monkeypatch.chdir(tmp_path)
    assert check(Homeless).violations[0].message.startswith("step raised ValueError: no map here\n")


def test_of_a_long_way_the_last_lines_are_told():
    class Deep(Team):
        def see(self, agent: str) -> Any:
            return self.look(4)

        def look(self, depth: int) -> Any:
            return self.look(depth - 1) if depth else np.zeros(3).reshape(2, 2)

    first, *lines = check(Deep).violations[0].message.split("\n")
    assert first == "reset raised ValueError: cannot reshape array of size 3 into shape (2,2)"
    assert ["in look" in line for line in lines] == [True] * 3


@pytest.mark.parametrize("thing", [None, 3, "spread", [], Team, object()])
def test_what_is_no_environment_gives_no_traceback(thing: Any):
    report = check(lambda: thing)
    assert codes(report)[0] in ("none", "missing", "raised", "unreadable")
    assert not report.ok


def test_a_function_that_fails_is_reported_and_its_user_error_passed_on():
    def broken() -> Any:
        raise RuntimeError("no disk")

    def advised() -> Any:
        raise UserError("lbforaging is not installed")

    violation = check(broken).violations[0]
    assert violation.message.startswith("make raised RuntimeError: no disk\n")
    assert violation.where == "environment"
    assert check(broken, name="disk/full").violations[0].where == "disk/full"
    with pytest.raises(UserError, match="lbforaging is not installed"):
        check(advised)


class Newcomer(Team):
    """`c` comes at step 2, `b` comes back at step 5."""

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        obs, infos = super().reset(seed)
        self.agents = ["a", "b"]
        return {a: obs[a] for a in "ab"}, infos

    def step(self, actions: dict[str, Any]) -> Any:
        given = super().step(actions)
        if (new := {2: "c", 5: "b"}.get(self.clock)) and self.agents:
            self.agents = sorted([*self.agents, new])
            given[0][new], given[4][new] = self.see(new), {"action_mask": self.may()}
        return given


def test_who_comes_late_or_again_is_no_violation():
    report = check(Newcomer, max_steps=60)
    assert codes(report) == []
    assert (report.arrivals, report.deaths) == (True, True)


class Equal(Team):
    def pay(self, agent: str) -> Any:
        return self.luck


def test_a_reward_that_all_share_is_noticed():
    assert check(Equal).equal_rewards
    assert "shared_reward = True counts it once" in page(check(Equal))

    class Declared(Equal):
        shared_reward = True

    assert check(Declared).shared_reward
    assert "one number for all, counted once" in page(check(Declared))

    class Nothing(Team):
        def pay(self, agent: str) -> Any:
            return 0

    assert "each agent's own" in page(check(Nothing))  # nothing can be said of it


def test_the_time_limit_that_is_advised_helps():
    class Mended(Team):
        def __new__(cls) -> Any:
            return TimeLimit(LimitCalledEnd(), 8, cuts=True)

    report = check(Mended)
    assert codes(report) == []
    assert report.endings == {"truncated": 3}


def test_one_episode_or_episodes_of_one_step_look_like_no_time_limit():
    class OneStep(LimitCalledEnd):
        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            given = super().reset(seed)
            self.length = 1
            return given

    report = check(OneStep)
    assert (codes(report), report.lengths, report.endings) == ([], [1, 1, 1], {"terminated": 3})
    assert codes(check(LimitCalledEnd, episodes=1)) == []


class Choosy(Team):
    """Keeps what is sent. `a` has two choices, masked one by one, `b` numbers, one without bounds, `c` switches."""

    sent: ClassVar[dict[str, list[Any]]] = {}
    acts: ClassVar[dict[str, Any]] = {
        "a": spaces.MultiDiscrete([2, 3], start=[0, 5]),
        "b": spaces.Box(np.array([-1, 2, -np.inf], dtype=np.float32), np.array([1, 3, np.inf], dtype=np.float32)),
        "c": spaces.MultiBinary(2),
    }

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self.acts[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        obs, _ = super().reset(seed)
        return {a: {"observation": x, "action_mask": self.own(a)} if a == "a" else x for a, x in obs.items()}, {}

    def step(self, actions: dict[str, Any]) -> Any:
        for agent, action in actions.items():
            Choosy.sent.setdefault(agent, []).append(action)
        obs, *given = super().step(dict.fromkeys(actions, (self.clock + 1) % 3))
        obs = {a: {"observation": x, "action_mask": self.own(a)} if a == "a" else x for a, x in obs.items()}
        return obs, *given[:3], {}

    def own(self, agent: str) -> Any:
        return [[True, False], [False, True, True]]


class Headless(Choosy):
    def own(self, agent: str) -> Any:
        return [[True, False], [False, False, self.clock != 2]]


def test_something_is_legal_for_each_choice():
    report = check(Headless)
    assert [(v.code, v.message) for v in report.violations] == [
        ("mask-empty", "a has an action mask in which nothing is legal for head 2 of 2")
    ]
    assert report.violations[0].where == "team, a, episode 1, step 2"


@pytest.mark.parametrize("bare", [False, True])
def test_a_mask_may_stand_beside_the_observation(bare: bool):
    class Beside(Team):
        observes = spaces.Dict(observation=Team.observes, action_mask=spaces.Box(0, 1, (3,), np.int8))

        def see(self, agent: str) -> Any:
            x = super().see(agent)
            return x if bare else {"observation": x, "action_mask": self.may()}

        def step(self, actions: dict[str, Any]) -> Any:
            return super().step(actions) if bare else (*super().step(actions)[:4], {})

    report = check(Beside)
    assert codes(report) == []
    assert report.masks


def test_where_nothing_is_observed_to_change_the_state_need_not():
    class Nothing(Still, StateStill):
        pass

    assert codes(check(Nothing)) == ["obs-constant"]


LARGEST = np.finfo(np.float32).max


@pytest.mark.parametrize(
    "box",
    [
        spaces.Box(-LARGEST, LARGEST, (2,), np.float32),
        spaces.Box(np.finfo(float).min, np.finfo(float).max, (2,), np.float64),
        spaces.Box(np.array([0, -np.inf]), np.array([LARGEST, 2]), (2,), np.float64),
    ],
)
def test_bounds_at_the_largest_number_are_no_bounds(box: spaces.Box):
    class Wide(Team):
        def action_space(self, agent: str) -> Any:
            return box

        def may(self) -> Any:
            return np.ones(0, np.int8)

        def step(self, actions: dict[str, Any]) -> Any:
            assert all(box.contains(x) and np.abs(x).max() < 20 for x in actions.values())
            self.paid = {a: float(np.sum(x)) for a, x in actions.items()}
            return super().step(dict.fromkeys(actions, -1))

        def pay(self, agent: str) -> Any:
            return self.paid[agent]

    assert codes(check(Wide)) == []
    env = SerialEnvs(Wide, 1)
    env.reset(0)
    assert env.step(torch.zeros(1, 3, 2)).reward.isfinite().all()


def test_a_state_in_a_declared_dict_is_no_error():
    class Stated(Team):
        state_space = spaces.Dict(clock=spaces.Discrete(99), luck=spaces.Box(0, 1, (1,)))

        def state(self) -> Any:
            return {"clock": self.clock, "luck": np.array([self.luck], dtype=np.float32)}

    report = check(Stated)
    assert codes(report) == []
    assert report.state_shape == (100,)


def test_an_agent_cut_off_while_others_go_on_needs_no_last_observation():
    class CutEarly(Team):
        def step(self, actions: dict[str, Any]) -> Any:
            obs, rewards, ends, cuts, infos = super().step(actions)
            if ends.get("b"):
                ends["b"], cuts["b"] = False, True
                del obs["b"]
            return obs, rewards, ends, cuts, infos

    assert codes(check(CutEarly)) == []
    env = SerialEnvs(CutEarly, 1)
    policy, step = RandomPolicy(env.spec, 0), env.reset(0)
    for _ in range(5):
        step = env.step(policy(step.obs, mask=step.mask)[0])


def test_an_agent_that_leaves_without_a_flag_is_terminated():
    class Leaves(Team):
        def step(self, actions: dict[str, Any]) -> Any:
            obs, rewards, ends, cuts, infos = super().step(actions)
            return obs, rewards, dict.fromkeys(ends, False), cuts, infos

    env = SerialEnvs(Leaves, 1)
    policy, step = RandomPolicy(env.spec, 0), env.reset(0)
    for _ in range(3):
        assert not step.terminated.any()
        step = env.step(policy(step.obs, mask=step.mask)[0])
    assert step.terminated.tolist() == [[False, True, False]]
    assert step.active.tolist() == [[True, False, True]]


def test_one_episode_without_an_end_is_enough():
    assert check(Endless, max_steps=60).steps == 60


def test_only_the_episodes_count_for_the_speed(monkeypatch: pytest.MonkeyPatch):
    clock = itertools.count()
    monkeypatch.setattr("mappo.envs.check.recorder.time.perf_counter", lambda: next(clock))
    report = check(Team, episodes=2)
    assert report.wall_s == sum(2 + 2 * n for n in report.lengths)  # each reset and step, each with a look at the state
    assert report.steps_per_second == report.steps / report.wall_s


def test_episodes_too_short_to_be_timed_are_followed_by_others(monkeypatch: pytest.MonkeyPatch):
    clock = itertools.count()
    monkeypatch.setattr("mappo.envs.check.recorder.time.process_time", lambda: next(clock))

    class Even(Team):
        def pay(self, agent: str) -> Any:
            return 1.0

    report = check(Even, episodes=1, seconds=200)
    longest = 2 + 2 * max(report.lengths)  # of an episode, by this clock
    assert 200 <= report.cpu_s < 200 + longest
    assert report.endings == {"truncated": len(report.lengths)}
    assert [v.message for v in check(LimitCalledEnd, episodes=1, seconds=50 / 20).violations] == [
        "all 3 episodes terminated at step 8: this looks like a time limit"
    ]


def test_unequal_rewards_are_looked_at_for_longer(monkeypatch: pytest.MonkeyPatch):
    clock = itertools.count()
    monkeypatch.setattr("mappo.envs.check.recorder.time.process_time", lambda: next(clock))
    assert check(Team, episodes=1, seconds=1_000).steps in range(4_000, 4_020)
    assert check(Team, episodes=1, seconds=1).steps < 40


@pytest.mark.parametrize(("timer", "steps"), [("process_time", 5_000), ("perf_counter", 1)])
def test_what_takes_no_time_and_what_waits_is_not_played_for_ever(
    monkeypatch: pytest.MonkeyPatch, timer: str, steps: int
):
    """The first is fast, the second spends its time elsewhere."""
    clock = itertools.count(0, 5000)
    monkeypatch.setattr("mappo.envs.check.recorder.time.process_time", lambda: 0)
    if timer == "perf_counter":
        monkeypatch.setattr("mappo.envs.check.recorder.time.perf_counter", lambda: next(clock))
    report = check(Team, episodes=1, seconds=100)
    assert steps <= report.steps < steps + 12


def test_what_is_wrong_is_not_timed():
    assert len(check(PaysWords, episodes=2, seconds=100).lengths) == 2

    class Late(Team):
        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            if seed == 7:
                raise RuntimeError("out of licences")
            return super().reset(seed)

    report = check(Late, episodes=1, seconds=100)
    assert [v.where for v in report.violations] == ["team, episode 8, reset"]


def test_a_failure_behind_the_episodes_is_not_timed():
    class Slow(Team):
        def close(self) -> None:
            time.sleep(1.0)
            raise RuntimeError("too late")

    assert check(Slow, episodes=1).wall_s < 0.9


def test_a_check_may_have_a_time_limit():
    report = check(Endless, time_limit=6, max_steps=60)
    assert (codes(report), report.lengths, report.endings) == ([], [6] * 3, {"truncated": 3})
    for make, code in ((OldStep, "step-return"), (OldReset, "reset-return"), (always_one, "same-object")):
        assert codes(check(make, time_limit=4, max_steps=60)) == [code], make
    assert codes(check(OldStep, time_limit=1)) == ["step-return"]
    assert codes(check(lambda: None, time_limit=4)) == ["none"]


def test_actions_are_legal_and_all_that_is_legal_is_tried():
    Choosy.sent = {}
    report = check(Choosy, episodes=20)
    assert codes(report) == []
    assert report.masks
    assert {tuple(x.tolist()) for x in Choosy.sent["a"]} == {(0, 6), (0, 7)}
    assert {tuple(x.tolist()) for x in Choosy.sent["c"]} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    numbers = np.stack(Choosy.sent["b"])
    assert numbers.dtype == np.float32
    assert all(Choosy.acts["b"].contains(x) for x in numbers)
    assert (numbers.std(0) > 0.2).all()
    assert [len(g.agents) for g in report.groups] == [1, 1, 1]


def test_a_view_of_foreign_memory_is_not_held():
    """pygame's surfaces are locked as long as someone has a view of them, and fail at the next drawing."""

    class Painter(Team):
        def __init__(self) -> None:
            super().__init__()
            self.surface = bytearray(8)

        def state(self) -> Any:
            view = np.frombuffer(self.surface, np.float32)
            view[:] = super().state()
            return view

        def step(self, actions: dict[str, Any]) -> Any:
            self.surface.extend(b"....")  # a BufferError where there is a view
            del self.surface[8:]
            return super().step(actions)

    assert codes(check(Painter)) == []


@pytest.mark.parametrize(("speed", "cores", "number"), [(19_999, 4, 4), (20_000, 4, 0), (50, 1, 0), (0, 4, 0)])
def test_a_pool_is_advised_where_it_pays(speed: float, cores: int, number: int):
    assert workers(speed, cores) == number


def page(report: Report) -> str:
    console = Console(file=io.StringIO(), width=100)
    show(report, console)
    return console.file.getvalue()


def test_the_page(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mappo.envs.check.report.usable_cores", lambda: 4)
    report = check(PaysTheDead, episodes=3)
    report.steps, report.wall_s, report.cpu_s = 100, 0.1, 0.05
    assert [line.rstrip() for line in page(report).splitlines()] == [
        "mappo check team ───────────────────────────────────────────────────────────────────────────────────",
        "",
        "  agents    3: a, b, c",
        "  each      observes Box(-100.0, 100.0, (3,), float32), acts in Discrete(3)",
        "  state     (2,)",
        "  masks     yes",
        "  lives     some die early",
        "  reward    each agent's own; the team's is their sum",
        "  episodes  9 to 11 (mean 10) steps; 3 truncated",
        "  speed     2,000 steps in a CPU second, 1,000 by the clock",
        "  workers   4 in training, one for each core",
        "",
        f"  warning  reward-after-end  team, b, episode 1, step 4, {report.violations[0].times} times",
        "           b is not in env.agents and received the reward -1",
        "           fix: pay at the step at which the agent ends: a later reward counts for the team, but",
        "           teaches the agent nothing",
        "",
        "  0 errors, 1 warning: ready to train",
        "",
    ]
    assert page(check(Team)).rstrip().endswith("  0 errors, 0 warnings: ready to train")
    report.cpu_s = 0.005
    few = "4 in training, one for each core; these steps are so short that --env.workers 0 trains faster warning"
    assert few in " ".join(page(report).split())
    monkeypatch.setattr("mappo.envs.check.report.usable_cores", lambda: 1)
    assert "workers 0: there is one core warning" in " ".join(page(report).split())


def test_errors_are_shown_before_warnings():
    class Both(Doubles, FlagAsText):
        pass

    report = check(Both)
    assert codes(report) == ["obs-dtype", "flag-value"]
    assert page(report).index("flag-value") < page(report).index("obs-dtype")


def test_names_with_brackets_are_shown_as_they_are():
    class Odd(Team):
        metadata: ClassVar[dict[str, str]] = {"name": "[red]team[/red]"}

    assert "mappo check [red]team[/red] " in page(check(Odd))


def test_no_torch_is_loaded():
    code = "import sys, mappo.envs.check.checker, mappo.envs.adapters.pettingzoo; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("agent", ["a", "b", "c"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_number_in_a_shared_reward_reaches_training_whoever_receives_it(agent: str, bad: float):
    class Shares(Team):
        shared_reward = True

        def pay(self, agent_: str) -> float:
            return bad if agent_ == agent else 0.5

    assert f"{agent} received the reward {bad}" in page(check(Shares))
    env = SerialEnvs(Shares, 1)
    env.reset(0)
    reward = env.step(torch.ones(1, 3, 1, dtype=torch.int64)).reward[0]
    assert "abc"[int((~reward.isfinite()).nonzero()[0])] == agent
