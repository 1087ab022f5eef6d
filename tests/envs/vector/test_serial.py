"""Law 10: the loop over PettingZoo environments gives what single environments give."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from mpe2 import simple_reference_v3, simple_speaker_listener_v4, simple_spread_v3
from torch import Tensor

from mappo.core.protocols import Environment
from mappo.core.timestep import TimeStep
from mappo.envs.vector.serial import SerialEnvs
from mappo.envs.vector.state_space import find_order
from mappo.errors import UserError

BOX = spaces.Box(-np.inf, np.inf, (2,), np.float32)


class Scripted:
    """PettingZoo's Parallel API, acting out a script.

    `script` is a list of steps, each `{"live": who is there afterwards, "term": ..., "trunc": ...}`. An agent sees
    `[episode, 10 * clock + its number]`; the state is `[episode, clock]`; reward is 1 + its number.
    """

    possible_agents = ("a", "b", "c")  # a tuple, as some packages give

    def __init__(
        self,
        script: list[dict[str, Any]],
        start: str = "abc",
        *,
        obs_space: spaces.Space[Any] = BOX,
        action_space: spaces.Space[Any] | None = None,
        state: bool = False,
        see: Callable[[np.ndarray, str, int], Any] | None = None,
        info: Callable[[str, int], dict[str, Any]] | None = None,
    ) -> None:
        self.script, self.start = script, start
        self.spaces = (obs_space, spaces.Discrete(3) if action_space is None else action_space)
        self.see, self.info = see or (lambda x, agent, clock: x), info or (lambda agent, clock: {})
        if state:
            self.state_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
            self.state = lambda: np.array([self.episode, self.clock], dtype=np.float64)
        self.agents: list[str] = []
        self.episode, self.clock = 0, 0
        self.seeds: list[int | None] = []
        self.sent: list[dict[str, Any]] = []
        self.closed = False

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self.spaces[0]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self.spaces[1]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.seeds.append(seed)
        self.episode, self.clock = self.episode + 1, 0
        self.agents = list(self.start)[::-1]  # in another order than possible_agents
        return self._look(self.agents), {a: self.info(a, 0) for a in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        assert set(actions) == set(self.agents), "exactly the live agents act"
        self.sent.append(actions)
        event = self.script[self.clock]
        self.clock += 1
        before, self.agents = self.agents, list(event["live"])
        told = sorted({*before, *self.agents})
        return (
            self._look(told),
            {a: 1.0 + "abc".index(a) for a in told},
            {a: a in event.get("term", "") for a in before},
            {a: a in event.get("trunc", "") for a in before},
            {a: self.info(a, self.clock) for a in told},
        )

    def close(self) -> None:
        self.closed = True

    def _look(self, agents: Any) -> dict[str, Any]:
        def own(a: str) -> np.ndarray:
            return np.array([self.episode, 10 * self.clock + "abc".index(a)], dtype=np.float32)

        return {a: self.see(own(a), a, self.clock) for a in agents}


def steps_of(env: SerialEnvs, count: int, width: int = 1) -> list[TimeStep]:
    """What a reset from seed 0 and then `count` steps give."""
    action = torch.zeros(env.num_envs, env.spec.num_agents, width, dtype=torch.long)
    return [env.reset(0), *(env.step(action) for _ in range(count))]


def booleans(text: str) -> list[list[bool]]:
    """One environment's flags: "10-" is True, False, False."""
    return [[x == "1" for x in text]]


def seen(*rows: tuple[int, int]) -> Tensor:
    return torch.tensor([rows], dtype=torch.float32)


def test_mpe2_in_a_batch_is_a_plain_loop_over_single_environments():
    def make() -> Any:
        return simple_spread_v3.parallel_env(max_cycles=4)

    batch, seeds = SerialEnvs(make, 3), [5, 17, 100]
    step, rng = batch.reset(seeds), np.random.default_rng(0)
    singles = [make() for _ in seeds]
    for env, seed in zip(singles, seeds, strict=True):
        env.reset(seed=seed)
    resets = 0
    for t in range(10):
        action = rng.integers(0, 5, (3, 3, 1))
        was, step = step, batch.step(torch.as_tensor(action))
        for i, env in enumerate(singles):
            names = list(env.possible_agents)
            obs, reward, ends, cuts, _ = env.step({a: int(action[i, j, 0]) for j, a in enumerate(names)})
            assert np.array_equal(step.next_obs[i], np.stack([obs[a] for a in names]))
            assert np.array_equal(step.next_state[i], env.state())
            assert np.array_equal(step.reward[i], np.array([reward[a] for a in names], dtype=np.float32))
            assert step.terminated[i].tolist() == [ends[a] for a in names] == [False] * 3
            assert bool(step.ended[i]) == all(cuts.values()) == (t % 4 == 3)
            if step.ended[i]:
                resets += 1
                # Any seed will do, if only it differs from game to game; the batch's own says which it took.
                derived = np.random.SeedSequence([seeds[i], t // 4 + 1]).generate_state(1)[0]
                obs, _ = env.reset(seed=int(derived) % 2**31)
            assert np.array_equal(step.obs[i], np.stack([obs[a] for a in names]))
            assert np.array_equal(step.state[i], env.state())
            assert step.is_first[i].tolist() == [bool(step.ended[i])] * 3
        assert step.active.all()
        assert step.next_active.all()
        assert step.mask is None
        assert not torch.equal(step.obs, was.obs)
    assert resets == 6
    assert not torch.equal(step.obs[0], step.obs[1])


def test_it_is_an_environment():
    env = SerialEnvs(lambda: Scripted([]), 2)
    assert isinstance(env, Environment)
    assert env.spec.agents == ("a", "b", "c")
    assert env.spec.action_heads[0].categorical == (3,)
    assert env.spec.state_shape is None
    assert not env.spec.shared_reward


def test_after_reset_there_is_no_reward_no_end_and_next_repeats_the_present():
    env = SerialEnvs(lambda: Scripted([{"live": "abc"}], start="ac", state=True), 1)
    (step,) = steps_of(env, 0)
    assert torch.equal(step.obs, seen((1, 0), (0, 0), (1, 2)))
    assert step.active.tolist() == booleans("101")
    assert step.is_first[step.active].all()
    assert torch.equal(step.reward, torch.zeros(1, 3))
    assert not step.terminated.any()
    assert not step.ended.any()
    assert torch.equal(step.next_obs, step.obs)
    assert torch.equal(step.next_active, step.active)
    assert torch.equal(step.next_state, step.state)


def test_an_agent_that_dies_is_told_so_once_and_is_then_gone():
    script = [{"live": "ac", "term": "b"}, {"live": "ac"}, {"live": "ac"}]
    env = SerialEnvs(lambda: Scripted(script), 1)
    _, dies, gone, still = steps_of(env, 3)
    assert dies.terminated.tolist() == booleans("010")
    assert dies.reward.tolist() == [[1, 2, 3]]
    assert dies.active.tolist() == dies.next_active.tolist() == booleans("101")
    for step in (gone, still):
        assert not step.terminated.any()
        assert step.reward.tolist() == [[1, 0, 3]]
        assert step.active.tolist() == step.next_active.tolist() == booleans("101")
    for step in (dies, gone, still):
        assert not step.ended.any()
        assert not step.is_first.any()
        assert step.obs[0, 1].tolist() == [0, 0]
    assert torch.equal(still.obs, seen((1, 30), (0, 0), (1, 32)))
    assert [set(x) for x in env.envs[0].sent] == [set("abc"), set("ac"), set("ac")]


def test_an_agent_that_arrives_late_starts_a_life_then():
    env = SerialEnvs(lambda: Scripted([{"live": "a"}, {"live": "ab"}, {"live": "ab"}], start="a"), 1)
    _, before, arrives, after = steps_of(env, 3)
    assert before.active.tolist() == booleans("100")
    assert arrives.active.tolist() == arrives.next_active.tolist() == booleans("110")
    assert arrives.is_first.tolist() == booleans("010")
    assert arrives.reward.tolist() == [[1, 2, 0]], "whatever is paid counts"
    assert torch.equal(arrives.obs, seen((1, 20), (1, 21), (0, 0)))
    assert not after.is_first.any()
    assert after.reward.tolist() == [[1, 2, 0]]
    assert not torch.stack([before.terminated, arrives.terminated, after.terminated]).any()


def test_an_agent_that_comes_back_starts_another_life():
    script = [{"live": "ac", "term": "b"}, {"live": "abc"}, {"live": "ac", "term": "b"}]
    *_, back, again = steps_of(SerialEnvs(lambda: Scripted(script), 1), 3)
    assert back.is_first.tolist() == booleans("010")
    assert back.active.all()
    assert again.terminated.tolist() == booleans("010")


def test_a_time_limit_ends_the_episode_without_terminating_anyone():
    env = SerialEnvs(lambda: Scripted([{"live": "abc"}, {"live": "", "trunc": "abc"}], state=True), 1)
    _, on, cut, new = steps_of(env, 3)
    assert not on.ended.any()
    assert cut.ended.tolist() == [True]
    assert not cut.terminated.any()
    assert torch.equal(cut.next_obs, seen((1, 20), (1, 21), (1, 22)))
    assert cut.next_state.tolist() == [[1, 2]]
    assert torch.equal(cut.obs, seen((2, 0), (2, 1), (2, 2)))
    assert cut.state.tolist() == [[2, 0]]
    assert cut.is_first.all()
    assert cut.active.all()
    assert cut.next_active.all()
    assert cut.reward.tolist() == [[1, 2, 3]]
    assert not new.is_first.any()
    assert not new.ended.any()
    assert torch.equal(new.obs, seen((2, 10), (2, 11), (2, 12)))


def test_an_episode_that_ends_by_itself_is_terminated_for_all_the_dead_included():
    script = [{"live": "ac", "term": "b"}, {"live": "", "term": "ac"}]
    _, dies, over = steps_of(SerialEnvs(lambda: Scripted(script), 1), 2)
    assert not dies.ended.any()
    assert over.ended.tolist() == [True]
    assert over.terminated.all()
    assert over.reward.tolist() == [[1, 0, 3]]
    assert torch.equal(over.next_obs, seen((1, 20), (0, 0), (1, 22)))
    assert not over.next_active.any(), "nobody is left"
    assert over.active.all(), "after the reset all are there again"
    assert over.is_first.all()


def test_a_time_limit_that_meets_the_end_of_the_last_lives_is_an_end():
    (_, over) = steps_of(SerialEnvs(lambda: Scripted([{"live": "", "term": "abc", "trunc": "abc"}]), 1), 1)
    assert over.ended.tolist() == [True]
    assert over.terminated.all()


def test_a_time_limit_after_a_death_leaves_the_others_unterminated():
    script = [{"live": "ac", "term": "b"}, {"live": "", "trunc": "ac"}]
    *_, cut = steps_of(SerialEnvs(lambda: Scripted(script), 1), 2)
    assert cut.ended.tolist() == [True]
    assert not cut.terminated.any()
    assert cut.next_active.tolist() == booleans("101")


def test_who_dies_in_the_very_step_of_the_time_limit_is_not_there_to_be_bootstrapped():
    _, cut = steps_of(SerialEnvs(lambda: Scripted([{"live": "", "term": "b", "trunc": "ac"}]), 1), 1)
    assert cut.ended.tolist() == [True]
    assert cut.terminated.tolist() == booleans("010")
    assert cut.next_active.tolist() == booleans("101")


def test_a_life_cut_off_while_others_go_on_is_over():
    _, cut, after = steps_of(SerialEnvs(lambda: Scripted([{"live": "ac", "trunc": "b"}, {"live": "ac"}]), 1), 2)
    assert cut.terminated.tolist() == booleans("010")
    assert not cut.ended.any()
    assert cut.next_active.tolist() == booleans("101")
    assert not after.terminated.any()


def test_who_comes_back_in_the_step_of_its_death_begins_another_life_and_acts():
    env = SerialEnvs(lambda: Scripted([{"live": "abc", "term": "b"}, {"live": "abc"}]), 1)
    _, death, after = steps_of(env, 2)
    assert death.terminated.tolist() == booleans("010")
    assert death.is_first.tolist() == booleans("010")
    assert death.active.tolist() == booleans("111")
    assert not death.ended.any()
    assert set(env.envs[0].sent[1]) == {"a", "b", "c"}
    assert not after.is_first.any()


def test_environments_end_each_at_its_own_time():
    long, short = [{"live": "abc"}] * 9, [{"live": "", "trunc": "abc"}] * 9
    scripts = iter([long, short])
    env = SerialEnvs(lambda: Scripted(next(scripts)), 2)
    steps = steps_of(env, 2)
    assert [s.ended.tolist() for s in steps[1:]] == [[False, True]] * 2
    assert steps[-1].obs[0, 0].tolist() == [1, 20]
    assert steps[-1].obs[1, 0].tolist() == [3, 0]


def test_first_games_start_from_the_seeds_later_ones_from_what_derives_from_them():
    script = [{"live": "", "trunc": "abc"}]
    env = SerialEnvs(lambda: Scripted(script), 2)
    steps_of(env, 2)
    assert [e.seeds[0] for e in env.envs] == [0, 1]
    later = [s for e in env.envs for s in e.seeds[1:]]
    assert len(set(later)) == 4
    env.reset([0, 1])
    env.step(torch.zeros(2, 3, 1, dtype=torch.long))
    assert [e.seeds[-1] for e in env.envs] == [e.seeds[1] for e in env.envs], "the same seeds, the same games"
    env.reset()
    assert all(e.seeds[-1] not in e.seeds[:2] for e in env.envs), "without a seed, another game"
    with pytest.raises(ValueError, match="3 seeds for 2 environments"):
        env.reset([1, 2, 3])


ALL_BUT = {"a": [0, 1, 1], "b": [1, 0, 1], "c": [1, 1, 0]}


def test_masks_are_read_from_the_observation():
    space = spaces.Dict({"observation": BOX, "action_mask": spaces.MultiBinary(3)})

    def see(x: np.ndarray, agent: str, clock: int) -> Any:
        return {"observation": x, "action_mask": np.array(ALL_BUT[agent], dtype=np.int8)}

    script = [{"live": "ac", "term": "b"}]
    step, dies = steps_of(SerialEnvs(lambda: Scripted(script, obs_space=space, see=see), 1), 1)
    assert step.mask is not None
    assert step.mask.dtype == torch.bool
    assert step.mask.tolist() == [[[False, True, True], [True, False, True], [True, True, False]]]
    assert torch.equal(step.obs, seen((1, 0), (1, 1), (1, 2)))
    assert dies.mask is not None
    assert dies.mask[0, 0].tolist() == [False, True, True]


def test_masks_are_read_from_the_info():
    env = SerialEnvs(lambda: Scripted([{"live": "abc"}], info=lambda a, _: {"action_mask": ALL_BUT[a]}), 1)
    for step in steps_of(env, 1):
        assert step.mask is not None
        assert step.mask.tolist() == [[[False, True, True], [True, False, True], [True, True, False]]]


def test_a_mask_that_is_missing_for_a_step_allows_everything():
    def info(agent: str, clock: int) -> dict[str, Any]:
        return {"action_mask": ALL_BUT[agent]} if clock != 1 else {}

    numbers = iter(range(2))

    def make() -> Scripted:  # the second environment is one step behind, so that a batch mixes both
        first = [{"live": "abc"}] * 3 if next(numbers) == 0 else [{"live": "", "trunc": "abc"}]
        return Scripted(first, info=info)

    env = SerialEnvs(make, 2)
    for step, masked in zip(steps_of(env, 2), [(True, True), (False, True), (True, True)], strict=True):
        assert step.mask is not None
        assert [not bool(m.all()) for m in step.mask] == list(masked)


def test_masks_that_come_too_late_are_refused():
    info = {1: {"action_mask": [1, 0, 1]}}
    env = SerialEnvs(lambda: Scripted([{"live": "abc"}], info=lambda _, clock: info.get(clock, {})), 1)
    assert env.reset(0).mask is None
    with pytest.raises(UserError, match=r"^a has an action mask, and no agent had a mask at the reset; "):
        env.step(torch.zeros(1, 3, 1, dtype=torch.long))


def test_a_mask_of_another_size_than_the_actions_is_refused():
    env = SerialEnvs(lambda: Scripted([], info=lambda *_: {"action_mask": [1]}), 1)
    with pytest.raises(UserError, match=r"^[abc] has an action mask of shape \(1,\); its actions need \(3,\); "):
        env.reset(0)


def test_bytes_stay_bytes():
    space = spaces.Box(0, 255, (2,), np.uint8)
    env = SerialEnvs(lambda: Scripted([{"live": "abc"}], obs_space=space, see=lambda x, *_: x.astype(np.uint8)), 1)
    for step in steps_of(env, 1):
        assert step.obs.dtype == step.next_obs.dtype == torch.uint8
    assert step.obs[0].tolist() == [[1, 10], [1, 11], [1, 12]]


def test_doubles_become_floats():
    space = spaces.Box(-1, 1, (2,), np.float64)
    env = SerialEnvs(lambda: Scripted([{"live": "abc"}], obs_space=space, see=lambda x, *_: x / 3), 1)
    for step in steps_of(env, 1):
        assert step.obs.dtype == step.next_obs.dtype == step.reward.dtype == torch.float32


def test_a_discrete_space_that_starts_elsewhere_is_sent_its_own_numbers():
    env = SerialEnvs(lambda: Scripted([{"live": "abc"}], action_space=spaces.Discrete(3, start=-1)), 1)
    assert env.spec.action_heads[0].categorical == (3,)
    env.reset(0)
    env.step(torch.tensor([[[0], [1], [2]]]))
    assert env.envs[0].sent == [{"a": -1, "b": 0, "c": 1}]
    assert {type(x) for x in env.envs[0].sent[0].values()} == {int}


@pytest.mark.parametrize("sizes", [(3, 2), (4,)])
def test_a_multi_discrete_space_is_sent_an_array(sizes: tuple[int, ...]):
    start = np.arange(len(sizes))
    space = spaces.MultiDiscrete(sizes, start=start)
    env = SerialEnvs(lambda: Scripted([{"live": "abc"}], action_space=space), 1)
    assert env.spec.action_heads[0].categorical == sizes
    env.reset(0)
    action = torch.tensor([[[n - 1 for n in sizes]] * 3])
    env.step(action)
    for sent in env.envs[0].sent[0].values():
        assert space.contains(np.asarray(sent, dtype=space.dtype))
        assert np.array_equal(sent, action[0, 0].numpy() + start)
        assert isinstance(sent, np.ndarray)


def test_a_state_is_given_where_there_is_one():
    env = SerialEnvs(lambda: Scripted([{"live": "abc"}], state=True), 2)
    assert env.spec.state_shape == (2,)
    for clock, step in enumerate(steps_of(env, 1)):
        assert step.state.dtype == torch.float32
        assert step.state.tolist() == step.next_state.tolist() == [[1, clock]] * 2


def test_all_are_closed():
    env = SerialEnvs(lambda: Scripted([]), 2)
    env.close()
    assert all(e.closed for e in env.envs)


def test_what_is_no_parallel_env_is_refused():
    with pytest.raises(UserError, match=r"^list: this is not an environment of PettingZoo's Parallel API: it has no "):
        SerialEnvs(list, 1)


def test_an_observation_of_another_shape_than_its_space_is_refused():
    env = SerialEnvs(lambda: Scripted([], see=lambda x, *_: x[:1]), 1)
    with pytest.raises(UserError, match=r"^the observation of [abc] has shape \(1,\); its space says \(2,\); "):
        env.reset(0)


def test_a_picture_that_was_not_asked_for_is_missed():
    env = SerialEnvs(simple_spread_v3.parallel_env, 1)
    env.reset(0)
    with pytest.warns(UserWarning, match="render"), pytest.raises(UserError, match="make it with render_mode"):
        env.render(0)


class Team:
    """Agents with spaces of their own: name -> (observation space, action space); the game never ends.

    What they see is drawn from their spaces; `change` may alter all that a reset or step returns.
    """

    def __init__(
        self, team: dict[str, tuple[Any, Any]], change: Callable[[str, dict[str, Any]], Any] = lambda what, x: x
    ) -> None:
        self.team, self.change = team, change
        self.possible_agents = list(team)
        self.agents: list[str] = []
        self.seen: dict[str, Any] = {}
        self.sent: list[dict[str, Any]] = []
        self.resets = 0

    def observation_space(self, agent: str) -> Any:
        return self.team[agent][0]

    def action_space(self, agent: str) -> Any:
        return self.team[agent][1]

    def look(self) -> Any:
        self.seen = self.change("obs", {a: space.sample() for a, (space, _) in self.team.items()})
        return self.seen

    def each(self, what: str, value: Any) -> Any:
        return self.change(what, dict.fromkeys(self.team, value))

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        for k, (space, _) in enumerate(self.team.values()):
            space.seed(None if seed is None else 100 * seed + k)
        self.agents, self.resets = list(self.team), self.resets + 1
        return self.look(), self.each("info", {})

    def step(self, actions: dict[str, Any]) -> Any:
        self.sent.append(actions)
        ends = self.each("term", False), self.each("trunc", False)
        return self.look(), self.each("reward", 1.0), *ends, self.each("info", {})


class TeamWithState(Team):
    """The state is what `state` makes of the observations last seen."""

    def __init__(self, team: dict[str, tuple[Any, Any]], state: Callable[[dict[str, Any]], Any], space: Any = None):
        super().__init__(team)
        self.make_state = state
        if space is not None:
            self.state_space = space

    def state(self) -> Any:
        return self.make_state(self.seen)


def box(*shape: int, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(0, 255, shape, dtype)


def turns(env: SerialEnvs) -> Iterator[TimeStep]:
    """A reset from seed 0 and then a step, each taken only when it is asked for."""
    yield env.reset(0)
    yield env.step(torch.zeros(env.num_envs, env.spec.num_agents, env.spec.action_size, dtype=torch.long))


def mask_of(team: dict[str, tuple[Any, Any]], masks: dict[str, Any]) -> Tensor:
    """The mask `(A, N)` after a reset at which these masks were given in the infos."""
    step = SerialEnvs(lambda: Team(team, informed(masks)), 1).reset(0)
    assert step.mask is not None
    return step.mask[0]


def informed(masks: dict[str, Any]) -> Callable[[str, dict[str, Any]], Any]:
    def change(what: str, x: dict[str, Any]) -> Any:
        return {a: {"action_mask": masks[a]} if a in masks else {} for a in x} if what == "info" else x

    return change


EVERY_KIND = {
    "discrete": spaces.Discrete(4, start=-2),
    "small integers": spaces.MultiDiscrete([3, 2], dtype=np.int8, start=[5, -1]),
    "square": spaces.MultiDiscrete([[2, 3], [4, 5]]),
    "buttons": spaces.MultiBinary(3),
    "button square": spaces.MultiBinary((2, 2)),
    "numbers": spaces.Box(-1, 2, (2,), np.float32),
    "precise": spaces.Box(np.array([0.1, -3]), np.array([0.3, -0.7]), dtype=np.float64),
    "number": spaces.Box(0, 0.7, (), np.float32),
    "half": spaces.Box(-0.1, 0.1, (2, 1), np.float16),
    "free": spaces.Box(-np.inf, np.inf, (1,), np.float32),
}


def random_actions(env: SerialEnvs) -> Tensor:
    """Every choice of every head as likely as another; numbers at their bounds half of the time."""
    spec, shape = env.spec, (env.num_envs, 1)
    action = torch.full((env.num_envs, spec.num_agents, spec.action_size), 1e9).to(spec.action_dtype)
    for j, heads in enumerate(spec.action_heads):
        own = [torch.randint(n, shape) for n in heads.categorical]
        for low, high in zip(heads.low, heads.high, strict=True):
            low, high = max(low, -9.0), min(high, 9.0)
            own.append((low + (high - low) * (2 * torch.rand(shape) - 0.5)).clamp(low, high))
        action[:, j, spec.action_columns(j)] = torch.cat(own, 1).to(action.dtype)
    return action


@pytest.mark.parametrize("kinds", [*([kind] for kind in EVERY_KIND), [*EVERY_KIND], ["discrete", "square", "buttons"]])
def test_random_actions_are_in_their_own_spaces_whatever_those_are(kinds: list[str]):
    team = {kind: (box(2), EVERY_KIND[kind]) for kind in kinds}
    env = SerialEnvs(lambda: Team(team), 3)
    env.reset(0)
    for _ in range(20):
        env.step(random_actions(env))
    for game in env.envs:
        assert len(game.sent) == 20
        for sent in game.sent:
            assert list(sent) == kinds
            for kind, action in sent.items():
                space = EVERY_KIND[kind]
                assert space.contains(action)
                assert isinstance(action, int) or (action.dtype, action.shape) == (space.dtype, space.shape)
    for kind in kinds:
        assert len({str(sent[kind]) for game in env.envs for sent in game.sent}) > 3, "they are drawn"


def test_each_agent_gets_exactly_its_own_action():
    team = {
        "chooser": (box(1), spaces.Discrete(3, start=1)),
        "driver": (box(1), spaces.Box(-1, 1, (2,), np.float32)),
        "picker": (box(1), spaces.MultiDiscrete([2, 6])),
        "presser": (box(1), spaces.MultiBinary((1, 2))),
    }
    env = SerialEnvs(lambda: Team(team), 2)
    assert env.spec.heads == (3, 6)
    assert (env.spec.action_size, env.spec.action_dtype) == (4, torch.float32)
    env.reset(0)
    lost = 77.0  # what stands in columns that an agent lacks
    first = [[2, lost, lost, lost], [lost, lost, -0.5, 0.25], [1, 4, lost, lost], [0, 1, lost, lost]]
    second = [[0, lost, lost, lost], [lost, lost, 1.0, -1.0], [0, 5, lost, lost], [1, 0, lost, lost]]
    env.step(torch.tensor([first, second]))
    sent = [{a: np.asarray(x).tolist() for a, x in game.sent[0].items()} for game in env.envs]
    assert sent == [
        {"chooser": 3, "driver": [-0.5, 0.25], "picker": [1, 4], "presser": [[0, 1]]},
        {"chooser": 1, "driver": [1.0, -1.0], "picker": [0, 5], "presser": [[1, 0]]},
    ]


def test_numbers_are_clipped_to_their_bounds():
    env = SerialEnvs(lambda: Team({"a": (box(1), spaces.Box(-1, np.inf, (2,), np.float32))}), 1)
    env.reset(0)
    env.step(torch.tensor([[[-1.5, 1e9]]]))
    assert env.envs[0].sent[0]["a"].tolist() == [-1, 1e9]


@pytest.mark.parametrize("space", [spaces.Text(3), box(2, dtype=np.int32), spaces.Dict(a=spaces.Discrete(2))])
def test_other_action_spaces_are_refused(space: spaces.Space[Any]):
    with pytest.raises(UserError, match=r"^actions in .* are not supported: use Discrete, MultiDiscrete"):
        SerialEnvs(lambda: Team({"a": (box(1), space)}), 1)


@pytest.mark.parametrize("module", [simple_speaker_listener_v4, simple_reference_v3])
@pytest.mark.parametrize("continuous", [False, True])
def test_teams_of_mpe2_are_stepped(module: Any, continuous: bool):
    def make() -> Any:
        return module.parallel_env(max_cycles=3, continuous_actions=continuous)

    env, single = SerialEnvs(make, 2), make()
    step, (obs, _) = env.reset([5, 6]), single.reset(seed=5)
    for t in range(3):
        for j, agent in enumerate(env.spec.agents):
            n = env.spec.obs_size(j)
            assert np.array_equal(step.next_obs[0, j, :n], obs[agent])
            assert not step.next_obs[0, j, n:].any()
        assert np.array_equal(step.next_state[0], single.state())
        action = random_actions(env)
        spaces_ = [single.action_space(a) for a in env.spec.agents]
        own = {
            agent: int(action[0, j, 0])
            if isinstance(space, spaces.Discrete)
            else action[0, j, : space.shape[0]].numpy()
            for j, (agent, space) in enumerate(zip(env.spec.agents, spaces_, strict=True))
        }
        obs, reward, *_ = single.step(own)
        step = env.step(action)
        assert step.reward[0].tolist() == pytest.approx([reward[a] for a in env.spec.agents])
        assert step.ended.tolist() == [t == 2] * 2
    shapes = {single.observation_space(a).shape for a in env.spec.agents}
    assert (len(shapes) == 2) == (module is simple_speaker_listener_v4) == (len(set(env.spec.groups)) == 2)


def test_shorter_observations_have_zeros_behind():
    team = {"a": (box(3), BUTTON), "b": (box(1), BUTTON), "c": (box(2, 2), BUTTON)}
    env = SerialEnvs(lambda: Team(team), 2)
    assert env.spec.obs_shape == (4,)
    for step in turns(env):
        assert step.obs.dtype == torch.float32
        for i, game in enumerate(env.envs):
            expected = [[*game.seen["a"], 0], [*game.seen["b"], 0, 0, 0], [*game.seen["c"].flatten()]]
            assert torch.equal(step.obs[i], torch.tensor(np.array(expected)))
            assert step.obs[i].all(1).tolist() == [False, False, True]


BUTTON = spaces.Discrete(2)


@pytest.mark.parametrize(("other", "dtype"), [(np.uint8, torch.uint8), (np.float64, torch.float32)])
def test_observations_are_bytes_where_all_are(other: Any, dtype: torch.dtype):
    env = SerialEnvs(lambda: Team({"a": (box(2, dtype=np.uint8), BUTTON), "b": (box(1, dtype=other), BUTTON)}), 1)
    step = env.reset(0)
    assert step.obs.dtype == step.next_obs.dtype == env.spec.obs_dtype == dtype
    assert step.obs[0, 0].tolist() == env.envs[0].seen["a"].tolist()


def test_numbers_with_a_point_are_not_cut_to_bytes():
    def change(what: str, x: dict[str, Any]) -> Any:
        return {"a": x["a"] / 255} if what == "obs" else x

    env = SerialEnvs(lambda: Team({"a": (box(2, dtype=np.uint8), BUTTON)}, change), 1)
    with pytest.raises(UserError, match=r"^the observation of a has dtype float64; its space says uint8; "):
        env.reset(0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_stay_images(dtype: Any):
    env = SerialEnvs(lambda: Team({a: (box(4, 5, 3, dtype=dtype), BUTTON) for a in "ab"}), 2)
    assert env.spec.obs_shape == (4, 5, 3)
    step = env.reset(0)
    assert step.obs.shape == (2, 2, 4, 5, 3)
    assert np.array_equal(step.obs[1], np.stack(list(env.envs[1].seen.values())))


@pytest.mark.parametrize("other", [box(4, 5, 1), box(7)])
def test_images_of_several_shapes_are_flattened_with_their_places(other: spaces.Box):
    env = SerialEnvs(lambda: Team({"a": (box(4, 5, 3), BUTTON), "b": (other, BUTTON)}), 1)
    assert env.spec.obs_shape == (60,)
    assert [[part.shape for part in parts] for parts in env.spec.obs_parts] == [[(4, 5, 3)], [other.shape]]
    for step in turns(env):
        for j, agent in enumerate("ab"):
            seen = env.envs[0].seen[agent].flatten()
            assert np.array_equal(step.obs[0, j], np.pad(seen, (0, 60 - seen.size)))


NESTED = spaces.Dict(place=box(2), kind=spaces.Discrete(3), more=spaces.Tuple([spaces.MultiBinary(2), box(1, 2)]))


@pytest.mark.parametrize(
    "space",
    [
        NESTED,
        spaces.Tuple([box(2), spaces.Discrete(2)]),
        spaces.Discrete(4, start=3),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary([2, 2]),
        box(27, 5),
        box(2, 2, 2, 2),
        box(),
    ],
)
def test_other_observation_spaces_are_flattened_as_gymnasium_does(space: spaces.Space[Any]):
    env = SerialEnvs(lambda: Team({"a": (space, BUTTON), "b": (space, BUTTON)}), 1)
    size = spaces.flatdim(space)
    assert env.spec.obs_shape == (size,)
    for step in turns(env):
        for j, agent in enumerate("ab"):
            expected = spaces.flatten(space, env.envs[0].seen[agent])
            assert np.array_equal(step.obs[0, j], np.asarray(expected, dtype=np.float32))
    assert step.obs.any()


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(4),
        spaces.Dict(a=spaces.Tuple([spaces.Text(4)])),
        spaces.Sequence(box(1)),
        spaces.Dict(a=spaces.Sequence(box(1)), b=box(1)),
        spaces.Graph(box(1), None),
        spaces.Dict(action_mask=spaces.MultiBinary(2)),
    ],
)
def test_what_has_no_fixed_size_is_refused(space: Any):
    with pytest.raises(
        UserError,
        match=r"^the observation of b has the space .*, which does not flatten to a fixed count of numbers: use a ",
    ):
        SerialEnvs(lambda: Team({"a": (box(1), BUTTON), "b": (space, BUTTON)}), 1)


@pytest.mark.parametrize(
    ("space", "seen", "message"),
    [
        (box(2, 3), np.zeros((3, 2)), r"^the observation of a has shape \(3, 2\); its space says \(2, 3\); "),
        (box(2), [[1, 2], [3]], r"^the observation of a is \[\[1, 2\], \[3\]\]; its space says Box"),
        (
            NESTED,
            {"place": np.zeros(2)},
            r"^the observation of a is a dict of place; its space says a dict of place, kind, more; ",
        ),
        (spaces.Discrete(3), None, r"^the observation of a is None; its space says Discrete\(3\); "),
        (spaces.Discrete(3), 3, r"^the observation of a is 3; its space says Discrete\(3\); "),
        (
            spaces.Dict(x=box(2)),
            {"x": np.zeros(3)},
            r"^'x' in the observation of a has shape \(3,\); its space says \(2,\); ",
        ),
        (
            box(2),
            {"obs": 1, "action_mask": 2},
            "^the observation of a is a dict of obs, action_mask; its space says a dict of observation",
        ),
    ],
)
def test_what_is_not_in_its_space_is_told(space: Any, seen: Any, message: str):
    def change(what: str, x: dict[str, Any]) -> Any:
        return {"a": seen} if what == "obs" else x

    with pytest.raises(UserError, match=message):
        SerialEnvs(lambda: Team({"a": (space, BUTTON)}, change), 1).reset(0)


@pytest.mark.parametrize("inner", [box(2), box(4, 4, 3), NESTED, spaces.Dict(observation=box(1), more=box(2))])
@pytest.mark.parametrize("name", ["observation", "other"])
def test_a_mask_in_a_dict_is_taken_out_of_what_is_observed(inner: Any, name: str):
    mask = spaces.MultiBinary(3)
    space = spaces.Dict({name: inner, "action_mask": mask})
    env = SerialEnvs(lambda: Team({"a": (space, spaces.Discrete(3))}, with_first_legal), 1)
    image = name == "observation" and inner.shape == (4, 4, 3)
    assert env.spec.obs_shape == ((4, 4, 3) if image else (spaces.flatdim(inner),))
    for step in turns(env):
        seen = env.envs[0].seen["a"]
        expected = np.asarray(spaces.flatten(inner, seen[name]), dtype=np.float32)
        assert np.array_equal(step.obs[0, 0].flatten(), expected)
        assert step.mask is not None
        assert step.mask[0, 0].tolist() == seen["action_mask"].astype(bool).tolist()


def with_first_legal(what: str, x: dict[str, Any]) -> Any:
    if what == "obs":
        for own in x.values():
            own["action_mask"][0] = 1
    return x


def test_an_observation_beside_other_keys_keeps_them_all():
    parts = {"observation": box(2), "action_mask": spaces.MultiBinary(2), "more": box(1)}
    space = spaces.Dict(OrderedDict(parts))
    env = SerialEnvs(lambda: Team({"a": (space, BUTTON)}, with_first_legal), 1)
    seen = env.reset(0).obs[0, 0]
    assert seen.tolist() == [*env.envs[0].seen["a"]["observation"], *env.envs[0].seen["a"]["more"]]


UNEQUAL = {
    "one": (box(1), spaces.Discrete(3, start=7)),
    "two": (box(1), spaces.MultiDiscrete([2, 4])),
    "bits": (box(1), spaces.MultiBinary(2)),
    "none": (box(1), spaces.Box(0, 1, (1,))),
}


@pytest.mark.parametrize(
    ("two", "bits"),
    [
        ([0, 1, 1, 0, 0, 1], [1, 1, 0, 1]),
        (np.array([0, 1, 1, 0, 0, 1], dtype=np.int8), np.array([True, True, False, True])),
        ((np.array([0, 1], dtype=np.int8), np.array([1, 0, 0, 1], dtype=np.int8)), ([1, 1], [0, 1])),
        ([[False, True], [True, False, False, True]], np.array([[1, 1], [0, 1]])),
    ],
)
def test_masks_of_unequal_agents_stand_where_their_own_choices_do(two: Any, bits: Any):
    mask = mask_of(UNEQUAL, {"one": [1, 0, 1], "two": two, "bits": bits})
    # Heads of three and of four; of the second one, who has but one head has the first choice.
    assert mask.int().tolist() == [
        [1, 0, 1, 1, 0, 0, 0],
        [0, 1, 0, 1, 0, 0, 1],
        [1, 1, 0, 0, 1, 0, 0],
        [1, 0, 0, 1, 0, 0, 0],
    ]


def test_masks_of_heads_in_a_square_are_nested_as_the_heads_are():
    given = (([0, 1], [1, 0, 1]), ([1], [1, 1]))
    assert mask_of({"a": (box(1), spaces.MultiDiscrete([[2, 3], [1, 2]]))}, {"a": given}).int().tolist() == [
        [0, 1, 1, 0, 1, 1, 1, 1]
    ]


def test_who_is_given_no_mask_while_others_are_may_do_all_of_its_own():
    mask = mask_of(UNEQUAL, {"one": [0, 0, 1]})
    assert mask.int().tolist() == [
        [0, 0, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 1, 1, 1],
        [1, 1, 0, 1, 1, 0, 0],
        [1, 0, 0, 1, 0, 0, 0],
    ]


def test_unequal_agents_without_masks_are_given_none():
    env = SerialEnvs(lambda: Team(UNEQUAL, informed({"none": []})), 1)
    assert all(step.mask is None for step in turns(env))


@pytest.mark.parametrize(
    ("agent", "mask", "message"),
    [
        ("one", [0, 0, 0], r"in which nothing is legal; "),
        ("two", [1, 1, 0, 0, 0, 0], r"in which nothing is legal for head 2 of 2; "),
        ("two", ([0, 0], [1, 0, 0, 0]), r"in which nothing is legal for head 1 of 2; "),
        ("bits", np.zeros(4), r"in which nothing is legal for head 1 of 2; "),
        ("one", [[1, 1], [1]], r"of shape \(2, 1\); its actions need \(3,\); "),
        ("two", ([1, 1, 1, 1], [1, 1]), r"of shape \(4, 2\); its actions need \(6,\) or, head by head, \(2, 4\); "),
        ("bits", np.ones(2), r"of shape \(2,\); its actions need \(4,\) or, head by head, \(2, 2\); "),
        ("none", [1], r"of shape \(1,\); its actions need \(0,\); "),
    ],
)
def test_masks_that_cannot_be_are_told(agent: str, mask: Any, message: str):
    with pytest.raises(UserError, match=f"^{agent} has an action mask {message}"):
        mask_of(UNEQUAL, {agent: mask})


def test_the_dead_need_nothing_legal():
    def info(agent: str, clock: int) -> dict[str, Any]:
        return {"action_mask": [0, 0, 0] if (agent, clock) == ("b", 1) else [0, 1, 1]}

    env = SerialEnvs(lambda: Scripted([{"live": "ac", "term": "b"}], info=info), 1)
    _, dies = steps_of(env, 1)
    assert dies.mask is not None
    assert dies.mask[0].int().tolist() == [[0, 1, 1], [1, 1, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    ("what", "told"),
    [("obs", "observations"), ("reward", "rewards"), ("term", "terminations"), ("trunc", "truncations")],
)
def test_names_that_are_no_agents_are_told(what: str, told: str):
    now = False

    def change(which: str, x: dict[str, Any]) -> Any:
        return {**x, "agent_9": next(iter(x.values()))} if now and which == what else x

    env = SerialEnvs(lambda: Team({a: (box(1), BUTTON) for a in ("agent_0", "agent_1")}, change), 1)
    env.reset(0)
    env.step(torch.zeros(1, 2, 1, dtype=torch.long))
    now = True
    message = rf"^Team: {told} holds 'agent_9', which is not in possible_agents: agent_0, agent_1; "
    with pytest.raises(UserError, match=message):
        env.step(torch.zeros(1, 2, 1, dtype=torch.long))


def test_rewards_and_ends_are_read_by_name():
    def change(what: str, x: dict[str, Any]) -> Any:
        given = {"reward": {"b": 2.0, "a": 1.0}, "term": {"b": True, "a": False}, "info": {}}
        return given.get(what, dict(reversed(x.items())))

    env = SerialEnvs(lambda: Team({"a": (box(1), BUTTON), "b": (box(1), BUTTON)}, change), 1)
    env.reset(0)
    step = env.step(torch.zeros(1, 2, 1, dtype=torch.long))
    assert step.reward.tolist() == [[1, 2]]
    assert step.terminated.tolist() == [[False, True]]
    assert step.next_obs[0, :, 0].tolist() == [env.envs[0].seen[a][0] for a in "ab"]


THREE = {"a": (box(2), BUTTON), "b": (box(3), BUTTON), "c": (box(2), BUTTON)}


def test_a_state_in_another_order_is_warned_of_once():
    env = SerialEnvs(lambda: TeamWithState(THREE, lambda x: np.concatenate([x["c"], x["a"], x["b"]])), 2)
    with pytest.warns(
        UserWarning, match=r"^state\(\) holds the observations in the order c, a, b, but .* a, b, c; "
    ) as w:
        env.reset(0)
    assert len(w) == 1
    assert w[0].filename == __file__
    env.reset(1)  # warnings are errors


@pytest.mark.parametrize(
    "state",
    [
        lambda x: np.concatenate([x["a"], x["b"], x["c"]]),
        lambda x: np.concatenate([x["c"], x["b"]]),
        lambda x: np.concatenate([x["c"], x["b"], x["a"], [0]]),
        lambda x: np.concatenate([x["c"], x["b"], 1 + x["a"]]),
        lambda x: np.arange(7),
    ],
)
def test_no_other_state_is_warned_of(state: Callable[[dict[str, Any]], Any]):
    SerialEnvs(lambda: TeamWithState(THREE, state), 1).reset(0)


@pytest.mark.parametrize(
    ("parts", "whole", "order"),
    [
        ([[1], [2, 3], [4]], [4, 1, 2, 3], [2, 0, 1]),
        ([[1, 2], [1], [3]], [1, 1, 2, 3], [1, 0, 2]),  # one begins as another does
        ([[1], [1], [2]], [2, 1, 1], None),  # either of two may come first
        ([[1], [1, 2], [2]], [1, 2, 1, 2], None),
        ([[1], [2]], [2, 1, 0], None),
        ([[1], [2]], [2, 3], None),
    ],
)
def test_an_order_is_told_only_where_it_is_certain(parts: list[list[int]], whole: list[int], order: list[int] | None):
    assert find_order([np.array(part) for part in parts], np.array(whole)) == order


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(
    ("space", "shape", "dtype"),
    [
        (box(3, dtype=np.float64), (3,), torch.float32),
        (box(2, 3), (6,), torch.float32),
        (box(4, dtype=np.uint8), (4,), torch.float32),
        (box(4, 5, 3, dtype=np.uint8), (4, 5, 3), torch.uint8),
        (box(4, 5, 3, dtype=np.float64), (4, 5, 3), torch.float32),
        (box(), (1,), torch.float32),
    ],
)
def test_states_of_any_shape(space: spaces.Box, shape: tuple[int, ...], dtype: torch.dtype, told: bool):
    def make() -> Any:
        state = (space.low + np.arange(space.low.size).reshape(space.shape)).astype(space.dtype)
        return TeamWithState(THREE, lambda _: state, space if told else None)

    env = SerialEnvs(make, 2)
    assert env.spec.state_shape == shape
    # A reset costs time; and what one was reset, all are: with any number of workers the same.
    assert [e.resets for e in env.envs] == ([0, 0] if told else [1, 1])
    for step in turns(env):
        for state in (step.state, step.next_state):
            assert state is not None
            assert state.dtype == dtype
            assert torch.equal(state[1], torch.arange(state[1].numel()).reshape(shape).to(dtype))


def test_a_state_in_a_dict_is_flattened():
    space = spaces.Dict(a=box(2), b=spaces.Discrete(3))
    env = SerialEnvs(lambda: TeamWithState(THREE, lambda _: {"a": [5, 6], "b": 1}, space), 1)
    assert env.spec.state_shape == (5,)
    assert env.reset(0).state.tolist() == [[5, 6, 0, 1, 0]]


def refuse(_: Any) -> Any:
    raise NotImplementedError("state() method has not been implemented")


@pytest.mark.parametrize("state", [refuse, lambda _: None])
def test_a_state_that_is_not_there_is_done_without(state: Callable[[dict[str, Any]], Any]):
    env = SerialEnvs(lambda: TeamWithState(THREE, state), 1)
    assert env.spec.state_shape is None
    assert env.reset(0).state is None


def test_a_state_of_another_shape_than_at_first_is_told():
    env = SerialEnvs(lambda: TeamWithState(THREE, lambda x: x["b"]), 1)
    env.reset(0)
    env.envs[0].make_state = lambda x: x["a"]
    with pytest.raises(UserError, match=r"^state\(\) has shape \(2,\) in place of \(3,\); "):
        env.reset(0)


def test_a_state_that_is_written_over_is_kept_as_it_was():
    class Counts(Scripted):
        counted = np.zeros(1, dtype=np.float32)

        def state(self) -> Any:
            self.counted[0] = 10 * self.episode + self.clock
            return self.counted

    env = SerialEnvs(lambda: Counts([{"live": "", "trunc": "abc"}]), 1)
    assert env.spec.state_shape == (1,)
    _, step = steps_of(env, 1)
    assert (step.next_state.item(), step.state.item()) == (21, 30)


def test_a_reset_shows_nothing_of_the_step_before():
    env = SerialEnvs(lambda: Scripted([{"live": "ac", "term": "b"}, {"live": "", "trunc": "ac"}]), 1)
    for count in (1, 2):
        *_, last = steps_of(env, count)
        assert last.reward.any()
        step = env.reset(0)
        assert not step.reward.any()
        assert not step.terminated.any()
        assert not step.ended.any()
