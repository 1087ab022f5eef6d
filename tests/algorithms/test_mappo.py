"""The learner's laws: 4 (same policy, same numbers), 6 (the absent are not heard), 11 (one critic row is enough)."""

import copy
import math
from collections.abc import Iterator
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.testing import assert_close

from chaos import UNEQUAL, Chaos, events, spoil_absent
from losses import loss_of
from mappo.algorithms import mappo as learner_module
from mappo.algorithms.mappo import MAPPO
from mappo.algorithms.minibatch import Batch
from mappo.backend.ranks import Ranks
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.core.timestep import Rollout
from mappo.envs.batched.spread import Spread
from mappo.errors import UserError
from mappo.functional.losses import ppo_policy_data, ppo_policy_error
from mappo.functional.weighted import weighted_mean
from mappo.rollouts.collector import Collector

STEPS = 30
# Every critic input, with every reward that it goes with.
MODES = [("env", "team"), ("joint", "team"), ("agent", "team"), ("own", "team"), ("agent", "agent"), ("own", "agent")]


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(
    env: Any = None,
    critic: Any = "auto",
    reward: Any = "team",
    total_steps: int = 10**6,
    seed: int = 1,
    layer_norm: bool = False,
    sharing: Any = "group",
    **ppo: Any,
) -> MAPPO:
    """A small learner, with logits large enough to tell policies apart."""
    env = env or Chaos()
    config = Config(
        EnvConfig(num_envs=env.num_envs, reward=reward),
        NetworkConfig((16, 8), "tanh", layer_norm, actor_gain=1.0, critic_input=critic, sharing=sharing),
        PPOConfig(rollout_length=STEPS, **({"epochs": 2} | ppo)),
        RunConfig(total_steps=total_steps),
    )
    return MAPPO(env.spec, config, seed=seed)


def collect(agent: MAPPO, env: Any = None, seed: int = 0, steps: int = STEPS) -> Rollout:
    env = env or Chaos(dtype=torch.get_default_dtype())
    generator = torch.Generator().manual_seed(seed)
    return Collector(env, agent, steps, env.reset(seed), generator).collect()[0]


def values(agent: MAPPO, rollout: Rollout, t: int, then: bool = False) -> Tensor:
    """What the critic says of step t alone, or of what its action reached: `(E)` or `(E, A)`."""
    obs, state, active = (
        (rollout.next_obs, rollout.next_state, rollout.next_active)
        if then
        else (rollout.obs, rollout.state, rollout.active)
    )
    with torch.no_grad():
        seen = agent.critic_input(obs[t], None if state is None else state[t], active[t])
        return agent.network.critic(seen.to(torch.get_default_dtype()))[0].squeeze(-1)


def gradient(agent: MAPPO, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """Loss, and its gradient for each parameter."""
    agent.optimizer.zero_grad()
    total, _ = loss_of(agent, batch)
    total.backward()
    return total.detach(), [p.grad.clone() for p in agent.network.parameters() if p.grad is not None]


def likelihood(agent: MAPPO, batch: Batch) -> Tensor:
    """Log-probabilities of the batch's actions by the weights as they are now."""
    numbers, _ = agent.network.actor(batch.obs)
    policy = agent.policy.distribution
    return policy.log_prob(numbers, batch.action, policy.legal_choices(batch.mask))[0]


def weights(agent: MAPPO) -> list[Tensor]:
    return [p.detach().clone() for p in agent.network.parameters()]


def assert_equal(a: Any, b: Any) -> None:
    """Bit for bit, however nested."""
    assert_close(a, b, rtol=0, atol=0)


def test_chaos_is_chaotic_enough():
    assert min(events(collect(make())).values()) >= 5, events(collect(make()))


# Law 4


def environments(dtype: torch.dtype) -> list[Any]:
    unequal = [Chaos(kinds=UNEQUAL, masked=masked, dtype=dtype) for masked in (True, False)]
    return [Chaos(dtype=dtype), Chaos(state_size=None, masked=False, dtype=dtype), Spread(4, 3, dtype=dtype), *unequal]


def check_same_numbers(tolerance: float) -> None:
    for env in environments(torch.get_default_dtype()):
        agent = make(env, value_norm=False)
        rollout = collect(agent, env)
        batch, _, _ = agent.prepare(rollout)
        ratio = (likelihood(agent, batch) - batch.log_prob).exp()[batch.weight != 0]
        assert (ratio - 1).abs().max() <= tolerance
        _, metrics = loss_of(agent, batch)
        assert metrics["approx_kl"].abs() <= tolerance / 10
        assert metrics["clip_fraction"] == 0
        alone = torch.cat([values(agent, rollout, t) for t in range(STEPS)])
        assert_close(batch.value, alone, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("float64")
def test_a_rollout_read_again_with_the_same_weights_has_ratio_1_and_the_same_values_in_float64():
    check_same_numbers(1e-12)


def test_a_rollout_read_again_with_the_same_weights_has_ratio_1_and_the_same_values_in_float32():
    check_same_numbers(1e-5)


def test_a_step_read_again_alone_has_the_same_log_probabilities_bit_for_bit():
    for env in environments(torch.float32):
        agent = make(env)
        r = collect(agent, env)
        for t in range(STEPS):
            obs = torch.where(r.active[t].unsqueeze(-1), r.obs[t], 0.0)
            mask = None if r.mask is None else r.mask[t]
            with torch.no_grad():
                numbers, _ = agent.network.actor(obs)
                policy = agent.policy.distribution
                again, _ = policy.log_prob(numbers, r.action[t], policy.legal_choices(mask))
            assert torch.equal(again[r.active[t]], r.log_prob[t][r.active[t]])


# Law 5


def test_an_actor_alone_with_its_own_observation_answers_as_in_the_team():
    env = Chaos()
    agent, step = make(env), env.reset(0)
    actor = agent.actor()
    together, memory = actor(step.obs, mask=step.mask)
    assert memory is None
    assert step.mask is not None
    for e in range(env.num_envs):
        for a in range(3):
            assert torch.equal(actor(step.obs[e, a], mask=step.mask[e, a])[0], together[e, a])


def test_a_sampled_actor_keeps_to_the_mask():
    env = Chaos(200)
    agent, step = make(env), env.reset(0)
    action, _ = agent.actor(sampled=True)(step.obs, mask=step.mask)
    assert step.mask is not None
    for head, mask in enumerate(step.mask.split(env.spec.heads, -1)):
        assert mask.gather(-1, action[..., head : head + 1]).squeeze(-1)[step.active].all()


def test_an_actor_names_the_observation_it_reads():
    with pytest.raises(ValueError, match=r"this actor reads observations \(\*B, 4\), got \(2, 5\)"):
        make().actor()(torch.zeros(2, 5))


# Law 6


@pytest.mark.parametrize(("critic", "reward"), MODES)
@pytest.mark.parametrize("garbage", [math.nan, math.inf])
def test_what_absent_agents_see_changes_neither_loss_nor_gradient(critic: str, reward: str, garbage: float):
    results = []
    for spoilt in (False, True):
        agent = make(critic=critic, reward=reward, value_clip=0.2, huber_delta=1.0)
        rollout = collect(agent)
        if spoilt:
            spoil_absent(rollout, garbage)
        batch, metrics, _ = agent.prepare(rollout)
        results.append((gradient(agent, batch), metrics, agent.value_norm.moments.clone()))
        assert all(x.isfinite().all() for x in results[-1][0][1])
    assert_equal(*results)


@pytest.mark.parametrize(("critic", "reward"), MODES)
def test_an_update_with_nan_where_nobody_is_learns_the_same(critic: str, reward: str):
    results = []
    for spoilt in (False, True):
        agent = make(critic=critic, reward=reward, minibatches=3)
        rollout = collect(agent)
        if spoilt:
            spoil_absent(rollout)
        metrics = agent.update(rollout)
        assert all(x.isfinite() for x in metrics.values())
        assert metrics["skipped_steps"] == 0
        results.append((weights(agent), metrics))
    assert_equal(*results)


def test_acting_does_not_hear_absent_agents():
    agent = make()
    clean, spoilt = (Chaos(dead_sees=x).reset(0) for x in (0.0, math.nan))
    assert not clean.active.all()
    noise = torch.rand(6, 3, 2)
    assert_equal(agent.act(clean, noise=noise), agent.act(spoilt, noise=noise))


# Law 11


def row_for_each_agent(batch: Batch) -> Batch:
    """The critic's row, written out for each agent, which weighs 1 where it acts."""

    def repeat(x: Tensor) -> Tensor:
        return x.unsqueeze(1).expand(-1, batch.weight.shape[1], *x.shape[1:])

    return replace(
        batch,
        critic_obs=repeat(batch.critic_obs),
        value=repeat(batch.value),
        target=repeat(batch.target),
        value_weight=batch.weight,
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("critic", ["env", "joint"])
@pytest.mark.parametrize("clips", [{}, {"value_clip": 0.2, "huber_delta": 0.5}])
def test_one_critic_row_for_the_team_has_the_loss_and_gradient_of_a_row_for_each_agent(
    critic: str, clips: dict[str, float]
):
    agent = make(critic=critic, **clips)
    batch, _, _ = agent.prepare(collect(agent))
    assert (batch.weight == 0).any()
    team, each = gradient(agent, batch), gradient(agent, row_for_each_agent(batch))
    assert_close(team, each, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_advantages_are_normal_over_the_agents_that_act():
    agent = make()
    batch, _, _ = agent.prepare(collect(agent))
    acting = batch.adv[batch.weight != 0]
    assert acting.mean().item() == pytest.approx(0, abs=1e-12)
    assert acting.std(correction=0).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.usefixtures("float64")
def test_value_statistics_are_those_of_the_agents_that_act():
    agent = make(value_norm_decay=0.0)
    plain = make(value_norm=False)
    rollout = collect(agent)
    target = row_for_each_agent(plain.prepare(rollout)[0])
    agent.prepare(rollout)
    acting = target.target[target.weight != 0]
    mean, std = agent.value_norm.mean_std()
    assert mean.item() == pytest.approx(acting.mean().item(), rel=1e-6)
    assert std.item() == pytest.approx(acting.std(correction=0).item(), rel=1e-6)


# Advantages and targets: two flags, values before any reset


def returns_by_loop(agent: MAPPO, r: Rollout, mean: float = 0.0, std: float = 1.0) -> tuple[Tensor, Tensor]:
    """Advantages and returns, one number at a time; the critic speaks in units of `std` around `mean`."""
    ppo, per_agent_reward = agent.config.ppo, agent.config.env.reward == "agent"
    now = torch.stack([values(agent, r, t) for t in range(STEPS)]) * std + mean
    then = torch.stack([values(agent, r, t, then=True) for t in range(STEPS)]) * std + mean
    advantage = torch.zeros_like(now)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in now.shape[1:])).reshape(-1, now.ndim - 1).tolist():
        e, agent_index = index[0], index[-1]
        later = 0.0
        for t in reversed(range(STEPS)):
            at = (t, *index)
            if per_agent_reward:
                reward = r.reward[t, e, agent_index].item()
                done = bool(r.terminated[t, e, agent_index])
                cut = done or bool(r.ended[t, e])
            else:
                reward = r.reward[t, e].sum().item()
                done = bool(r.ended[t, e]) and bool(r.terminated[t, e].all())
                cut = bool(r.ended[t, e])
            bootstrap = 0.0 if done else then[at].item()
            delta = reward + ppo.gamma * bootstrap - now[at].item()
            later = delta + ppo.gamma * ppo.gae_lambda * (0.0 if cut else later)
            advantage[at] = later
    return advantage.flatten(0, 1), (advantage + now).flatten(0, 1)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("critic", "reward"), MODES)
def test_advantages_and_targets_are_those_of_a_plain_loop(critic: str, reward: str):
    agent = make(critic=critic, reward=reward, value_norm=False, advantage_norm=False, gamma=0.9)
    rollout = collect(agent)
    batch, _, _ = agent.prepare(rollout)
    advantage, returns = returns_by_loop(agent, rollout)
    if agent.team_rows:
        advantage = advantage.unsqueeze(-1).expand_as(batch.adv)
    assert_close(batch.adv, advantage, rtol=1e-10, atol=1e-12)
    assert_close(batch.target, returns, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("popart", [False, True])
@pytest.mark.parametrize(("critic", "reward"), [("env", "team"), ("agent", "agent")])
def test_old_statistics_make_the_advantages_and_new_ones_the_targets(critic: str, reward: str, popart: bool):
    agent = make(critic=critic, reward=reward, advantage_norm=False, value_norm_decay=0.5, popart=popart)
    agent.prepare(collect(agent, seed=1))  # some statistics
    old_mean, old_std = (x.item() for x in agent.value_norm.mean_std())
    rollout = collect(agent)
    rollout.reward += 3.0
    advantage, returns = returns_by_loop(agent, rollout, old_mean, old_std)
    batch, _, _ = agent.prepare(rollout)
    new_mean, new_std = (x.item() for x in agent.value_norm.mean_std())
    assert abs(new_mean - old_mean) > 0.1

    adv = batch.adv if reward == "agent" else batch.adv[:, 0]
    assert_close(adv, advantage, rtol=1e-9, atol=1e-9)
    assert_close(batch.target, (returns - new_mean) / new_std, rtol=1e-9, atol=1e-9)
    # Old values are in the critic's own units, which PopArt alone changes: a gradient step compares like with like.
    mean, std = (new_mean, new_std) if popart else (old_mean, old_std)
    tolerance = 1e-6 if popart else 1e-9  # means and deviations are told in float32
    assert_close(batch.value, (returns - advantage - mean) / std, rtol=tolerance, atol=tolerance)
    again = torch.cat([values(agent, rollout, t) for t in range(STEPS)])
    assert_close(batch.value, again, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("critic", "reward"), MODES)
def test_another_device_that_reads_every_row_gets_the_same(critic: str, reward: str):
    agent = make(critic=critic, reward=reward)
    rollout = collect(agent)
    spoil_absent(rollout)
    few, *_ = agent.prepare(rollout, recompute=True)
    agent.device = SimpleNamespace(type="cuda")  # type: ignore[assignment]
    all_, *_ = agent.prepare(rollout, recompute=True)
    assert_close(all_.target, few.target, rtol=1e-5, atol=1e-5)
    assert_close(all_.adv, few.adv, rtol=1e-4, atol=1e-4, equal_nan=True)


def one_step(agent: MAPPO, terminated: list[bool], ended: bool) -> tuple[Tensor, Tensor]:
    """The target of a rollout of one step with reward 0, and the value of what it reached."""
    env = Chaos(1, deaths=0.0, terminations=0.0, truncations=0.0)
    rollout = collect(agent, env, steps=1)
    rollout.reward.zero_()
    rollout.terminated[0, 0] = torch.tensor(terminated)
    rollout.ended[0, 0] = ended
    rollout.next_obs.normal_()  # as if a reset had followed: obs tells nothing of it
    batch, _, _ = agent.prepare(rollout)
    return batch.target[0], values(agent, rollout, 0, then=True)[0]


@pytest.mark.parametrize(("critic", "reward"), MODES)
def test_at_a_truncation_the_value_of_what_was_reached_counts(critic: str, reward: str):
    agent = make(critic=critic, reward=reward, value_norm=False, gamma=0.5)
    target, reached = one_step(agent, [False] * 3, ended=True)
    assert_close(target, 0.5 * reached)


@pytest.mark.parametrize(("critic", "reward"), MODES)
def test_at_a_termination_nothing_follows(critic: str, reward: str):
    target, reached = one_step(make(critic=critic, reward=reward, value_norm=False), [True] * 3, ended=True)
    assert not target.any()
    assert reached.any()


@pytest.mark.parametrize("critic", ["env", "joint", "agent"])
def test_the_death_of_one_does_not_end_the_return_of_the_team(critic: str):
    agent = make(critic=critic, value_norm=False, gamma=0.5)
    for ended in (False, True):
        target, reached = one_step(agent, [True, False, False], ended)
        assert_close(target, 0.5 * reached)


@pytest.mark.parametrize("ended", [False, True])
def test_with_agent_rewards_a_death_ends_the_return_of_that_agent_alone(ended: bool):
    agent = make(critic="agent", reward="agent", value_norm=False, gamma=0.5)
    target, reached = one_step(agent, [True, False, False], ended)
    assert target[0] == 0
    assert_close(target[1:], 0.5 * reached[1:])


def test_a_reward_that_all_share_counts_once():
    env = Chaos(1, deaths=0.0, terminations=0.0, truncations=0.0)
    targets = []
    for shared in (False, True):
        env.spec = replace(env.spec, shared_reward=shared)
        agent = make(env, value_norm=False, gamma=0.0)
        rollout = collect(agent, env, steps=1)
        rollout.reward[:] = 2.0
        targets.append(agent.prepare(rollout)[0].target.item())
    assert targets == pytest.approx([6.0, 2.0])


# The loss and the gradient steps


@pytest.mark.parametrize("critic", ["agent", "own"])
def test_a_teams_value_is_learned_on_the_rows_of_the_dead_too(critic: str):
    # The team's return goes on behind a death, so GAE reads these rows; the dead's own rewards do not.
    batch, _, _ = (agent := make(critic=critic)).prepare(collect(agent))
    assert (batch.weight == 0).any()
    assert (batch.value_weight == 1).all()
    batch, _, _ = (agent := make(critic="agent", reward="agent")).prepare(collect(agent))
    assert torch.equal(batch.value_weight, batch.weight)


def test_the_loss_is_the_sum_of_its_parts():
    env = Chaos(heads=(5,))
    agent = make(env, value_weight=0.5, dual_clip=3.0)
    batch, _, _ = agent.prepare(collect(agent, env))
    with torch.no_grad():
        agent.network.actor.head.weight += 0.1 * torch.randn(agent.network.actor.head.weight.shape)
        total, metrics = loss_of(agent, batch, 0.1)
    expected = metrics["policy_loss"] + 0.5 * metrics["value_loss"] - 0.1 * metrics["entropy"]
    assert_close(total, expected)
    assert metrics["total_loss"] == total


def test_the_policy_part_is_ppo_policy_error():
    env = Chaos(heads=(5,), masked=False)
    agent = make(env, dual_clip=3.0)
    batch, _, _ = agent.prepare(collect(agent, env))
    old = agent.network.actor(batch.obs)[0].detach()
    with torch.no_grad():
        agent.network.actor.head.weight += 0.1 * torch.randn(agent.network.actor.head.weight.shape)
    _, metrics = loss_of(agent, batch, 0.1)
    new = agent.network.actor(batch.obs)[0]
    data = ppo_policy_data(new, old, batch.action.squeeze(-1), batch.adv, batch.weight)
    loss, info = ppo_policy_error(data, 0.2, 3.0)
    names = ("policy_loss", "entropy", "approx_kl", "clip_fraction")
    assert_close([metrics[n] for n in names], [x.detach() for x in (*loss, *info)], rtol=1e-4, atol=1e-6)
    assert metrics["clip_fraction"] > 0


def test_minibatches_cover_each_row_exactly_once_in_random_order():
    agent = make(minibatches=4)
    rollout = collect(agent)
    batch, _, _ = agent.prepare(rollout)
    rows = len(batch.obs)
    batch.log_prob = torch.arange(rows).unsqueeze(-1).expand(-1, 3)
    orders = []
    for _ in range(2):
        parts = list(batch.minibatches(agent.epoch_orders(rollout)[0], 4, agent.row_axis))
        assert [len(part.obs) for part in parts] == [rows // 4] * 4
        orders.append(torch.cat([part.log_prob[:, 0] for part in parts]))
        for part in parts:  # all fields are of the same rows
            where = part.log_prob[:, 0]
            for field in fields(Batch):
                whole = getattr(batch, field.name)
                assert (whole is None) == (
                    field.name in ("is_first", "memory", "critic_is_first", "critic_memory", "total")
                )
                assert whole is None or torch.equal(getattr(part, field.name), whole[where])
        assert sorted(orders[-1].tolist()) == list(range(rows))
    assert not torch.equal(*orders)


def test_one_minibatch_is_the_batch_itself():
    agent, learned = make(epochs=2), list[Batch]()
    batch, step = agent.prepare(rollout := collect(agent))[0], agent.gradient_step
    cast(Any, agent).gradient_step = lambda part: (learned.append(part), step(part))[1]
    agent.update(rollout)
    assert learned[0] is learned[1]
    assert torch.equal(learned[0].action, batch.action)


@pytest.mark.parametrize(("most", "pieces"), [(540, 1), (539, 2), (270, 2), (269, 3), (18, 30)])
def test_a_minibatch_is_computed_in_as_few_pieces_as_hold_its_rows(
    most: int, pieces: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(learner_module, "PIECE_ROWS", most)
    agent = make()
    batch, _, _ = agent.prepare(collect(agent))
    assert batch.weight.numel() == 540
    sizes: list[int] = []
    whole_loss = agent.loss

    def loss(piece: Batch, *args: Any) -> Any:
        sizes.append(piece.weight.numel())
        return whole_loss(piece, *args)

    monkeypatch.setattr(agent, "loss", loss)
    monkeypatch.setattr(agent, "loss_adds_up", True)
    agent.backward(batch)
    assert len(sizes) == pieces
    assert sum(sizes) == 540


def test_learning_rates_and_entropy_weight_go_down_in_straight_lines():
    steps_per_update = STEPS * 6
    agent = make(
        total_steps=4 * steps_per_update,
        actor_lr=1e-3,
        critic_lr=2e-3,
        lr_final=0.2,
        entropy_weight=0.1,
        entropy_final=0.5,
        epochs=1,
    )
    rollout, seen = collect(agent), []
    for _ in range(6):
        metrics = agent.update(rollout)
        seen.append([metrics[n].item() for n in ("actor_lr", "critic_lr", "entropy_weight")])
        assert agent.optimizer.learning_rates == pytest.approx(seen[-1][:2])
    shares = [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]  # of the way; the end is not passed
    expected = [[1e-3 * (1 - 0.8 * s), 2e-3 * (1 - 0.8 * s), 0.1 * (1 - 0.5 * s)] for s in shares]
    for row, expected_row in zip(seen, expected, strict=True):
        assert row == pytest.approx(expected_row)


def test_every_metric_is_a_scalar_without_gradient():
    agent = make()
    metrics = agent.update(collect(agent))
    assert all(isinstance(x, Tensor) and x.shape == () and not x.requires_grad for x in metrics.values())
    assert {"total_loss", "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction"} <= set(metrics)
    assert {"grad_norm_actor", "grad_norm_critic", "skipped_steps", "value", "explained_variance"} <= set(metrics)


def test_an_update_makes_good_actions_likelier():
    agent = make(entropy_weight=0.0, epochs=3)
    rollout = collect(agent)
    batch, _, _ = agent.prepare(rollout)
    agent.update(rollout)
    change = weighted_mean((likelihood(agent, batch) - batch.log_prob).nan_to_num() * batch.adv, batch.weight)
    assert change > 0


@pytest.mark.parametrize("garbage", [math.nan, math.inf])
@pytest.mark.parametrize("value_norm", [False, True])
def test_a_gradient_that_is_not_finite_skips_the_step_and_is_counted(garbage: float, value_norm: bool):
    agent = make(value_norm=value_norm, epochs=2, minibatches=3)
    good, bad = collect(agent), collect(agent)
    agent.update(good)  # some moments
    before = copy.deepcopy((weights(agent), agent.optimizer.moments_by_name()))
    bad.reward[0, 0, 0] = garbage
    metrics = agent.update(bad)
    assert metrics["skipped_steps"] == 6
    assert_equal((weights(agent), agent.optimizer.moments_by_name()), before)
    metrics = agent.update(good)  # and goes on as if nothing had been
    assert metrics["skipped_steps"] == 0
    assert all(not torch.equal(x, y) for x, y in zip(weights(agent), before[0], strict=True))


def test_a_skipped_update_changes_nothing_but_the_schedule():
    agent = make()
    rollout = collect(agent)
    before = copy.deepcopy(agent.network.state_dict())
    metrics = agent.update(rollout, [True])
    assert_equal(agent.network.state_dict(), before)
    assert agent.updates == 1
    assert metrics["epochs"] == 0
    assert metrics["skipped_steps"] == 0
    assert all(metrics[name].isnan() for name in ("total_loss", "approx_kl", "value"))
    assert agent.update(rollout, [False])["epochs"] == agent.config.ppo.epochs


def test_only_the_steps_that_are_not_finite_are_skipped():
    agent = make(advantage_norm=False, minibatches=6, epochs=1)
    batch, _, _ = agent.prepare(rollout := collect(agent))
    batch.adv = batch.adv.clone()
    batch.adv[batch.weight.nonzero()[0][0]] = math.nan
    parts = batch.minibatches(agent.epoch_orders(rollout)[0], 6, agent.row_axis)
    skipped = [agent.gradient_step(part)["skipped_steps"].item() for part in parts]
    assert sorted(skipped) == [0, 0, 0, 0, 0, 1]
    assert all(p.isfinite().all() for p in weights(agent))


def norm(parameters: list[Any]) -> float:
    return math.sqrt(sum(p.grad.square().sum().item() for p in parameters))


def test_gradients_are_clipped_for_each_network_by_itself():
    free, tight = make(max_grad_norm=None), make(max_grad_norm=1e-3)
    batch, _, _ = free.prepare(collect(free))
    for agent in (free, tight):
        metrics = agent.gradient_step(batch)
        norms = norm(list(agent.network.actor.parameters())), norm(list(agent.network.critic.parameters()))
        before = metrics["grad_norm_actor"].item(), metrics["grad_norm_critic"].item()
        if agent is free:
            assert norms == pytest.approx(before, rel=1e-5)
            unclipped = before
        else:
            assert before == pytest.approx(unclipped, rel=1e-5)
            assert norms == pytest.approx((1e-3, 1e-3), rel=1e-3)
    assert min(unclipped) > 0.01


def test_actor_and_critic_learn_at_their_own_rates():
    agent = make(actor_lr=1e-9, critic_lr=1e-2)
    before = weights(agent)
    agent.update(collect(agent))
    moved = {
        id(p): (p.detach() - old).abs().max().item() for p, old in zip(agent.network.parameters(), before, strict=True)
    }
    assert max(moved[id(p)] for p in agent.network.actor.parameters()) < 1e-6
    assert max(moved[id(p)] for p in agent.network.critic.parameters()) > 1e-3


@pytest.mark.parametrize(("critic", "reward", "state_size"), [(*m, 5) for m in MODES] + [(*m, None) for m in MODES[1:]])
def test_every_critic_input_learns_in_chaos(critic: str, reward: str, state_size: int | None):
    env = Chaos(state_size=state_size)
    agent = make(env, critic, reward, layer_norm=True, minibatches=2)
    before = weights(agent)
    metrics = agent.update(collect(agent, env))
    assert all(x.isfinite() for x in metrics.values())
    assert all(not torch.equal(x, y) for x, y in zip(weights(agent), before, strict=True))


@pytest.mark.parametrize(("critic", "reward"), MODES)
@pytest.mark.parametrize("sharing", ["group", "all", "none"])
def test_unequal_agents_that_choose_and_set_numbers_learn_in_chaos(critic: str, reward: str, sharing: str):
    env = Chaos(kinds=UNEQUAL)
    agent = make(env, critic, reward, layer_norm=True, sharing=sharing, minibatches=2)
    rollout = collect(agent, env)
    spoil_absent(rollout)
    before = weights(agent)
    metrics = agent.update(rollout)
    assert all(x.isfinite() for x in metrics.values())
    assert metrics["skipped_steps"] == 0
    assert all(not torch.equal(x, y) for x, y in zip(weights(agent), before, strict=True))


@pytest.mark.parametrize("critic", ["env", "own"])
def test_states_and_observations_may_be_images(critic: str):
    flat, picture = Chaos(obs_size=60, state_size=72), (6, 5, 2)
    rollout = collect(make(flat), flat)
    flat.spec = replace(
        flat.spec, obs_spaces=(spaces.Box(-np.inf, np.inf, picture, np.float32),) * 3, state_shape=(6, 6, 2)
    )
    agent = make(flat, critic)
    for name, shape in (("obs", picture), ("next_obs", picture), ("state", (6, 6, 2)), ("next_state", (6, 6, 2))):
        setattr(rollout, name, getattr(rollout, name).unflatten(-1, shape))
    spoil_absent(rollout)
    before = weights(agent)
    metrics = agent.update(rollout)
    assert all(x.isfinite() for x in metrics.values())
    assert metrics["skipped_steps"] == 0
    assert all(not torch.equal(x, y) for x, y in zip(weights(agent), before, strict=True))


@pytest.mark.parametrize(
    ("reward", "state_size", "chosen"),
    [("team", 5, "env"), ("team", None, "joint"), ("agent", 5, "agent"), ("agent", None, "agent")],
)
def test_the_critic_input_chosen_by_itself(reward: str, state_size: int | None, chosen: str):
    assert make(Chaos(state_size=state_size), reward=reward).critic_input.mode == chosen


@pytest.mark.parametrize("obs_dtype", [torch.uint8, torch.int64, torch.float64])
@pytest.mark.parametrize("critic", ["env", "agent"])
def test_observations_and_states_may_be_of_any_dtype(obs_dtype: torch.dtype, critic: str):
    agent = make(critic=critic)
    rollout = collect(agent)
    for name in ("obs", "next_obs", "state", "next_state"):
        setattr(rollout, name, getattr(rollout, name).mul(10).clamp(0, 100).to(obs_dtype))
    assert agent.update(rollout)["total_loss"].isfinite()


# State


def test_a_learner_goes_on_from_its_state_bit_for_bit():
    a, b = (
        make(minibatches=3, lr_final=0.0, total_steps=10 * STEPS * 6),
        make(minibatches=3, lr_final=0.0, total_steps=10 * STEPS * 6, seed=2),
    )
    rollouts = [collect(a, seed=s) for s in range(4)]
    for rollout in rollouts[:2]:
        a.update(rollout)
    b.load_state_dict(copy.deepcopy(a.state_dict()))
    for rollout in rollouts[2:]:
        assert_equal(a.update(rollout), b.update(rollout))
    assert_equal(a.state_dict(), b.state_dict())
    step = Chaos().reset(0)
    assert_equal(a.act(step), b.act(step))  # the generator goes on too


def test_the_same_seed_makes_the_same_learner_and_another_seed_another():
    state = torch.random.get_rng_state()
    a, b, c = make(seed=5), make(seed=5), make(seed=6)
    assert torch.equal(torch.random.get_rng_state(), state)  # and nobody else's draws are touched
    assert_equal(weights(a), weights(b))
    assert not torch.equal(a.network.actor.head.weight, c.network.actor.head.weight)
    rollout = collect(a)
    assert_equal(a.update(rollout), b.update(rollout))


def test_what_checks_for_interruptions_is_asked_before_each_gradient_step():
    env = Chaos()
    config = Config(EnvConfig(num_envs=env.num_envs), ppo=PPOConfig(rollout_length=STEPS, epochs=3, minibatches=2))
    asked: list[int] = []
    agent = MAPPO(env.spec, config, check=lambda: asked.append(agent.updates))
    rollout = collect(agent, env)
    asked.clear()
    agent.update(rollout)
    assert len(asked) == 3 * 2


@pytest.mark.parametrize(("graphs", "size"), [(True, 1), (False, 1), (True, 2)])
def test_cuda_graphs_are_for_a_single_process_and_can_be_left_out(
    graphs: bool, size: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(learner_module, "supports_cuda_graphs", lambda _device: True)
    env = Chaos()
    config = Config(EnvConfig(num_envs=env.num_envs), run=RunConfig(graphs=graphs))
    ranks = Ranks()
    ranks.size = size
    assert MAPPO(env.spec, config, ranks=ranks).uses_graphs == (graphs and size == 1)


def test_an_update_leaves_the_rollout_alone():
    agent = make()
    rollout = collect(agent)
    before = copy.deepcopy(rollout)
    agent.update(rollout)
    assert_equal(vars(rollout), vars(before))


def test_a_critic_of_the_state_needs_a_state():
    with pytest.raises(UserError, match=r"network\.critic-input env: this environment gives no state"):
        make(Chaos(state_size=None), "env")
