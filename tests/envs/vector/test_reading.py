"""Law 10 for odd values: an observation, mask, flag or reward is read as it is, or refused with its agent."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from mappo.config.settings import EnvOptions
from mappo.core.timestep import TimeStep
from mappo.envs.check.checker import check
from mappo.envs.from_user import vectorize
from mappo.envs.vector.serial import SerialEnvs
from mappo.errors import UserError
from mappo.runs.spec_json import spec_from_dict, spec_to_dict

FLOATS = spaces.Box(-np.inf, np.inf, (2,), np.float32)
BYTES = spaces.Box(0, 255, (2,), np.uint8)
SMALL = spaces.Box(-3, 3, (2,), np.int8)


class Duo:
    """Agents a and b for `horizon` steps; `change(what, t, values)` may alter each dict that is returned."""

    possible_agents = ("a", "b")

    def __init__(
        self,
        change: Callable[[str, int, dict[str, Any]], Any] = lambda what, t, values: values,
        obs_space: Any = FLOATS,
        actions: Any = None,
        horizon: int = 3,
    ) -> None:
        self.change = change
        self.obs_space = obs_space
        self.actions = spaces.Discrete(3) if actions is None else actions
        self.horizon = horizon
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> Any:
        return self.obs_space

    def action_space(self, agent: str) -> Any:
        return self.actions

    def each(self, what: str, value: Any) -> Any:
        return self.change(what, self.t, dict.fromkeys(self.possible_agents, value))

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.t = 0
        self.agents = self.change("agents", 0, list(self.possible_agents))
        return self.each("obs", np.full(2, 0.25, np.float32)), self.each("info", {})

    def step(self, actions: Any) -> Any:
        self.t += 1
        is_over = self.t == self.horizon
        self.agents = self.change("agents", self.t, [] if is_over else list(self.agents))
        obs = self.each("obs", np.full(2, self.t, np.float32))
        return (
            obs,
            self.each("reward", 1.0),
            self.each("term", False),
            self.each("trunc", is_over),
            self.each("info", {}),
        )


def only(what: str, value: Any, since: int = 0, agent: str = "b") -> Callable[[str, int, dict[str, Any]], Any]:
    """Gives agent b this value from step `since` on."""
    return lambda w, t, values: {**values, agent: value} if w == what and t >= since else values


def played(make: Callable[[], Any], steps: int = 3) -> list[TimeStep]:
    env = SerialEnvs(make, 1)
    action = torch.zeros(1, 2, env.spec.action_size, dtype=torch.long)
    return [env.reset(0), *(env.step(action) for _ in range(steps))]


def read(space: Any, value: Any) -> list[float]:
    """The observation of an agent that is given this value."""
    make = lambda: Duo(lambda w, t, values: dict.fromkeys(values, value) if w == "obs" else values, space)  # noqa: E731
    return SerialEnvs(make, 1).reset(0).obs[0, 1].tolist()


@pytest.mark.parametrize(
    ("space", "value", "expected"),
    [
        (spaces.Dict(x=SMALL, y=FLOATS), {"x": [0.5, 300], "y": [1, 2]}, [0.5, 300, 1, 2]),
        (spaces.Tuple([spaces.Box(0, 1, (1,), bool), FLOATS]), ([0.25], [1, 2]), [0.25, 1, 2]),
        (spaces.Dict(x=BYTES, y=spaces.Discrete(2)), {"x": np.array([255, 3]), "y": np.int8(1)}, [255, 3, 0, 1]),
        (spaces.Dict(x=spaces.Dict(y=spaces.MultiBinary(2))), {"x": {"y": [True, 0.0]}}, [1, 0]),
        (spaces.MultiBinary((1, 2)), [[1, 0]], [1, 0]),
        (spaces.Discrete(3, start=-1), np.array([1]), [0, 0, 1]),
        (spaces.MultiDiscrete([2, 3], start=[4, -1]), (5, 0), [0, 1, 0, 1, 0]),
        (spaces.MultiDiscrete([2, 3], dtype=np.uint8), np.array([1, 2], np.uint64), [0, 1, 0, 0, 1]),
        (FLOATS, torch.tensor([1.0, 2.0], requires_grad=True), [1, 2]),
        (FLOATS, np.array([1, 2], ">f8"), [1, 2]),
        (FLOATS, (np.float16(0.5), True), [0.5, 1]),
        (spaces.Tuple([FLOATS, FLOATS]), np.array([[1, 2], [3, 4]]), [1, 2, 3, 4]),
    ],
)
def test_values_are_read_without_a_loss(space: Any, value: Any, expected: list[float]):
    assert read(space, value) == expected


@pytest.mark.parametrize(
    ("space", "value", "message"),
    [
        (spaces.Dict(x=BYTES, y=FLOATS), {"x": [0.8, 1], "y": [0, 0]}, "'x' in .* has dtype float64; .* uint8"),
        (
            spaces.Dict(x=BYTES, y=FLOATS),
            {"x": [300, 1], "y": [0, 0]},
            "'x' in .* is an array with 300; its space says Box.0, 255",
        ),
        (spaces.Tuple([BYTES]), ([-1, 1],), "0 in the observation of a is an array with -1; its "),
        (spaces.Dict(x=BYTES, y=spaces.Box(0, 1, (1,), bool)), {"x": [0, 0], "y": [0.5]}, "'y' in .* has dtype float"),
        (
            spaces.Dict(x=spaces.MultiBinary(2), y=FLOATS),
            {"x": [0.8, 0], "y": [0, 0]},
            "'x' in .* is an array with 0.8; .*Multi",
        ),
        (spaces.MultiBinary(2), np.array([300, 0]), r"is an array with 300; its space says MultiBinary\(2\)"),
        (spaces.Discrete(3), 3, r"is 3; its space says Discrete\(3\)"),
        (spaces.Discrete(3), -1, r"is -1; its space says Discrete\(3\)"),
        (spaces.Discrete(3), 0.5, r"is 0.5; its space says Discrete\(3\)"),
        (spaces.Discrete(3), [1, 1], r"is \[1, 1\]; its space says Discrete\(3\)"),
        (spaces.Discrete(2, start=5), 1, r"is 1; its space says Discrete\(2, start=5\)"),
        (spaces.MultiDiscrete([8, 8]), (1, 10), r"is \(1, 10\); its space says MultiDiscrete\(\[8 8\]\)"),
        (spaces.MultiDiscrete([8, 8]), (-1, 0), r"is \(-1, 0\); its space says MultiDiscrete\(\[8 8\]\)"),
        (spaces.MultiDiscrete([8, 8]), [[0, 1]], r"is \[\[0, 1\]\]; its space says MultiDiscrete"),
        (spaces.MultiDiscrete([8, 8]), [0.5, 0], r"is \[0.5, 0\]; its space says MultiDiscrete"),
        (spaces.Dict(x=spaces.Discrete(2), y=FLOATS), {"x": 2, "y": [0, 0]}, r"'x' in the observation of a is 2; "),
        (spaces.Tuple([FLOATS]), ([0, 0], [1, 1]), r"is \(\[0, 0\], \[1, 1\]\); its space says Tuple"),
        (FLOATS, ["1", "2"], r"is \['1', '2'\]; its space says Box"),
        (FLOATS, np.array([1, 2j]), r"its space says Box"),
        (FLOATS, np.array([1, None]), r"is array\(\[1, None\], dtype=object\); its space says Box"),
    ],
)
def test_values_that_would_be_changed_are_refused(space: Any, value: Any, message: str):
    with pytest.raises(UserError, match=message):
        read(space, value)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 1, (0,)),
        spaces.Box(0, 1, (3, 0)),
        spaces.Box(0, 255, (0, 4, 3), np.uint8),
        spaces.Dict(x=spaces.Box(0, 1, (0,))),
    ],
)
def test_spaces_without_a_number_are_refused(space: Any):
    with pytest.raises(
        UserError, match=r"^the observation of a has the space .*, which holds no number: use a Box of "
    ):
        SerialEnvs(lambda: Duo(obs_space=space), 1)
    assert "holds no number" in check(lambda: Duo(obs_space=space)).violations[0].message


def test_an_agent_may_be_blind_where_others_see():
    class Unequal(Duo):
        def observation_space(self, agent: str) -> Any:
            return FLOATS if agent == "a" else spaces.Box(0, 1, (0,))

    def change(what: str, t: int, values: Any) -> Any:
        return {**values, "b": np.zeros(0, np.float32)} if what == "obs" else values

    assert played(lambda: Unequal(change), 1)[1].obs.tolist() == [[[1, 1], [0, 0]]]
    assert check(lambda: Unequal(change)).ok


@pytest.mark.parametrize("has_space", [True, False])
def test_a_state_without_a_number_is_refused(has_space: bool):
    class Empty(Duo):
        if has_space:
            state_space = spaces.Box(0, 1, (0,))

        def state(self) -> Any:
            return np.zeros(0)

    with pytest.raises(UserError, match=r"^state\(\) has the space .*, which holds no number: use a Box of "):
        SerialEnvs(Empty, 1)
    assert "holds no number" in check(Empty).violations[0].message


@pytest.mark.parametrize("since", [0, 2])
@pytest.mark.parametrize(
    ("mask", "told"),
    [
        ([1, np.nan, 1], "nan"),
        (np.array([0, -np.inf, 0]), "-inf"),
        (np.array([1, 0.5, 0], np.float32), "0.5"),
        ([2, 1, 0], "2"),
        (np.array([1, 255, 0], np.uint8), "255"),
        (["1", "0", "1"], r"\['1', '0', '1'\]"),
        (torch.tensor([1.0, 0, -1]), "-1"),
        ([1, None, 0], r"\[1, None, 0\]"),
    ],
)
def test_masks_of_other_numbers_are_refused(mask: Any, told: str, since: int):
    def change(what: str, t: int, values: dict[str, Any]) -> Any:
        return (
            {a: {"action_mask": mask if a == "b" and t >= since else [1, 1, 1]} for a in values}
            if what == "info"
            else values
        )

    with pytest.raises(UserError, match=rf"^b has an action mask that holds {told}; return 1 or True where "):
        played(lambda: Duo(change), since)
    assert "mask-values" in [v.code for v in check(lambda: Duo(change)).violations]


def test_a_bad_mask_of_one_head_is_found_among_many():
    def change(what: str, t: int, values: dict[str, Any]) -> Any:
        masks = {"a": np.ones(5), "b": np.array([1, 1, 1, 2, 1])}
        return {a: {"action_mask": masks[a]} for a in values} if what == "info" else values

    with pytest.raises(UserError, match=r"^b has an action mask that holds 2"):
        played(lambda: Duo(change, actions=spaces.MultiDiscrete([2, 3])), 0)


@pytest.mark.parametrize("mask", [[0, 0, 0], [2, 2, 2], [1], None])
@pytest.mark.parametrize("others", [True, False])
def test_masks_of_agents_that_are_over_are_not_read(mask: Any, others: bool):
    """b is flagged at step 2 and stays listed; a goes on, or ends too."""

    def change(what: str, t: int, values: Any) -> Any:
        if what == "info" and t == 2:
            return {a: {"action_mask": mask if a == "b" or not others else [1, 0, 1]} for a in values}
        if what == "info":
            return {a: {"action_mask": [0, 1, 1]} for a in values}
        if what == "agents":
            return ["a", "b"]
        return {**values, "b": True} | ({} if others else {"a": True}) if what == "term" and t == 2 else values

    steps = played(lambda: Duo(change), 2)
    assert steps[2].ended.tolist() == [not others]
    assert steps[2].mask is not None
    legal = [[1, 0, 1], [1, 1, 1]] if others else [[0, 1, 1], [0, 1, 1]]
    assert steps[2].mask[0].int().tolist() == legal
    found = {v.code for v in check(lambda: Duo(change), time_limit=5).violations}
    assert not found & {"mask-empty", "mask-size", "mask-values"}


def test_the_mask_of_an_agent_that_begins_another_life_counts():
    def change(what: str, t: int, values: Any) -> Any:
        if what == "info":
            return {a: {"action_mask": [0, 1, 0]} for a in values}
        return {**values, "b": True} if what == "term" and t == 1 else values

    step = played(lambda: Duo(change), 1)[1]
    assert step.is_first.tolist() == [[False, True]]
    assert step.mask is not None
    assert step.mask[0].int().tolist() == [[0, 1, 0], [0, 1, 0]]


def late(reward: Any) -> Callable[[str, int, Any], Any]:
    """b dies at step 1, and is paid at step 2, when it is gone."""

    def change(what: str, t: int, values: Any) -> Any:
        if what == "agents":
            return values if t == 0 else [a for a in values if a == "a"]
        if what == "term" and t == 1:
            return {"a": False, "b": True}
        return {"a": 1.0, "b": reward} if what == "reward" and t == 2 else values

    return change


def test_rewards_after_death_are_paid_to_the_team():
    steps = played(lambda: Duo(late(10.0)), 3)
    assert steps[2].active.tolist() == [[True, False]]
    assert [s.reward.tolist() for s in steps[1:]] == [[[1, 1]], [[1, 10]], [[1, 1]]]


@pytest.mark.parametrize("workers", [0, 1])
def test_runs_of_earlier_versions_leave_rewards_after_death_out(workers: int):
    """They go on, and are scored, with the numbers they had."""
    run = SerialEnvs(lambda: Duo(late(10.0)), 1).spec
    old = spec_from_dict({name: x for name, x in spec_to_dict(run).items() if name != "late_rewards"})
    assert spec_from_dict(spec_to_dict(run)).late_rewards
    assert not old.late_rewards
    options = old.fit_options(EnvOptions(workers=workers))
    env = vectorize(lambda: Duo(late(10.0)), 1, options)
    env.reset(0)
    with closing(env):
        rewards = [env.step(torch.zeros(1, 2, 1, dtype=torch.long)).reward.tolist() for _ in range(3)]
    assert rewards == [[[1, 1]], [[1, 0]], [[1, 0]]]


@pytest.mark.parametrize("reward", ["much", [1, 2], {}])
def test_rewards_after_death_are_numbers(reward: Any):
    with pytest.raises(UserError, match=r"b received the reward .*, which is not one finite number; "):
        played(lambda: Duo(late(reward)), 2)


def test_nothing_after_death_is_no_reward():
    assert played(lambda: Duo(late(None)), 2)[2].reward.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    "reward",
    [
        torch.tensor(2.0, requires_grad=True),
        torch.tensor([2.0]),
        torch.tensor(2.0, dtype=torch.bfloat16, requires_grad=True),
        np.array([[2]]),
        np.float16(2),
    ],
)
def test_a_reward_of_any_kind_is_a_number(reward: Any):
    assert played(lambda: Duo(only("reward", reward)), 1)[1].reward.tolist() == [[1, 2]]
    assert check(lambda: Duo(only("reward", reward))).ok


@pytest.mark.parametrize("flag", [True, 1, np.True_, np.array([True]), torch.tensor(True), 1.0])
def test_a_flag_of_any_kind_is_read(flag: Any):
    def change(what: str, t: int, values: Any) -> Any:
        return [a for a in values if a == "a" or t == 0] if what == "agents" else only("term", flag, 1)(what, t, values)

    assert played(lambda: Duo(change), 1)[1].terminated.tolist() == [[False, True]]


@pytest.mark.parametrize("flag", ["False", np.array([True, False]), 0.5, float("nan"), [1, 0]])
@pytest.mark.parametrize("what", ["term", "trunc"])
def test_a_flag_that_is_no_truth_value_is_refused(what: str, flag: Any):
    names = {"term": "terminations", "trunc": "truncations"}
    with pytest.raises(UserError, match=rf"^Duo: b has .* in {names[what]}, which is neither True nor False; "):
        played(lambda: Duo(only(what, flag, 1)), 1)


def test_an_unknown_name_in_agents_is_refused():
    with pytest.raises(UserError, match=r"^Duo: agents holds 'c', which is not in possible_agents: a, b; "):
        played(lambda: Duo(lambda w, t, x: [*x, "c"] if w == "agents" else x), 0)


def test_who_is_over_with_the_episode_needs_no_last_observation():
    """Agents stay listed at the end, and are not observed."""

    def change(what: str, t: int, values: Any) -> Any:
        if what == "agents":
            return ["a", "b"]
        return {} if what == "obs" and t == 2 else dict.fromkeys(values, True) if what == "term" and t == 2 else values

    step = played(lambda: Duo(change), 2)[2]
    assert step.ended.tolist() == [True]
    assert step.terminated.all()
    assert not step.next_obs.any()
    assert step.obs.all()


LARGE = spaces.Box(-np.inf, np.inf, (2,), np.float64)


@pytest.mark.parametrize("what", ["obs", "state", "reward"])
def test_numbers_beyond_float32_are_infinite_without_a_warning(what: str):
    class Huge(Duo):
        def state(self) -> Any:
            return np.array([1e300 if what == "state" else 0.0, self.t])

    value = np.array([-1e39, 1.0]) if what == "obs" else -1e39
    change = only(what, value, since=1) if what != "state" else lambda what, t, values: values
    step = played(lambda: Huge(change, LARGE), 1)[1]
    infinite = {"obs": step.obs[0, 1, 0], "state": step.state[0, 0], "reward": step.reward[0, 1]}  # type: ignore[index]
    assert [name for name, x in infinite.items() if x.isinf()] == [what]
    assert what == "state" or infinite[what] < 0


@pytest.mark.parametrize("since", [0, 1])
def test_masks_in_observation_and_info_must_be_equal(since: int):
    space = spaces.Dict(observation=FLOATS, action_mask=spaces.Box(0, 1, (3,), np.int8))

    def make(mask: Any) -> Duo:
        def change(what: str, t: int, values: Any) -> Any:
            if what == "obs":
                x = next(iter(values.values()))
                return {a: {"observation": x, "action_mask": np.array([1, 0, 1], np.int8)} for a in values}
            return {a: {"action_mask": mask if t >= since else (1, 0, 1)} for a in values} if what == "info" else values

        return Duo(change, space)

    assert [step.mask.tolist() for step in played(lambda: make([True, False, True]))][since] == [  # type: ignore
        [[True, False, True]] * 2
    ]
    with pytest.raises(UserError, match="a has one action mask in its observation, and another in its info"):
        played(lambda: make([1, 1, 1]), 2)
    assert [v.code for v in check(lambda: make([1, 1, 1])).violations] == ["mask-twice"]


def test_keys_that_no_space_declares_are_told_once():
    space = spaces.Dict(place=spaces.Dict(x=FLOATS))
    value = {"place": {"x": np.zeros(2, np.float32), "y": 1}}
    env = SerialEnvs(
        lambda: Duo(lambda what, t, values: dict.fromkeys("ab", value) if what == "obs" else values, space), 3
    )
    with pytest.warns(UserWarning, match=r"^'place' in the observation of a holds 'y', which its space does ") as told:
        env.reset(0)
    assert len(told) == 1
    env.step(torch.zeros(3, 2, 1, dtype=torch.long))
    env.reset(0)


def test_a_render_method_with_arguments_is_refused():
    class Mode(Duo):
        def render(self, mode: str) -> Any:
            raise AssertionError

    with pytest.raises(UserError, match=r"declare render\(self\) in place of render\(mode: str\)"):
        SerialEnvs(Mode, 1).render(0)
