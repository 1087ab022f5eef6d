"""Law 10: the loop over PettingZoo environments gives what single environments give."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from mpe2 import simple_spread_v3
from torch import Tensor

from mappo.envs.parallel import ParallelEnvs
from mappo.errors import UserError
from mappo.types import Environment, TimeStep

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


def steps_of(env: ParallelEnvs, count: int, width: int = 1) -> list[TimeStep]:
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

    batch, seeds = ParallelEnvs(make, 3), [5, 17, 100]
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
                obs, _ = env.reset(seed=int(np.random.SeedSequence([seeds[i], t // 4 + 1]).generate_state(1)[0]))
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
    env = ParallelEnvs(lambda: Scripted([]), 2)
    assert isinstance(env, Environment)
    assert env.spec.agents == ("a", "b", "c")
    assert env.spec.action_heads[0].categorical == (3,)
    assert env.spec.state_shape is None
    assert not env.spec.shared_reward


def test_after_reset_there_is_no_reward_no_end_and_next_repeats_the_present():
    env = ParallelEnvs(lambda: Scripted([{"live": "abc"}], start="ac", state=True), 1)
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
    env = ParallelEnvs(lambda: Scripted(script), 1)
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
    env = ParallelEnvs(lambda: Scripted([{"live": "a"}, {"live": "ab"}, {"live": "ab"}], start="a"), 1)
    _, before, arrives, after = steps_of(env, 3)
    assert before.active.tolist() == booleans("100")
    assert arrives.active.tolist() == arrives.next_active.tolist() == booleans("110")
    assert arrives.is_first.tolist() == booleans("010")
    assert arrives.reward.tolist() == [[1, 0, 0]], "what came before its first action is not its reward"
    assert torch.equal(arrives.obs, seen((1, 20), (1, 21), (0, 0)))
    assert not after.is_first.any()
    assert after.reward.tolist() == [[1, 2, 0]]
    assert not torch.stack([before.terminated, arrives.terminated, after.terminated]).any()


def test_an_agent_that_comes_back_starts_another_life():
    script = [{"live": "ac", "term": "b"}, {"live": "abc"}, {"live": "ac", "term": "b"}]
    *_, back, again = steps_of(ParallelEnvs(lambda: Scripted(script), 1), 3)
    assert back.is_first.tolist() == booleans("010")
    assert back.active.all()
    assert again.terminated.tolist() == booleans("010")


def test_a_time_limit_ends_the_episode_without_terminating_anyone():
    env = ParallelEnvs(lambda: Scripted([{"live": "abc"}, {"live": "", "trunc": "abc"}], state=True), 1)
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
    _, dies, over = steps_of(ParallelEnvs(lambda: Scripted(script), 1), 2)
    assert not dies.ended.any()
    assert over.ended.tolist() == [True]
    assert over.terminated.all()
    assert over.reward.tolist() == [[1, 0, 3]]
    assert torch.equal(over.next_obs, seen((1, 20), (0, 0), (1, 22)))
    assert not over.next_active.any(), "nobody is left"
    assert over.active.all(), "after the reset all are there again"
    assert over.is_first.all()


def test_a_time_limit_that_meets_the_end_of_the_last_lives_is_an_end():
    (_, over) = steps_of(ParallelEnvs(lambda: Scripted([{"live": "", "term": "abc", "trunc": "abc"}]), 1), 1)
    assert over.ended.tolist() == [True]
    assert over.terminated.all()


def test_a_time_limit_after_a_death_leaves_the_others_unterminated():
    script = [{"live": "ac", "term": "b"}, {"live": "", "trunc": "ac"}]
    *_, cut = steps_of(ParallelEnvs(lambda: Scripted(script), 1), 2)
    assert cut.ended.tolist() == [True]
    assert not cut.terminated.any()
    assert cut.next_active.tolist() == booleans("101")


def test_who_dies_in_the_very_step_of_the_time_limit_is_not_there_to_be_bootstrapped():
    _, cut = steps_of(ParallelEnvs(lambda: Scripted([{"live": "", "term": "b", "trunc": "ac"}]), 1), 1)
    assert cut.ended.tolist() == [True]
    assert cut.terminated.tolist() == booleans("010")
    assert cut.next_active.tolist() == booleans("101")


def test_a_life_cut_off_while_others_go_on_is_over():
    _, cut, after = steps_of(ParallelEnvs(lambda: Scripted([{"live": "ac", "trunc": "b"}, {"live": "ac"}]), 1), 2)
    assert cut.terminated.tolist() == booleans("010")
    assert not cut.ended.any()
    assert cut.next_active.tolist() == booleans("101")
    assert not after.terminated.any()


def test_who_comes_back_in_the_step_of_its_death_begins_another_life_and_acts():
    env = ParallelEnvs(lambda: Scripted([{"live": "abc", "term": "b"}, {"live": "abc"}]), 1)
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
    env = ParallelEnvs(lambda: Scripted(next(scripts)), 2)
    steps = steps_of(env, 2)
    assert [s.ended.tolist() for s in steps[1:]] == [[False, True]] * 2
    assert steps[-1].obs[0, 0].tolist() == [1, 20]
    assert steps[-1].obs[1, 0].tolist() == [3, 0]


def test_first_games_start_from_the_seeds_later_ones_from_what_derives_from_them():
    script = [{"live": "", "trunc": "abc"}]
    env = ParallelEnvs(lambda: Scripted(script), 2)
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
    step, dies = steps_of(ParallelEnvs(lambda: Scripted(script, obs_space=space, see=see), 1), 1)
    assert step.mask is not None
    assert step.mask.dtype == torch.bool
    assert step.mask.tolist() == [[[False, True, True], [True, False, True], [True, True, False]]]
    assert torch.equal(step.obs, seen((1, 0), (1, 1), (1, 2)))
    assert dies.mask is not None
    assert dies.mask[0, 0].tolist() == [False, True, True]


def test_masks_are_read_from_the_info():
    env = ParallelEnvs(lambda: Scripted([{"live": "abc"}], info=lambda a, _: {"action_mask": ALL_BUT[a]}), 1)
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

    env = ParallelEnvs(make, 2)
    for step, masked in zip(steps_of(env, 2), [(True, True), (False, True), (True, True)], strict=True):
        assert step.mask is not None
        assert [not bool(m.all()) for m in step.mask] == list(masked)


def test_masks_that_come_too_late_are_refused():
    info = {1: {"action_mask": [1, 0, 1]}}
    env = ParallelEnvs(lambda: Scripted([{"live": "abc"}], info=lambda _, clock: info.get(clock, {})), 1)
    assert env.reset(0).mask is None
    with pytest.raises(UserError, match=r"^a was given an action mask, but nobody was at the reset"):
        env.step(torch.zeros(1, 3, 1, dtype=torch.long))


def test_a_mask_of_another_size_than_the_actions_is_refused():
    env = ParallelEnvs(lambda: Scripted([], info=lambda *_: {"action_mask": [1]}), 1)
    with pytest.raises(UserError, match=r"^[abc] was given an action mask of shape \(1,\); its actions need \(3,\)$"):
        env.reset(0)


def test_bytes_stay_bytes():
    space = spaces.Box(0, 255, (2,), np.uint8)
    env = ParallelEnvs(lambda: Scripted([{"live": "abc"}], obs_space=space, see=lambda x, *_: x.astype(np.uint8)), 1)
    for step in steps_of(env, 1):
        assert step.obs.dtype == step.next_obs.dtype == torch.uint8
    assert step.obs[0].tolist() == [[1, 10], [1, 11], [1, 12]]


def test_doubles_become_floats():
    space = spaces.Box(-1, 1, (2,), np.float64)
    env = ParallelEnvs(lambda: Scripted([{"live": "abc"}], obs_space=space, see=lambda x, *_: x / 3), 1)
    for step in steps_of(env, 1):
        assert step.obs.dtype == step.next_obs.dtype == step.reward.dtype == torch.float32


def test_a_discrete_space_that_starts_elsewhere_is_sent_its_own_numbers():
    env = ParallelEnvs(lambda: Scripted([{"live": "abc"}], action_space=spaces.Discrete(3, start=-1)), 1)
    assert env.spec.action_heads[0].categorical == (3,)
    env.reset(0)
    env.step(torch.tensor([[[0], [1], [2]]]))
    assert env.envs[0].sent == [{"a": -1, "b": 0, "c": 1}]
    assert {type(x) for x in env.envs[0].sent[0].values()} == {int}


@pytest.mark.parametrize("sizes", [(3, 2), (4,)])
def test_a_multi_discrete_space_is_sent_an_array(sizes: tuple[int, ...]):
    start = np.arange(len(sizes))
    space = spaces.MultiDiscrete(sizes, start=start)
    env = ParallelEnvs(lambda: Scripted([{"live": "abc"}], action_space=space), 1)
    assert env.spec.action_heads[0].categorical == sizes
    env.reset(0)
    action = torch.tensor([[[n - 1 for n in sizes]] * 3])
    env.step(action)
    for sent in env.envs[0].sent[0].values():
        assert space.contains(np.asarray(sent, dtype=space.dtype))
        assert np.array_equal(sent, action[0, 0].numpy() + start)
        assert isinstance(sent, np.ndarray)


def test_a_state_is_given_where_there_is_one():
    env = ParallelEnvs(lambda: Scripted([{"live": "abc"}], state=True), 2)
    assert env.spec.state_shape == (2,)
    for clock, step in enumerate(steps_of(env, 1)):
        assert step.state.dtype == torch.float32
        assert step.state.tolist() == step.next_state.tolist() == [[1, clock]] * 2


def test_all_are_closed():
    env = ParallelEnvs(lambda: Scripted([]), 2)
    env.close()
    assert all(e.closed for e in env.envs)


def test_what_is_no_parallel_env_is_refused():
    with pytest.raises(UserError, match=r"^list is not an environment of PettingZoo's Parallel API: it has no "):
        ParallelEnvs(list, 1)


def test_continuous_actions_are_refused():
    with pytest.raises(UserError, match=r"^a acts in Box.*: only Discrete and MultiDiscrete are supported yet$"):
        ParallelEnvs(lambda: Scripted([], action_space=spaces.Box(-1, 1, (2,))), 1)


def test_agents_with_different_spaces_are_refused_by_name():
    class Mixed(Scripted):
        def action_space(self, agent: str) -> spaces.Space[Any]:
            return spaces.Discrete(3 if agent == "a" else 4)

    with pytest.raises(UserError, match=r"different spaces .* a sees \(2,\) and acts in Discrete\(3\); b sees") as told:
        ParallelEnvs(lambda: Mixed([]), 1)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("space", [spaces.Box(0, 255, (8, 8, 3), np.uint8), spaces.Discrete(4)])
def test_observations_that_are_no_vectors_are_refused(space: spaces.Space[Any]):
    with pytest.raises(UserError, match=r"^only vector observations are supported yet, got "):
        ParallelEnvs(lambda: Scripted([], obs_space=space), 1)


def test_an_observation_of_another_shape_than_its_space_is_refused():
    env = ParallelEnvs(lambda: Scripted([], see=lambda x, *_: x[:1]), 1)
    with pytest.raises(UserError, match=r"^[abc] observed an array of shape \(1,\); its space says \(2,\)$"):
        env.reset(0)


def test_a_picture_that_was_not_asked_for_is_missed():
    env = ParallelEnvs(simple_spread_v3.parallel_env, 1)
    env.reset(0)
    with pytest.warns(UserWarning, match="render"), pytest.raises(UserError, match="make it with render_mode"):
        env.render(0)
