"""Laws 4, 6 and 11 with a memory, for every kind of learner; and what a rollout becomes before it is learned from."""

import copy
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from chaos import Chaos, events, spoil_absent
from losses import loss_of
from mappo.algorithms import loss as objective
from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.minibatch import Batch, to_chunks
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig
from mappo.core.spec import ActionHeads
from mappo.core.timestep import Rollout
from mappo.rollouts.collector import Collector

STEPS = 12
KINDS: dict[str, list[tuple[int, ActionHeads]]] = {
    "equal": [(4, ActionHeads((3, 2)))] * 3,
    "unequal": [(4, ActionHeads((3, 2))), (2, ActionHeads((4,))), (4, ActionHeads((3, 2)))],
    "continuous": [(4, ActionHeads(low=(-1.0, 0.0), high=(1.0, 5.0)))] * 3,
    "mixed": [
        (4, ActionHeads((3,))),
        (2, ActionHeads(low=(-2.0,), high=(2.0,))),
        (5, ActionHeads((2,), (0.0,), (1.0,))),
    ],
}
TEAM = [("team", "env"), ("team", "joint"), ("team", "agent"), ("team", "own")]
MODES = [*TEAM, ("agent", "agent"), ("agent", "own")]  # rewards and what the critic reads


@dataclass(frozen=True)
class Case:
    """One way of learning; by default the plainest one with a memory."""

    mode: tuple[str, str] = ("team", "env")
    memory: int = 5
    chunk: int = 4
    sharing: str = "group"
    kinds: str = "equal"
    obs_norm: bool = False
    layer_norm: bool = False
    popart: bool = False
    bounds: str = "clip"

    def env(self, **chaos: Any) -> Chaos:
        return Chaos(4, kinds=KINDS[self.kinds], dtype=torch.get_default_dtype(), **chaos)

    def make(self, env: Chaos | None = None, seed: int = 1, **ppo: Any) -> MAPPO:
        """A small learner, with logits large enough to tell policies apart."""
        reward, critic = cast(Any, self.mode)
        net: dict[str, Any] = {"critic_input": critic, "memory_size": self.memory, "sharing": self.sharing}
        net |= {"layer_norm": self.layer_norm, "obs_norm": self.obs_norm, "action_bounds": self.bounds}
        settings = {"rollout_length": STEPS, "epochs": 1, "minibatch_by": "sequence", "chunk_length": self.chunk}
        made = PPOConfig(**cast(Any, settings | {"popart": self.popart} | ppo))
        config = Config(EnvConfig(4, reward=reward), NetworkConfig((8, 6), "tanh", actor_gain=1.0, **net), made)
        return MAPPO((env or self.env()).spec, config, seed=seed)


def some_cases() -> list[Case]:
    """Thirty of all combinations; each critic meets each chunk length."""
    draw = random.Random(0).choice
    return [
        Case(
            mode,
            memory,
            chunk,
            draw(["group", "all", "none"]),
            kinds,
            draw([False, True]),
            *(draw([False, True]),) * 2,
            bounds,
        )
        for (mode, chunk), memory, kinds, bounds in zip(
            [*itertools.product(MODES, [1, 4, STEPS]), *itertools.product(MODES, [1, 4])],
            itertools.cycle([5, 5, 5, 5, 0]),
            itertools.cycle(KINDS),
            itertools.cycle(["clip", "clip", "clip", "tanh", "tanh"]),
        )
    ]


CASES = some_cases()


@pytest.fixture(params=[(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=["float64", "float32"])
def precision(request: pytest.FixtureRequest) -> Iterator[float]:
    """Runs the test in both; gives the tolerance."""
    torch.set_default_dtype(request.param[0])
    yield request.param[1]
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def collector(agent: MAPPO, env: Chaos, seed: int = 0) -> Collector:
    return Collector(env, agent, STEPS, env.reset(seed), torch.Generator().manual_seed(seed))


def collect(agent: MAPPO, env: Chaos, seed: int = 0) -> Rollout:
    return collector(agent, env, seed).collect()[0]


def assert_equal(a: Any, b: Any) -> None:
    """Bit for bit, however nested."""
    assert_close(a, b, rtol=0, atol=0)


def heard(agent: MAPPO, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """The log-probabilities and values that `MAPPO.loss` compares with those of the rollout."""
    seen: dict[str, Any] = {}
    clip_loss, value_error = objective.ppo_clip_loss, objective.ppo_value_error
    with monkeypatch.context() as patch:
        patch.setattr(objective, "ppo_clip_loss", lambda new, *rest: clip_loss(seen.setdefault("new", new), *rest))
        patch.setattr(
            objective, "ppo_value_error", lambda data, *rest: value_error(seen.setdefault("data", data), *rest)
        )
        loss_of(agent, batch)
    return seen["new"].detach(), seen["data"].value_new.detach()


def by_loop(agent: MAPPO, r: Rollout) -> tuple[Tensor, Tensor, Tensor]:
    """What the critic answers to all states, and to what each action reached, step by step; and its memory behind."""

    def answer(t: int, then: bool, memory: Tensor | None, first: Tensor | None = None) -> tuple[Tensor, Tensor]:
        pick = [r.next_obs, r.next_state, r.next_active] if then else [r.obs, r.state, r.active]
        obs, state, active = (None if x is None else x[t] for x in pick)
        rows = agent.critic_input(cast(Tensor, obs), state, cast(Tensor, active))
        y, memory = agent.network.critic.step(agent.network.critic.preprocess(rows), memory, first)
        return y.squeeze(-1), cast(Tensor, memory)

    memory = None if agent.critic.memory is None else agent.critic.memory.clone()
    now: list[Tensor] = []
    then: list[Tensor] = []
    with torch.no_grad():
        for t in range(len(r.obs)):
            over = r.ended[t - 1] if t else torch.zeros_like(r.ended[0])
            first = over if agent.team_rows else over.unsqueeze(-1) | r.is_first[t]
            value, memory = answer(t, False, memory, first)
            now.append(value)
            then.append(answer(t, True, memory)[0])  # one step further, and nothing is reset
    return torch.stack(now), torch.stack(then), memory if memory is None else memory.clone()


# Law 4


def test_the_cases_cover_what_they_are_for():
    for field in fields(Case):
        everything = {"mode": 6, "chunk": 3, "sharing": 3, "kinds": 4}.get(field.name, 2)
        assert len({getattr(case, field.name) for case in CASES}) == everything, field.name
    assert len({(case.kinds, case.sharing) for case in CASES if case.memory}) >= 9
    rollouts = [collect(Case().make(), Case().env(), seed) for seed in range(4)]
    happened = [events(rollout) for rollout in rollouts]
    assert all(sum(counts[name] for counts in happened) >= 5 for name in happened[0]), happened


@pytest.mark.parametrize("case", CASES, ids=str)
def test_three_rollouts_in_a_row_are_read_again_with_the_same_numbers(
    case: Case, precision: float, monkeypatch: pytest.MonkeyPatch
):
    """Ratio 1 and the critic's own values, in chunks, with carried memories, moved statistics and moved weights."""
    env = case.env()
    agent = case.make(env)
    source = collector(agent, env)
    for number in range(3):
        rollout, _ = source.collect()
        if case.memory and number:
            assert cast(Tensor, rollout.memory)[0].any()
            assert cast(Tensor, agent.critic.memory).any()
        batch, *_ = agent.prepare(rollout)
        log_prob, value = heard(agent, batch, monkeypatch)
        acted = batch.weight != 0
        assert ((log_prob - batch.log_prob)[acted].exp() - 1).abs().max() <= precision
        assert_close(value, batch.value, rtol=precision, atol=precision)
        assert_close(value, to_chunks(by_loop(agent, rollout)[0], case.chunk), rtol=precision, atol=precision)
        agent.update(rollout)


@pytest.mark.parametrize("kinds", KINDS)
def test_a_memory_holds_its_own_life_and_nothing_else(kinds: str, precision: float):
    """Each life, across two rollouts, played again from its beginning by an actor that never saw another."""
    case = Case(kinds=kinds, sharing="none")
    env = case.env()
    agent = case.make(env)
    source = collector(agent, env)
    r, late = copy.deepcopy(source.collect()[0]), source.collect()[0]
    names = ("obs", "mask", "active", "is_first", "action", "log_prob", "ended")
    joined: dict[str, Any] = {
        n: torch.cat([getattr(r, n), getattr(late, n)]) for n in names if getattr(r, n) is not None
    }
    lives, dist = 0, agent.policy.distribution
    for e, a in itertools.product(range(4), range(env.spec.num_agents)):
        memory: Tensor | None = None
        for t in range(2 * STEPS):
            if not joined["active"][t, e, a]:
                memory = None
                continue
            if joined["is_first"][t, e, a]:
                memory, lives = None, lives + 1
            obs = torch.zeros_like(joined["obs"][t, e])
            obs[a] = joined["obs"][t, e, a]
            with torch.no_grad():
                numbers, memory = agent.network.actor.step(agent.network.actor.preprocess(obs), memory)
            legal = dist.legal_choices(joined["mask"][t, e] if "mask" in joined else None)
            log_prob = dist.log_prob(numbers, joined["action"][t, e], legal)[0][a]
            assert abs(log_prob.item() - joined["log_prob"][t, e, a].item()) <= 100 * precision
    assert lives > 20


@pytest.mark.parametrize("mode", MODES)
def test_critics_memories_go_on_in_the_next_rollout_and_are_zero_where_the_episode_ended(
    mode: tuple[str, str], precision: float
):
    case = Case(mode)
    env = case.env(truncations=0.3)
    agent = case.make(env)
    source = collector(agent, env)
    ended: list[bool] = []
    for _ in range(3):
        rollout, _ = source.collect()
        memory = by_loop(agent, rollout)[2]  # by the weights that will have learned from it
        over = rollout.ended[-1].clone()
        agent.update(rollout)
        carried = cast(Tensor, agent.critic.memory)
        assert not carried[over].any()
        assert_close(carried[~over], memory[~over], rtol=10 * precision, atol=10 * precision)
        assert carried[~over].abs().flatten(1).amax(-1).min() > 0
        ended += over.tolist()
    assert 0 < sum(ended) < 12


@pytest.mark.parametrize("garbage", [math.nan, math.inf])
def test_a_critics_memory_starts_anew_in_the_environments_where_it_is_not_finite(garbage: float):
    agent = Case().make(Case().env())
    rollout = collect(agent, Case().env())
    rollout.ended[-1] = False
    _, _, values = agent.prepare(rollout)
    memory = cast(Tensor, values.memory_out).clone()  # (T, E, H)
    memory[:-1, 0] = garbage  # in the past: a reset has mended it since
    memory[-1, 1, 2] = garbage
    agent.finish_update(rollout, values._replace(memory_out=memory))
    memory[-1, 1] = 0
    assert_equal(agent.critic.memory, memory[-1])


def test_an_actors_memory_of_before_a_life_is_never_heard():
    env = Case().env()
    agent = Case().make(env)
    step = env.reset(0)
    _, _, memory = agent.act(step)
    step = env.step(torch.zeros(4, 3, 2))
    while not (step.is_first.any() and (step.active & ~step.is_first).any()):
        step = env.step(torch.zeros(4, 3, 2))
    assert memory is not None
    noise = torch.rand(4, 3, 2)
    spoilt = torch.where(step.is_first.unsqueeze(-1), math.nan, memory)
    assert_equal(agent.act(step, spoilt, noise=noise), agent.act(step, memory, noise=noise))
    changed = agent.act(step, memory + 1, noise=noise)
    assert not torch.equal(changed[1], agent.act(step, memory, noise=noise)[1])


@pytest.mark.parametrize("memory", [0, 5])
def test_a_saved_actor_plays_on_as_in_training_across_episodes(memory: int):
    """Each agent by itself, with its own observation, mask and memory."""
    case = Case(kinds="unequal", memory=memory, obs_norm=True)
    env = case.env()
    agent = case.make(env)
    for seed in range(2):
        agent.update(collect(agent, env, seed))
    actor, step = agent.actor(), env.reset(3)
    kept: list[Any] = [None] * 3
    team_memory, seen = None, 0
    before = {name: x.clone() for name, x in agent.network.state_dict().items()}
    for _ in range(30):
        action, _, team_memory = agent.policy(
            step.obs, team_memory, mask=step.mask, is_first=step.is_first, active=step.active
        )
        for i, name in enumerate(env.spec.agents):
            mask = cast(Tensor, step.mask)[:, i, env.spec.choice_indices(i)]
            own = step.obs[:, i, : env.spec.obs_size(i)]
            alone, kept[i] = actor.agent(name)(own, kept[i], mask=mask, is_first=step.is_first[:, i])
            expected = env.spec.action_heads[i].to_space_action(action[:, i, env.spec.action_columns(i)])
            assert torch.equal(alone[step.active[:, i]], expected[step.active[:, i]])
            seen += int(step.active[:, i].sum())
        step = env.step(agent.env_action(action))
    assert seen > 200
    assert_equal(agent.network.state_dict(), before)  # statistics stand still at evaluation


# Advantages and targets


def returns_by_numpy(agent: MAPPO, r: Rollout, value: Any, then: Any) -> tuple[Any, Any]:
    """Advantages and returns by their definitions, one number at a time, in reward units."""
    ppo, own_reward = agent.config.ppo, agent.config.env.reward == "agent"
    value, then, reward = value.double().numpy(), then.double().numpy(), r.reward.double().numpy()
    terminated, ended = r.terminated.numpy(), r.ended.numpy()
    advantage, returns = np.zeros_like(value), np.zeros_like(value)
    for at in np.ndindex(value.shape):
        start, e, a = at[0], at[1], at[-1]
        adv, total, trace, discount = 0.0, 0.0, 1.0, 1.0
        for t in range(start, STEPS):
            gain = reward[t, e, a] if own_reward else reward[t, e].sum()
            over = terminated[t, e, a] if own_reward else ended[t, e] and terminated[t, e].all()
            rest = 0.0 if over else then[(t, *at[1:])]
            adv += trace * (gain + ppo.gamma * rest - value[(t, *at[1:])])
            trace *= ppo.gamma * ppo.gae_lambda
            total += discount * gain
            discount *= ppo.gamma
            last = over or ended[t, e] or t == STEPS - 1
            if last or (ppo.returns == "n_step" and t - start + 1 == ppo.n_step):
                total += discount * rest
                if ppo.returns == "n_step":
                    break
            if last:
                break
        advantage[at] = adv if ppo.returns == "gae" else total - value[at]
        returns[at] = advantage[at] + value[at]
    return advantage, returns


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("returns", ["gae", "n_step", "discounted"])
@pytest.mark.parametrize("memory", [0, 5])
@pytest.mark.parametrize("value_norm", [False, True])
def test_advantages_and_targets_are_those_of_their_definitions(
    mode: tuple[str, str], returns: str, memory: int, value_norm: bool
):
    """Where an episode is cut off, V of what was reached is one step from the memory behind s_t, not from nothing."""
    case = Case(mode, memory, kinds="unequal", sharing="all")
    env = case.env(deaths=0.3)
    agent = case.make(env, returns=returns, n_step=3, value_norm=value_norm, gamma=0.9, advantage_norm=False)
    source = collector(agent, env)
    source.collect()
    agent.update(source.rollout)  # some statistics and memories
    rollout, _ = source.collect()
    if value_norm:
        rollout.reward += 2.0
    mean, std = (x.item() for x in agent.value_norm.mean_std()) if value_norm else (0.0, 1.0)
    now, then, _ = by_loop(agent, rollout)
    batch, *_ = agent.prepare(rollout)
    advantage, target = (
        torch.as_tensor(x) for x in returns_by_numpy(agent, rollout, now * std + mean, then * std + mean)
    )
    new_mean, new_std = (x.item() for x in agent.value_norm.mean_std()) if value_norm else (0.0, 1.0)
    assert (new_mean != mean) == value_norm
    if agent.team_rows:
        advantage = advantage.unsqueeze(-1).expand_as(rollout.reward)
    assert_close(batch.adv, to_chunks(advantage, 4), rtol=1e-9, atol=1e-9)
    assert_close(batch.target, to_chunks((target - new_mean) / new_std, 4), rtol=1e-9, atol=1e-9)
    happened = events(rollout)
    assert min(happened["truncations"], happened["deaths"], happened["arrivals"]) >= 2, happened


@pytest.mark.usefixtures("float64")
def test_the_value_behind_a_time_limit_is_read_with_the_memory_of_the_episode():
    """A memory that was reset before it would give another answer; so would that of the next step."""
    case = Case()
    env = case.env(deaths=0.0, terminations=0.0, truncations=0.5)
    agent = case.make(env, value_norm=False, advantage_norm=False, returns="n_step", n_step=1, gamma=1.0)
    rollout = collect(agent, env)
    rollout.reward.zero_()
    _, then, _ = by_loop(agent, rollout)
    critic = agent.network.critic
    with torch.no_grad():
        empty = critic.step(critic.preprocess(cast(Tensor, rollout.next_state).flatten(0, 1)))[0].reshape(STEPS, 4)
    target = to_chunks(then, 4)
    assert_close(agent.prepare(rollout)[0].target, target, rtol=1e-12, atol=1e-12)
    assert (then - empty).abs()[rollout.ended].min() > 1e-4


# Law 6


@pytest.mark.parametrize("case", CASES[:18], ids=str)
def test_what_absent_agents_see_changes_nothing(case: Case):
    """A whole training, NaN in place of 0: actions, memories, statistics, moments and weights, bit for bit."""
    ends: list[Any] = []
    for dead_sees in (0.0, math.nan):
        env = case.env(dead_sees=dead_sees, deaths=0.3)
        agent = case.make(env, epochs=2, minibatches=2 if case.chunk < STEPS else 1)
        source = collector(agent, env)
        metrics = []
        for _ in range(2):
            rollout, _ = source.collect()
            assert (~rollout.active).sum() > 10
            metrics.append(agent.update(rollout))
            assert metrics[-1]["skipped_steps"] == 0
        ends.append((metrics, agent.state_dict(), rollout.action, rollout.memory))
    assert_equal(*ends)
    assert all(x.isfinite().all() for x in ends[1][1].values())


@pytest.mark.parametrize("mode", MODES)
def test_what_absent_agents_hold_has_no_gradient(mode: tuple[str, str]):
    gradients: list[Any] = []
    for spoilt in (False, True):
        case = Case(mode, obs_norm=True)
        agent = case.make()
        rollout = collect(agent, case.env(deaths=0.3))
        if spoilt:
            spoil_absent(rollout)
        batch, *_ = agent.prepare(rollout)
        loss_of(agent, batch)[0].backward()
        gradients.append([p.grad for p in agent.network.parameters()])
    assert_equal(*gradients)
    assert all(x.any() and x.isfinite().all() for x in gradients[0])


# Law 11


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("critic", ["env", "joint"])
@pytest.mark.parametrize("chunk", [1, 4, STEPS])
def test_one_critic_row_for_the_team_is_one_for_each_agent_with_a_memory_too(critic: str, chunk: int):
    case = Case(("team", critic), chunk=chunk)
    env = case.env()
    agent = case.make(env, value_clip=0.2, huber_delta=0.5)
    source = collector(agent, env)
    agent.update(source.collect()[0])
    batch, *_ = agent.prepare(source.collect()[0])
    assert (batch.weight == 0).any()

    def repeat(x: Any) -> Any:
        return x.unsqueeze(2).expand(-1, -1, 3, *x.shape[2:])

    names = ("critic_obs", "value", "target", "critic_is_first", "critic_memory")
    each = replace(batch, value_weight=batch.weight, **{name: repeat(getattr(batch, name)) for name in names})
    results: list[Any] = []
    for one in (batch, each):
        agent.optimizer.zero_grad()
        total, _ = loss_of(agent, one)
        total.backward()
        results.append((total.detach(), [cast(Tensor, p.grad).clone() for p in agent.network.parameters()]))
    assert_close(*results, rtol=1e-12, atol=1e-12)


# Chunks and minibatches


@pytest.mark.parametrize("memory", [0, 5])
@pytest.mark.parametrize("chunk", [1, 4, STEPS])
@pytest.mark.parametrize("mode", [("team", "env"), ("agent", "agent")])
def test_whole_chunks_are_dealt_to_minibatches_each_once(memory: int, chunk: int, mode: tuple[str, str]):
    agent = (case := Case(mode, memory, chunk)).make(minibatches=4)
    rollout = collect(agent, case.env())
    # Each row says when and where it was.
    rollout.log_prob = torch.arange(STEPS * 4.0).reshape(STEPS, 4, 1).expand(-1, -1, 3).clone()
    batch, *_ = agent.prepare(rollout)
    orders: list[Tensor] = []
    for _ in range(2):
        seen: list[Tensor] = []
        for part in batch.minibatches(agent.epoch_orders(rollout)[0], 4, agent.row_axis):
            when, where = part.log_prob[..., 0].div(4, rounding_mode="floor").long(), part.log_prob[..., 0].long() % 4
            assert when.shape == (chunk, STEPS // chunk)
            assert (when[0] % chunk == 0).all()
            assert torch.equal(when, when[:1] + torch.arange(chunk).unsqueeze(-1))
            assert torch.equal(where, where[:1].expand_as(where))
            at = when.flatten(), where.flatten()
            assert torch.equal(part.action.flatten(0, 1), rollout.action[at])
            assert torch.equal(part.weight.flatten(0, 1), rollout.active[at].float())
            assert torch.equal(
                part.obs.flatten(0, 1)[part.weight.flatten(0, 1) != 0], rollout.obs[at][rollout.active[at]]
            )
            if memory:
                starts = when[0] // chunk, where[0]
                assert torch.equal(cast(Tensor, part.memory)[0], cast(Tensor, rollout.memory)[starts])
                assert torch.equal(cast(Tensor, part.is_first).flatten(0, 1), rollout.is_first[at])
                whole = cast(Tensor, batch.critic_memory)[0].unflatten(0, (-1, 4))
                assert torch.equal(cast(Tensor, part.critic_memory)[0], whole[starts])
            else:
                assert part.memory is part.is_first is part.critic_memory is part.critic_is_first is None
            seen.append(part.log_prob[..., 0].flatten())
        orders.append(torch.cat(seen))
        assert orders[-1].sort().values.tolist() == list(range(STEPS * 4))
    assert not torch.equal(*orders)


@pytest.mark.usefixtures("float64")
def test_gradients_flow_back_through_a_chunk_and_no_further():
    """So chunks of one step have another gradient than the whole rollout, at the same loss."""
    totals: list[float] = []
    gradients: list[Tensor] = []
    for chunk in (1, 4, STEPS):
        case = Case(chunk=chunk)
        agent = case.make()
        batch, *_ = agent.prepare(collect(agent, case.env(deaths=0.0, terminations=0.0, truncations=0.0)))
        batch.obs.requires_grad_()
        total, _ = loss_of(agent, batch)
        total.backward()
        totals.append(total.item())
        gradients.append(cast(Tensor, cast(Any, agent.network.actor.gru).hidden.weight.grad))
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-9)
    assert min((a - b).abs().max().item() for a, b in itertools.combinations(gradients, 2)) > 1e-6


@pytest.mark.usefixtures("float64")
def test_without_a_memory_chunks_learn_as_single_steps_do():
    ends: list[Any] = []
    for by in ("sample", "sequence"):
        agent = (case := Case(memory=0)).make(minibatch_by=by)
        assert (agent.config.chunk_length is None) == (by == "sample")
        rollout = collect(agent, case.env())
        ends.append((agent.update(rollout), list(agent.network.state_dict().values())))
    assert_close(*ends, rtol=1e-9, atol=1e-9)


# Statistics that move


def in_reward_units(agent: MAPPO, r: Rollout) -> Tensor:
    return agent.value_norm.denormalize(by_loop(agent, r)[0])


@pytest.mark.parametrize("case", [c for c in CASES if c.mode != ("team", "own")][:12], ids=str)
@pytest.mark.parametrize("popart", [False, True])
def test_values_stay_where_popart_moves_the_statistics(case: Case, popart: bool, monkeypatch: pytest.MonkeyPatch):
    case = replace(case, popart=popart)
    env = case.env()
    agent = case.make(env, value_clip=1e-3, value_norm_decay=0.5)
    for shift in (5.0, -40.0):
        rollout = collect(agent, env)
        rollout.reward += shift
        before = in_reward_units(agent, rollout)
        batch, *_ = agent.prepare(rollout)
        after = in_reward_units(agent, rollout)
        assert ((before - after).abs().max() < 1e-4) == popart
        if popart:
            assert_close(after, before, rtol=1e-5, atol=1e-5 * abs(shift))
        _, value = heard(agent, batch, monkeypatch)
        assert_close(value, batch.value, rtol=1e-5, atol=1e-5)  # nothing is clipped at the first step
        agent.update(rollout)


def test_popart_without_new_numbers_leaves_the_head_alone():
    agent = Case(popart=True).make()
    rollout = collect(agent, Case().env())
    rollout.reward[0, 0, 0] = math.nan
    before = copy.deepcopy(agent.network.state_dict())
    agent.prepare(rollout)
    assert_equal(agent.network.state_dict(), before)


@pytest.mark.parametrize(("mode", "state_size"), [*((mode, 5) for mode in MODES), (("team", "env"), 1)])
def test_observations_are_normalised_by_what_was_seen_before_this_rollout(
    mode: tuple[str, str], state_size: int, monkeypatch: pytest.MonkeyPatch
):
    """Acting and the whole update read the old statistics; then these are those of all rows so far."""
    case = Case(mode, obs_norm=True, kinds="unequal")
    env = case.env(deaths=0.3, state_size=state_size)
    agent = case.make(env, epochs=2)
    source = collector(agent, env)
    seen: dict[str, list[Tensor]] = {"obs": [], "active": [], "rows": []}
    actor, critic = agent.network.actor.norm, agent.network.critic.norm
    assert actor is not None
    assert critic is not None
    during, learn = list[list[Tensor]](), agent.gradient_step

    def spied(*given: Any) -> dict[str, Tensor]:
        during.append([b.clone() for b in (*actor.buffers(), *critic.buffers())])
        return learn(*given)

    monkeypatch.setattr(agent, "gradient_step", spied)
    for _ in range(2):
        rollout, _ = source.collect()
        rows = agent.critic_input(rollout.obs, rollout.state, rollout.active)
        for name, x in (("obs", rollout.obs), ("active", rollout.active), ("rows", rows)):
            seen[name].append(x.clone())
        before = [b.clone() for b in (*actor.buffers(), *critic.buffers())]
        agent.prepare(rollout)
        agent.gradient_step(agent.prepare(rollout, recompute=True)[0])
        assert_equal([*actor.buffers(), *critic.buffers()], before)
        agent.update(rollout)
        assert_equal(during, [before] * 3)
        during.clear()
    obs, active, rows = (torch.cat(seen[name]).double() for name in seen)
    for kind in range(2):
        members = [a for a in range(3) if env.spec.groups[a] == kind]
        own = obs[:, :, members][active[:, :, members] != 0]
        assert_close(actor.mean[kind], own.mean(0), rtol=1e-6, atol=1e-6)
        assert_close((actor.square / actor.count)[kind].sqrt(), own.std(0, correction=0), rtol=1e-5, atol=1e-6)
        assert actor.count[kind].item() == len(own)
        fresh, there = torch.randn(5, 3, 4), torch.rand(5, 3) < 0.7
        scale = torch.where(own.std(0) > 0, 1 / own.std(0, correction=0), 0.0)  # padding stays 0
        normal = ((fresh - own.mean(0)) * scale).clamp(-10, 10) * there.unsqueeze(-1)
        assert_close(
            agent.network.actor.preprocess(fresh, there)[:, members], normal[:, members].float(), rtol=1e-4, atol=1e-5
        )
        assert (scale[2:] > 0).all() == (kind == 0)
    if agent.team_rows:
        assert_close(critic.mean[0], rows.flatten(0, 1).mean(0), rtol=1e-5, atol=1e-6)
        assert_close(
            (critic.square / critic.count)[0].sqrt(), rows.flatten(0, 1).std(0, correction=0), rtol=1e-5, atol=1e-6
        )
        normal = (rows - rows.flatten(0, 1).mean(0)) / rows.flatten(0, 1).std(0, correction=0)
        varied = rows.flatten(0, 1).std(0) > 0
        assert_close(
            agent.network.critic.preprocess(rows.float())[..., varied],
            normal[..., varied].float(),
            rtol=1e-4,
            atol=1e-5,
        )


# Settings of the update


def test_advantages_made_anew_before_each_epoch_are_those_of_the_critic_of_then():
    agent = (case := Case()).make(epochs=3, recompute_advantages=True, critic_lr=1e-2)
    rollout = collect(agent, case.env())
    prepare, made, learned = agent.prepare, [], []
    moments: list[Tensor] = []

    def recorded(r: Rollout, recompute: bool = False) -> Any:
        answer = prepare(r, recompute)
        made.append(answer[0])
        moments.append(agent.value_norm.moments.clone())
        assert_close(answer[0].value, to_chunks(by_loop(agent, r)[0], 4), rtol=1e-5, atol=1e-5)
        return answer

    cast(Any, agent).prepare = recorded
    step = agent.gradient_step
    cast(Any, agent).gradient_step = lambda batch: (learned.append(batch), step(batch))[1]
    agent.update(rollout)
    assert [id(b) for b in learned] == [id(b) for b in made]
    assert len(made) == 3
    for old, new in itertools.pairwise(made):
        assert not torch.equal(old.adv, new.adv)
        assert not torch.equal(old.target, new.target)
        assert torch.equal(old.log_prob, new.log_prob)
    assert torch.equal(moments[0], moments[2])
    assert moments[0].any()


def test_advantages_are_made_once_unless_asked_for():
    agent = (case := Case()).make(epochs=3)
    rollout, calls = collect(agent, case.env()), []
    prepare = agent.prepare
    cast(Any, agent).prepare = lambda *args, **kwargs: (calls.append(args), prepare(*args, **kwargs))[1]
    agent.update(rollout)
    assert len(calls) == 1


def test_no_further_epoch_once_the_policy_has_moved_too_far():
    epochs: list[float] = []
    for target_kl in (None, 1e9, 1e-6):
        agent = (case := Case()).make(epochs=5, target_kl=target_kl, actor_lr=1e-2)
        rollout, steps = collect(agent, case.env()), []
        step = agent.gradient_step
        cast(Any, agent).gradient_step = lambda *args, kept=steps, step=step: (kept.append(1), step(*args))[1]
        epochs.append(agent.update(rollout)["epochs"].item())
        assert len(steps) == epochs[-1]
    assert epochs == [5, 5, 2]  # in the first, nothing has moved yet


def test_weights_decay_by_their_own_rate_beside_the_gradient():
    ends: list[list[Tensor]] = []
    start: list[Tensor] = []
    for decay in (0.0, 0.1):
        agent = (case := Case()).make(weight_decay=decay, actor_lr=1e-3, critic_lr=1e-2)
        start = [p.detach().clone() for p in agent.network.parameters()]
        agent.update(collect(agent, case.env()))
        ends.append([p.detach().clone() for p in agent.network.parameters()])
    actors = len(list(agent.network.actor.parameters()))
    for i, (plain, decayed, old) in enumerate(zip(*ends, start, strict=True)):
        rate = 1e-3 if i < actors else 1e-2
        assert_close(decayed - plain, -rate * 0.1 * old, rtol=1e-2, atol=1e-7)


def test_a_learner_with_a_memory_goes_on_from_its_state_bit_for_bit():
    case = Case(("team", "agent"), obs_norm=True, popart=True, sharing="none", kinds="mixed")
    env = case.env()
    a, b = case.make(env, minibatches=3), case.make(env, seed=2, minibatches=3)
    rollouts = [copy.deepcopy(collect(a, env, seed)) for seed in range(4)]
    for rollout in rollouts[:2]:
        a.update(copy.deepcopy(rollout))
    b.load_state_dict(copy.deepcopy(a.state_dict()))
    for rollout in rollouts[2:]:
        assert_equal(a.update(copy.deepcopy(rollout)), b.update(copy.deepcopy(rollout)))
    assert_equal(a.state_dict(), b.state_dict())
