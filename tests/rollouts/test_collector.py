"""A rollout is what a plain loop over the environment sees; what is wrong with an environment is named."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from chaos import Chaos, events
from games import Game
from mappo.algorithms.mappo import MAPPO
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig
from mappo.core.spec import ActionHeads
from mappo.core.timestep import TimeStep
from mappo.envs.batched.spread import Spread
from mappo.envs.batched.tensor_game import TensorGame, spec_of
from mappo.envs.probes.basic import Constant
from mappo.envs.vector.serial import SerialEnvs
from mappo.errors import UserError
from mappo.rollouts.collector import OUTCOME_FIELDS, PRESENT_FIELDS, Collector

STEPS = 20
# The numbers of the second are often beyond their bounds, and then cut off.
UNEQUAL = [(4, ActionHeads((3, 2))), (2, ActionHeads(low=(-0.2, 1.0), high=(0.2, 3.0))), (4, ActionHeads((3, 2)))]


def learner(env: Chaos) -> MAPPO:
    config = Config(
        EnvConfig(num_envs=env.num_envs), NetworkConfig((8,), actor_gain=1.0), PPOConfig(rollout_length=STEPS)
    )
    return MAPPO(env.spec, config)


def collector(env: Any, agent: MAPPO | None = None) -> Collector:
    generator = torch.Generator().manual_seed(7)
    return Collector(env, agent or learner(env), STEPS, env.reset(3), generator)


def plain_loop(env: Any, agent: MAPPO, rollouts: int) -> list[dict[str, Any]]:
    """The same steps with the same noise, kept in lists: one entry for each step."""
    generator, step, seen = torch.Generator().manual_seed(7), env.reset(3), []
    for _ in range(rollouts):
        noise = torch.rand(STEPS, *step.active.shape, agent.spec.action_size, generator=generator)
        for t in range(STEPS):
            action, log_prob, _ = agent.act(step, noise=noise[t])
            entry = {name: getattr(step, name) for name in PRESENT_FIELDS} | {"action": action, "log_prob": log_prob}
            step = env.step(agent.env_action(action))
            seen.append(entry | {name: getattr(step, name) for name in OUTCOME_FIELDS})
    return seen


@pytest.mark.parametrize("options", [{}, {"state_size": None, "masked": False}, {"kinds": UNEQUAL}])
def test_rollouts_are_what_a_plain_loop_sees(options: dict[str, Any]):
    agent, collect = learner(Chaos(**options)), collector(Chaos(**options))
    collect.agent.load_state_dict(agent.state_dict())
    seen = plain_loop(Chaos(**options), agent, rollouts=3)
    for k in range(3):  # the second goes on where the first stopped
        rollout, _ = collect.collect()
        assert min(events(rollout).values()) > 0
        for name in (*PRESENT_FIELDS, "action", "log_prob", *OUTCOME_FIELDS):
            expected = [entry[name] for entry in seen[k * STEPS : (k + 1) * STEPS]]
            if expected[0] is None:
                assert getattr(rollout, name) is None
            else:
                assert torch.equal(getattr(rollout, name), torch.stack(expected)), name
                assert getattr(rollout, name).dtype == expected[0].dtype


def test_the_environment_is_sent_numbers_within_their_bounds_and_the_rollout_keeps_them_as_drawn():
    env, sent = Chaos(kinds=UNEQUAL), []
    step = env.step
    env.step = lambda action: (sent.append(action), step(action))[1]  # type: ignore[method-assign]
    rollout, _ = collector(env).collect()
    low, high = torch.tensor([-0.2, 1.0]), torch.tensor([0.2, 3.0])
    drawn, given = rollout.action[:, :, 1, 2:], torch.stack(sent)[:, :, 1, 2:]
    assert rollout.action.dtype == env.spec.action_dtype == torch.float32
    assert torch.equal(given, ((low + high) / 2 + drawn * (high - low) / 2).clamp(low, high))
    assert (drawn.abs() > 1).any()
    assert torch.equal(torch.stack(sent)[..., :2], rollout.action[..., :2])


def test_observations_keep_the_environments_dtype():
    env = Chaos()
    reset = env.reset

    def bytes_only(seed: int) -> TimeStep:
        step = reset(seed)
        step.obs = step.next_obs = step.obs.mul(10).clamp(0, 255).to(torch.uint8)
        return step

    env.reset = bytes_only  # type: ignore[method-assign, assignment]
    assert collector(env).rollout.obs.dtype == torch.uint8


def test_episodes_are_counted_as_a_plain_book_would():
    env = Chaos()
    agent, collect = learner(env), collector(Chaos())
    collect.agent.load_state_dict(agent.state_dict())
    seen = plain_loop(env, agent, rollouts=3)
    returns, lengths = [0.0] * env.num_envs, [0] * env.num_envs
    for k in range(3):
        finished: list[tuple[float, int]] = []
        for entry in seen[k * STEPS : (k + 1) * STEPS]:
            for e in range(env.num_envs):
                returns[e] += entry["reward"][e].sum().item()
                lengths[e] += 1
                if entry["ended"][e]:
                    finished.append((returns[e], lengths[e]))
                    returns[e], lengths[e] = 0.0, 0
        _, statistics = collect.collect()
        assert statistics["episodes"] == len(finished) > 0
        mean = [sum(column) / len(finished) for column in zip(*finished, strict=True)]
        assert statistics["return_sum"].item() == pytest.approx(mean[0], rel=1e-4, abs=1e-5)
        assert statistics["episode_length"].item() == pytest.approx(mean[1])


def test_a_long_episode_loses_no_small_reward():
    collect = collector(Constant(2, horizon=STEPS))
    collect.episodes.running_return.fill_(2.0**24)  # where float32 has no odd numbers
    _, statistics = collect.collect()
    assert statistics["return_sum"].item() == 2**24 + STEPS


def test_a_run_that_summed_in_float32_goes_on_so():
    first, second = collector(Spread(6)), collector(Spread(6))
    first.collect()
    earlier = {name: x.float() if name in ("running", "steps") else x.clone() for name, x in first.state_dict().items()}
    second.load_state_dict(earlier)
    assert {second.state_dict()[name].dtype for name in ("running", "steps")} == {torch.float32}
    assert second.collect()[1]["return_sum"].dtype == torch.float32
    with pytest.raises(ValueError, match="running is"):
        second.load_state_dict(earlier | {"running": earlier["running"].int()})


def test_where_no_episode_ended_the_means_are_nan():
    _, statistics = collector(Chaos(terminations=0.0, truncations=0.0)).collect()
    assert statistics["episodes"] == 0
    assert statistics["return_sum"].isnan()
    assert statistics["episode_length"].isnan()


class ShortOrLong(TensorGame):
    """Episodes of 2 or 20 steps, each as often, are paid 1 a step: the mean return is 11."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs, spec_of([1], [ActionHeads((2,))], shared_reward=True), 20)

    def _begin_episodes(self) -> dict[str, Tensor]:
        return {"length": 2 + 18 * self._randint(2)}

    def _next_tensors(self, tensors: dict[str, Tensor], action: Tensor) -> dict[str, Tensor]:
        return {}

    def _over(self, tensors: dict[str, Tensor]) -> Tensor:
        return tensors["clock"] >= tensors["length"]

    def _obs(self, tensors: dict[str, Tensor]) -> Tensor:
        return self._ones(1, 1)

    def _reward(self, tensors: dict[str, Tensor], action: Tensor) -> Tensor:
        return self._ones(1)


def test_the_latest_return_does_not_favour_short_episodes():
    """The mean over the episodes of each rollout does: it says 2, then far less than 11."""
    env = ShortOrLong(2000)
    agent = learner(env)
    collect = Collector(env, agent, 5, env.reset(3), torch.Generator().manual_seed(7))
    rows = [{name: float(x) for name, x in collect.collect()[1].items()} for _ in range(30)]
    latest = [row["return_latest"] for row in rows]
    assert rows[0]["return_sum"] == 2
    assert all(map(math.isnan, latest[:2])), "no environment may be left out"
    error = 4 * 9 / math.sqrt(2000)  # of a row
    assert all(abs(x - 11) < error for x in latest[3:]), latest
    assert abs(sum(latest[3:]) / 27 - 11) < error / 2
    assert sum(row["return_sum"] for row in rows[:8]) / 8 < 11 - 2 * error


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_latest_returns_are_one_for_each_environment_and_are_saved(seeds: int):
    def make() -> Collector:
        env = Spread(6)
        env.set_num_seeds(seeds)
        generators = [torch.Generator().manual_seed(7 + seed) for seed in range(seeds)]
        return Collector(env, learner(env), STEPS, env.reset(3), generators)

    first, second = make(), make()
    assert first.collect()[1]["return_latest"].isnan().all()  # 20 of 25 steps
    expected = first.collect()[1]["return_sum"]
    second.load_state_dict(*[{k: x.clone() for k, x in first.state_dict(seed).items()} for seed in range(seeds)])
    for collect in (first, second):
        assert collect.episodes.latest[:, 1].tolist() == [1.0] * 6
        mean = collect.episodes.latest[:, 0].reshape(seeds, -1).mean(1)
        assert_close(mean.reshape(expected.shape), expected.double())
    assert_close(first.collect()[1]["return_latest"], second.collect()[1]["return_latest"], rtol=0, atol=0)
    states = [first.state_dict(seed) for seed in range(seeds)]
    third = make()
    third.load_state_dict(*[{k: x for k, x in state.items() if k != "latest"} for state in states])
    assert not third.episodes.latest.any(), "an earlier version saved none"


def test_episodes_under_way_are_part_of_the_state():
    first, second = collector(Spread(6)), collector(Spread(6))
    first.collect()
    assert first.episodes.running_length.tolist() == [STEPS] * 6
    state = {name: x.clone() for name, x in first.state_dict().items()}
    second.load_state_dict(state)
    assert_close(second.steps[0].obs, first.steps[0].obs, atol=0, rtol=0)
    first.collect()
    assert torch.equal(second.episodes.running_return, state["running"])
    assert second.episodes.running_length.tolist() == [STEPS] * 6


def test_episodes_of_an_environment_that_cannot_be_saved_start_anew():
    quiet = {"terminations": 0.0, "truncations": 0.0}
    first, second = collector(Chaos(**quiet)), collector(Chaos(**quiet))
    first.collect()
    second.load_state_dict(first.state_dict())
    assert second.episodes.running_length.tolist() == [0] * 6
    assert torch.equal(second.generators[0].get_state(), first.generators[0].get_state())


def test_the_same_buffers_are_filled_again():
    collect = collector(Chaos())
    first, _ = collect.collect()
    before = first.reward.clone()
    second, _ = collect.collect()
    assert first is second
    assert not torch.equal(second.reward, before)


class Broken(Chaos):
    """Chaos, but `spoil` has its way with the step of number `at`, counted from 0."""

    def __init__(self, spoil: Callable[[TimeStep], None], at: int = 4, **options: Any) -> None:
        super().__init__(**({"deaths": 0.0, "terminations": 0.0, "truncations": 0.0} | options))
        self.spoil, self.at, self.count = spoil, at, 0

    def reset(self, seed: Any = None) -> TimeStep:
        step = super().reset(seed)
        self.active = torch.ones_like(self.active)
        step.active = step.next_active = self.active
        if self.at < 0:
            self.spoil(step)
        return step

    def step(self, action: Tensor) -> TimeStep:
        step = super().step(action)
        if self.count == self.at:
            self.spoil(step)
        self.count += 1
        return step


def put(*names: str, value: float, index: tuple[int, ...]) -> Callable[[TimeStep], None]:
    """Writes a value at an index of some fields."""

    def spoil(step: TimeStep) -> None:
        for name in names:
            changed = getattr(step, name).clone()
            changed[index] = value
            setattr(step, name, changed)

    return spoil


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("names", "index", "what"),
    [
        (("reward",), (2, 1), "reward of agent_1"),
        (("next_obs",), (2, 1, 3), "next_obs of agent_1"),
        (("next_obs", "obs"), (2, 1, 3), "next_obs of agent_1"),  # the usual case: no reset in between
        (("next_state",), (2, 3), "next_state"),
        (("next_state", "state"), (2, 3), "next_state"),
    ],
)
def test_a_number_that_is_not_finite_names_agent_environment_step_and_action(
    names: tuple[str, ...], index: tuple[int, ...], what: str, value: float
):
    collect = collector(Broken(put(*names, value=value, index=index)))
    with pytest.raises(UserError) as caught:
        collect.collect()
    message = str(caught.value)
    assert f"the environment's {what} is {value}, in environment 2 of 6, at step 4" in message
    assert f"after action {collect.rollout.action[4, 2].tolist()}" in message


def test_a_first_observation_that_is_not_finite_is_named():
    collect = collector(Broken(put("obs", value=math.nan, index=(2, 1, 3)), at=-1))
    with pytest.raises(UserError, match=r"the environment's obs of agent_1 is nan, in environment 2 of 6, at step 0"):
        collect.collect()


def test_what_absent_agents_see_may_be_anything():
    clean, spoilt = (collector(Chaos(dead_sees=x)) for x in (0.0, math.nan))
    for _ in range(2):
        a, b = clean.collect(), spoilt.collect()
        assert not a[0].active.all()
        assert torch.equal(a[0].action, b[0].action)
        assert_close(a[1], b[1])


def change(name: str, function: Callable[[Tensor], Tensor]) -> Callable[[TimeStep], None]:
    return lambda step: setattr(step, name, function(getattr(step, name)))


WRONG = [
    ("reward", lambda x: x[:, :1], r"reward must be \(6, 3[, 0-9]*\), by its Spec, got \(6, 1\)"),
    ("reward", lambda x: x.unsqueeze(-1), r"reward must be \(6, 3[, 0-9]*\), by its Spec, got \(6, 3, 1\)"),
    ("reward", lambda x: x.long(), r"reward must be floating point, got torch\.int64"),
    ("ended", lambda x: x[:1], r"ended must be \(6,[ 0-9]*\), by its Spec, got \(1,\)"),
    ("ended", lambda x: x.float(), r"ended must be boolean, got torch\.float32"),
    ("terminated", lambda x: x[:, :1], r"terminated must be \(6, 3[, 0-9]*\), by its Spec, got \(6, 1\)"),
    ("terminated", lambda x: x.int(), r"terminated must be boolean, got torch\.int32"),
    ("is_first", lambda x: x[0], r"is_first must be \(6, 3[, 0-9]*\), by its Spec, got \(3,\)"),
    ("mask", lambda x: x.float(), r"mask must be boolean, got torch\.float32"),
    ("mask", lambda x: x[:, 0], r"mask must be \(6, 3[, 0-9]*\), by its Spec, got \(6, 5\)"),
    ("obs", lambda x: x[:, :1], r"obs must be \(6, 3[, 0-9]*\), by its Spec, got \(6, 1, 4\)"),
    ("state", lambda x: x[:1], r"state must be \(6,[ 0-9]*\), by its Spec, got \(1, 5\)"),
    ("next_obs", lambda x: x[0], r"next_obs must be \(6, 3[, 0-9]*\), by its Spec, got \(3, 4\)"),
    ("next_active", lambda x: x.float(), r"next_active must be boolean, got torch\.float32"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_a_wrong_shape_or_dtype_at_the_reset_is_named(name: str, function: Callable[[Tensor], Tensor], message: str):
    with pytest.raises(UserError, match="the environment's " + message):
        collector(Broken(change(name, function), at=-1))


@pytest.mark.parametrize("name", ["reward", "ended", "terminated", "obs", "mask", "state", "next_obs", "is_first"])
def test_a_shape_that_changes_on_the_way_is_named_before_it_broadcasts(name: str):
    shape = tuple(getattr(Chaos().reset(0), name).shape)
    collect = collector(Broken(change(name, lambda x: x[..., :1] if x.ndim > 1 else x[:1]), at=4))
    with pytest.raises(UserError) as caught:
        collect.collect()
    changed = (*shape[:-1], 1)
    assert str(caught.value) == f"the environment's {name} must be {shape} as at the reset, got {changed}"


@pytest.mark.parametrize("late", [True, False])
def test_a_mask_that_comes_or_goes_is_named(late: bool):
    class Forgetful(Chaos):
        def _mask(self) -> Any:
            mask, self.count = super()._mask(), getattr(self, "count", 0) + 1
            return mask if (self.count > 2) == late else None

    with pytest.raises(UserError, match="mask must be given at the reset and at every step, or never"):
        collector(Forgetful(), learner(Chaos())).collect()


def test_a_rollout_that_chunks_do_not_divide_is_refused():
    env, config = Chaos(), learner(Chaos()).config
    agent = MAPPO(env.spec, replace(config, network=replace(config.network, memory_size=4)))
    with pytest.raises(ValueError, match="a rollout of 7 steps cannot be cut into chunks of 10"):
        Collector(env, agent, 7, env.reset(3), torch.Generator())


@pytest.mark.parametrize("memory_size", [0, 4])
def test_halves_stepped_in_turn_are_a_plain_loop(memory_size: int):
    length = 20
    network, ppo = NetworkConfig((8,), actor_gain=1.0, memory_size=memory_size), PPOConfig(rollout_length=length)
    env, loop = SerialEnvs(Game, 5), SerialEnvs(Game, 5)
    agent = MAPPO(env.spec, Config(EnvConfig(num_envs=5), network, ppo))
    collect = Collector(env, agent, length, env.reset(3), torch.Generator().manual_seed(7))
    generator, step, memory = torch.Generator().manual_seed(7), loop.reset(3), agent.new_memory(5)
    returns, lengths = torch.zeros(5), torch.zeros(5)
    for _ in range(2):
        rollout, statistics = collect.collect()
        noise, finished = torch.rand(rollout.action.shape, generator=generator), []
        for t in range(length):
            action, log_prob, memory = agent.act(step, memory, noise=noise[t])
            seen = {name: getattr(step, name) for name in PRESENT_FIELDS} | {"action": action, "log_prob": log_prob}
            step = loop.step(agent.env_action(action))
            seen |= {name: getattr(step, name) for name in OUTCOME_FIELDS}
            for name, x in seen.items():
                torch.testing.assert_close(getattr(rollout, name)[t], x, msg=name)
            returns, lengths = returns + step.reward.sum(-1), lengths + 1
            finished += [(float(returns[e]), float(lengths[e])) for e in step.ended.nonzero()[:, 0]]
            returns, lengths = returns * ~step.ended, lengths * ~step.ended
        told = [float(statistics[name]) for name in ("episodes", "return_sum", "episode_length")]
        mean = [sum(x) / len(finished) for x in zip(*finished, strict=True)]
        assert told == pytest.approx([len(finished), *mean], rel=1e-4)
