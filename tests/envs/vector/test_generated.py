"""Law 10 for environments that nobody wrote: each is read as by a plain loop, or refused with the agent's name."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings, strategies as st

from mappo.core.timestep import TimeStep
from mappo.envs.check.checker import check
from mappo.envs.vector.serial import SerialEnvs
from mappo.errors import UserError

Json = dict[str, Any]
NAMES = ("ann", "bob", "cy")
STEPS = 8


class Generated:
    """Agents that come, end and come again by chance, with spaces, masks and defects as `plan` says."""

    def __init__(self, plan: Json) -> None:
        self.plan = copy.deepcopy(plan)  # a space has random numbers of its own
        self.possible_agents = list(plan["spaces"])
        self.agents: Any = []
        self.rng = np.random.default_rng(0)

    def observation_space(self, agent: str) -> Any:
        space = self.plan["spaces"][agent]
        if self.plan["masks"].get(agent) != "obs":
            return space
        return spaces.Dict(observation=space, action_mask=spaces.MultiBinary(sum(sizes_of(self.action_space(agent)))))

    def action_space(self, agent: str) -> Any:
        return self.plan["actions"][agent]

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.rng = np.random.default_rng(seed)
        self.clock = 0
        for space in self.plan["spaces"].values():
            space.seed(int(self.rng.integers(1000)))
        # A mask that comes later than at the reset is refused.
        is_full = self.plan["masks"] or self.plan["still"]
        self.listed = [a for a in self.possible_agents if is_full or self.rng.random() < 0.8] or self.possible_agents[
            :1
        ]
        return self._look(self.listed), self._infos(self.listed)

    def step(self, actions: Json) -> Any:
        assert set(actions) == set(self.listed)
        for agent, action in actions.items():
            assert self.action_space(agent).contains(action)
        self.clock += 1
        acted = self.listed
        chance = 0.0 if self.plan["still"] else 0.15
        ends = {a: bool(self.rng.random() < chance) for a in acted}
        cuts = {a: bool(self.rng.random() < chance) or self.clock == self.plan["limit"] for a in acted}
        stays = [a for a in acted if not (ends[a] or cuts[a]) or self.rng.random() < 0.2]
        comes = [a for a in self.possible_agents if a not in acted and self.rng.random() < 0.2]
        self.listed = [] if self.clock == self.plan["limit"] else [*stays, *comes]
        told = [a for a in self.possible_agents if a in acted or a in self.listed]
        rewards = {a: self._reward(a) for a in self.possible_agents if a in acted or self.rng.random() < 0.3}
        flags = [{a: self._bent("flag", a, x) for a, x in by_agent.items()} for by_agent in (ends, cuts)]
        return self._look(told), self._shuffled(rewards), *map(self._shuffled, flags), self._infos(told)

    def _look(self, agents: list[str]) -> Json:
        self.agents = self.plan["list"](self._order(self.listed))
        observations = {}
        for a in agents:
            value = self._bent("obs", a, self._dressed(self.plan["spaces"][a].sample()))
            is_inside = self.plan["masks"].get(a) == "obs"
            observations[a] = {"observation": value, "action_mask": self._mask(a)} if is_inside else value
        return self._shuffled(observations)

    def _infos(self, agents: list[str]) -> Any:
        infos = {a: {"action_mask": self._mask(a)} if self.plan["masks"].get(a) == "info" else {} for a in agents}
        return None if not self.plan["masks"] and self.rng.random() < 0.5 else self._shuffled(infos)

    def _mask(self, agent: str) -> Any:
        heads = []
        for size in sizes_of(self.plan["actions"][agent]):
            legal = self.rng.random(size) < 0.5
            legal[self.rng.integers(size)] = True
            heads.append(self._dressed(legal.astype(self.rng.choice(["bool", "int8", "float32", "int64"]))))
        return self._bent("mask", agent, heads if self.rng.random() < 0.3 else np.concatenate(heads))

    def _reward(self, agent: str) -> Any:
        number = float(np.float32(self.rng.normal()))
        kinds = (float, np.float32, np.array, lambda x: np.array([x]), torch.tensor, lambda x: torch.tensor([x]))
        return self._bent("reward", agent, kinds[self.rng.integers(len(kinds))](number))

    def _dressed(self, value: Any) -> Any:
        """The same value as an array, a list, a tuple or a tensor, in dicts of any order."""
        if isinstance(value, dict):
            return self._shuffled({k: self._dressed(x) for k, x in value.items()})
        if isinstance(value, tuple):
            return tuple(map(self._dressed, value))
        kind = self.rng.integers(4)
        if kind == 0 and np.ndim(value) == 1:
            return (list, tuple)[self.rng.integers(2)](np.asarray(value).tolist())
        return torch.tensor(np.asarray(value)) if kind == 1 and np.asarray(value).dtype != np.uint16 else value

    def _bent(self, what: str, agent: str, value: Any) -> Any:
        """The value, or the plan's defect in its place."""
        kind, bad, who, when = self.plan["defect"]
        return bad if (kind, who) == (what, agent) and self.clock >= when else value

    def _order(self, names: Any) -> list[str]:
        return [str(a) for a in self.rng.permutation(list(names))]

    def _shuffled(self, by_agent: Json) -> Json:
        return {a: by_agent[a] for a in self._order(by_agent)}


def sizes_of(action_space: Any) -> list[int]:
    if isinstance(action_space, spaces.Discrete):
        return [int(action_space.n)]
    return np.ravel(action_space.nvec).tolist() if isinstance(action_space, spaces.MultiDiscrete) else []


def flat(space: Any, value: Any) -> list[float]:
    """Numbers of a value, as the page of agents describes them."""
    if isinstance(space, spaces.Dict):
        return [x for key, part in space.spaces.items() for x in flat(part, value[key])]
    if isinstance(space, spaces.Tuple):
        return [x for part, own in zip(space.spaces, value, strict=True) for x in flat(part, own)]
    numbers = np.asarray(value).ravel().tolist()
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        is_one = isinstance(space, spaces.Discrete)
        sizes, starts = ([space.n], [space.start]) if is_one else (np.ravel(space.nvec), np.ravel(space.start))
        heads = zip(numbers, sizes, starts, strict=True)
        return [float(x - start == k) for x, size, start in heads for k in range(size)]
    return [float(np.float32(x)) for x in numbers]


class PlainLoop:
    """What the contract says of one environment, agent by agent and without an array."""

    def __init__(self, plan: Json, seed: int) -> None:
        self.env = Generated(plan)
        self.plan = plan
        self.seed = seed
        self.episode = 0
        self.width = max(len(flat(s, s.sample())) for s in plan["spaces"].values())

    def start(self) -> Json:
        seed = self.seed
        if self.episode:
            seed = int(np.random.SeedSequence([self.seed, self.episode]).generate_state(1)[0]) % 2**31
        obs, infos = self.env.reset(seed=seed)
        self.now = set(self.env.agents)
        names = self.env.possible_agents
        return {
            "obs": self.padded(obs, self.now),
            "active": [a in self.now for a in names],
            "is_first": [True] * len(names),
            "mask": self.masks(obs, infos, self.now),
        }

    def step(self, actions: Json) -> Json:
        names = self.env.possible_agents
        was = self.now
        obs, rewards, ends, cuts, infos = self.env.step({a: x for a, x in actions.items() if a in was})
        self.now = set(self.env.agents)
        over = {a for a in was if ends[a] or cuts[a]}
        reward = [float(np.asarray(rewards.get(a, 0.0)).item()) for a in names]
        if self.now <= over:
            is_cut = any(cuts[a] and not ends[a] for a in was)
            reached = {a for a in was if not ends[a]}
            outcome = {
                "next_obs": self.padded(obs, obs),
                "next_active": [a in reached for a in names],
                "terminated": [not is_cut or bool(ends.get(a)) for a in names],
            }
            self.episode += 1
            return {"reward": reward, "ended": True} | outcome | self.start()
        present = self.padded(obs, self.now)
        active = [a in self.now for a in names]
        return {
            "reward": reward,
            "ended": False,
            "next_obs": present,
            "next_active": active,
            "terminated": [a in over for a in names],
            "obs": present,
            "active": active,
            "is_first": [a in self.now and (a not in was or a in over) for a in names],
            "mask": self.masks(obs, infos, self.now),
        }

    def padded(self, obs: Json, told: Any) -> list[list[float]]:
        rows = []
        for a in self.env.possible_agents:
            value = obs.get(a)
            if self.plan["masks"].get(a) == "obs" and value is not None:
                value = value["observation"]
            row = flat(self.plan["spaces"][a], value) if a in told else []
            rows.append(row + [0.0] * (self.width - len(row)))
        return rows

    def masks(self, obs: Json, infos: Any, now: set[str]) -> list[list[bool]] | None:
        if not self.plan["masks"]:
            return None
        heads = [sizes_of(space) for space in self.plan["actions"].values()]
        most = [max((h[k] for h in heads if k < len(h)), default=1) for k in range(max(map(len, heads)))]
        rows = []
        for a, own in zip(self.env.possible_agents, heads, strict=True):
            place = self.plan["masks"].get(a) if a in now else None
            given_mask = None if place is None else (obs if place == "obs" else infos)[a]["action_mask"]
            numbers = [1] * sum(own)
            if given_mask is not None:
                pieces = given_mask if isinstance(given_mask, list) else [given_mask]
                numbers = [float(x) for piece in pieces for x in np.ravel(np.asarray(piece))]
            row: list[bool] = []
            for k, size in enumerate(most):
                mine = own[k] if k < len(own) else 0
                choices = [bool(x) for x in numbers[:mine]] if mine else [True]
                numbers = numbers[mine:]
                row += choices + [False] * (size - len(choices))
            rows.append(row)
        return rows


DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool")
boxes = st.builds(
    lambda dtype, shape: spaces.Box(0, 1 if dtype == "bool" else 100, shape, np.dtype(dtype).type),
    st.sampled_from(DTYPES),
    st.sampled_from([(), (1,), (3,), (2, 2), (1, 2, 1, 2)]),
)
discretes = st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 5), st.integers(-3, 3))
multi_discretes = st.builds(
    lambda sizes, start: spaces.MultiDiscrete(sizes, start=[start] * len(sizes)),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(-2, 2),
)
binaries = st.builds(spaces.MultiBinary, st.sampled_from([1, 3, (2, 2)]))
obs_spaces = st.recursive(
    st.one_of(boxes, discretes, multi_discretes, binaries),
    lambda inner: st.one_of(
        st.builds(spaces.Dict, st.dictionaries(st.sampled_from("pqr"), inner, min_size=1)),
        st.builds(spaces.Tuple, st.lists(inner, min_size=1, max_size=2)),
    ),
    max_leaves=4,
)
action_spaces = st.one_of(discretes, multi_discretes)


@st.composite
def plans(draw: st.DrawFn, still: bool = False) -> Json:
    names = NAMES[: draw(st.integers(1, 3))]
    has_masks = draw(st.booleans())
    return {
        "spaces": {a: draw(obs_spaces) for a in names},
        "actions": {a: draw(action_spaces) for a in names},
        "masks": {a: draw(st.sampled_from(["info", "obs"])) for a in names if has_masks and draw(st.booleans())},
        "limit": draw(st.integers(2, 9)),
        "list": draw(st.sampled_from([list, tuple, set])),
        "still": still,
        "defect": ("", None, "", 0),
    }


def bad_values(space: Any) -> list[Any]:
    """Values that are not in a space, and cannot be read as if they were."""
    bad: list[Any] = [None, "text", np.zeros((7, 7, 7)), [[1], [1, 2]], np.array([1j] * 3), {"x": 1}]
    if isinstance(space, spaces.Discrete):
        bad += [space.start + space.n, int(space.start) - 1, float(space.start) + 0.5]
    elif isinstance(space, spaces.MultiDiscrete):
        bad += [space.start + space.nvec, space.start - 1, space.start + 0.5]
    elif isinstance(space, spaces.MultiBinary):
        bad += [np.full(space.shape, x) for x in (2, -1, 0.5, 256)]
    elif isinstance(space, spaces.Box) and space.dtype == np.uint8:
        bad += [np.full(space.shape, x) for x in (256, -1, 0.5)]
    elif isinstance(space, spaces.Tuple):
        bad += [(*space.sample(), 0), space.sample()[1:]]
        bad += [(x, *space.sample()[1:]) for x in bad_values(space.spaces[0])]
    elif isinstance(space, spaces.Dict):
        key = next(iter(space.spaces))
        bad += [{k: x for k, x in space.sample().items() if k != key}]
        bad += [{**space.sample(), key: x} for x in bad_values(space.spaces[key])]
    return bad


@st.composite
def bad_plans(draw: st.DrawFn) -> Json:
    plan = draw(plans(still=True))
    who = draw(st.sampled_from(list(plan["spaces"])))
    kind = draw(st.sampled_from(["obs", "reward", "flag", *(["mask"] if who in plan["masks"] else [])]))
    size = sum(sizes_of(plan["actions"][who]))
    bad = {
        "obs": bad_values(plan["spaces"][who]),
        "reward": [None, "1", [1, 2], {}, 1j, np.zeros(0)],
        "flag": ["False", 0.5, float("nan"), [True, False], np.ones(3), {}, 2],
        "mask": [np.full(size, x) for x in (0, 2, -1, 0.5, np.nan, -np.inf)] + [np.ones(size + 1), "1" * size, [None]],
    }[kind]
    when = draw(st.integers(0 if kind in ("obs", "mask") else 1, 1))
    return plan | {"defect": (kind, bad[draw(st.integers(0, len(bad) - 1))], who, when)}


def random_action(env: SerialEnvs, rng: np.random.Generator) -> tuple[torch.Tensor, Json]:
    """An action of each agent: padded, and in its own space."""
    padded = np.zeros((1, env.spec.num_agents, env.spec.action_size), np.int64)
    own: Json = {}
    for j, agent in enumerate(env.spec.agents):
        space = env.envs[0].action_space(agent)
        choices = [int(rng.integers(size)) for size in sizes_of(space)]
        padded[0, j, : len(choices)] = choices
        is_one = isinstance(space, spaces.Discrete)
        own[agent] = choices[0] + int(space.start) if is_one else (np.array(choices) + space.start).astype(space.dtype)
    return torch.from_numpy(padded), own


def assert_same(step: TimeStep, expected: Json) -> None:
    for name, value in expected.items():
        given_value = getattr(step, name)
        assert (None if given_value is None else given_value[0].tolist()) == value, name


@pytest.mark.filterwarnings("ignore:.*ended at two steps in a row")
@settings(max_examples=40)
@given(plans(), st.integers(0, 2**31 - 1))
def test_each_is_read_as_a_plain_loop_reads_it(plan: Json, seed: int):
    env = SerialEnvs(lambda: Generated(plan), 1)
    loop, rng = PlainLoop(plan, seed), np.random.default_rng(seed)
    assert_same(env.reset([seed]), loop.start())
    for _ in range(STEPS):
        padded, own = random_action(env, rng)
        assert_same(env.step(padded), loop.step(own))


def one_step(plan: Json) -> None:
    env = SerialEnvs(lambda: Generated(plan), 1)
    env.reset([3])
    env.step(random_action(env, np.random.default_rng(0))[0])


@settings(max_examples=60)
@given(bad_plans())
def test_each_defect_is_refused_with_its_agent_by_training_and_by_check(plan: Json):
    kind, bad, who, _ = plan["defect"]
    with pytest.raises(UserError) as error:
        one_step(plan)
    message = str(error.value)
    assert who in message
    assert "Traceback" not in message
    report = check(lambda: Generated(plan), episodes=1)
    assert not report.ok, (kind, bad)


@settings(max_examples=30)
@given(plans(still=True))
def test_each_without_a_defect_is_called_ready(plan: Json):
    report = check(lambda: Generated(plan), episodes=1)
    assert [v for v in report.violations if v.level == "error"] == []
