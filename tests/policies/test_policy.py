"""What an actor's numbers mean: agents with different actions side by side, and an agent alone."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Categorical, Normal
from torch.testing import assert_close

from mappo.algorithms.mappo import MAPPO
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig
from mappo.core.spec import ActionHeads, Spec
from mappo.core.state_dict import subdict
from mappo.errors import UserError
from mappo.networks.actor_critic import build_actor
from mappo.policies.action_distribution import ActionDistribution
from mappo.policies.actor import Actor
from mappo.policies.policy import Policy
from mappo.policies.random_policy import RandomPolicy

INF = math.inf


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def assert_equal(a: Any, b: Any) -> None:
    """Bit for bit, however nested."""
    assert_close(a, b, rtol=0, atol=0)


# Agents with different actions, side by side


SPACES: list[spaces.Space[Any]] = [
    spaces.Discrete(3, start=1),
    spaces.MultiDiscrete([2, 4]),
    spaces.MultiBinary(3),
    spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32)),
    spaces.Box(-1.0, 5.0, (1, 1), np.float32),
]
# The last chooses and gives numbers; no space of gymnasium does both in one.
MIXED = [*map(ActionHeads.from_space, SPACES), ActionHeads((2, 3), (0.0, -4.0, 1.0), (1.0, 4.0, 3.0))]
HEADS, NUMBERS = (3, 4, 2), 3  # the padded layout: each head as large as anyone's


def spec_of(heads: list[ActionHeads], obs: int = 4) -> Spec:
    """A team of agents that all see as much, whatever they do."""
    space = spaces.Box(-np.inf, np.inf, (obs,), np.float32)
    return Spec(tuple(f"agent_{i}" for i in range(len(heads))), (space,) * len(heads), tuple(heads))


def distribution(heads: list[ActionHeads], **net: Any) -> ActionDistribution:
    return ActionDistribution(spec_of(heads), NetworkConfig(**net))


def places(agent: int) -> tuple[list[list[int]], list[int]]:
    """Of one of MIXED, where each head's choices, and the numbers, stand."""
    own = MIXED[agent]
    starts = [sum(HEADS[:i]) for i in range(len(HEADS))]
    return [list(range(s, s + n)) for s, n in zip(starts, own.categorical, strict=False)], list(range(own.continuous))


def drawn(dist: ActionDistribution, mask: Tensor | None, rows: int = 50, seed: int = 0) -> tuple[Tensor, ...]:
    """Numbers of an actor, actions drawn by them, their log-probabilities, and what was legal."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, len(MIXED), sum(HEADS) + 2 * NUMBERS, generator=generator)
    noise = torch.rand(rows, len(MIXED), len(HEADS) + NUMBERS, generator=generator)
    legal = dist.legal_choices(mask)
    action, log_prob = dist.sample(x, noise, legal)
    return x, action, log_prob, cast(Tensor, legal)


def random_mask(rows: int = 50, seed: int = 1) -> Tensor:
    """About half of all legal: now and then nothing of a head, and at the places that nobody has, anything."""
    return torch.rand(rows, len(MIXED), sum(HEADS), generator=torch.Generator().manual_seed(seed)) < 0.4


def alone(
    agent: int, x: Tensor, action: Tensor, mask: Tensor | None, squashed: bool = False
) -> tuple[Tensor, Tensor, int]:
    """Log-probability and entropy of one agent's own heads by `torch.distributions`; and heads with nothing legal."""
    heads, own_numbers = places(agent)
    log_prob, entropy, empty = torch.zeros(len(x)), torch.zeros(len(x)), 0
    for column, choices in enumerate(heads):
        logit = x[:, agent, choices]
        if mask is not None:
            legal = mask[:, agent, choices]
            empty += int((~legal.any(-1)).sum())
            logit = logit.masked_fill(~(legal | ~legal.any(-1, keepdim=True)), -INF)
        one = Categorical(logits=logit)
        log_prob = log_prob + one.log_prob(action[:, agent, column].long())
        entropy = entropy - (one.probs * one.logits.clamp_min(-1e300)).sum(-1)
    for i in own_numbers:
        mean, std = x[:, agent, sum(HEADS) + i], x[:, agent, sum(HEADS) + NUMBERS + i].exp()
        u = action[:, agent, len(HEADS) + i]
        slope = 2 * math.log(2) - 2 * u.abs() - 2 * torch.log1p(torch.exp(-2 * u.abs())) if squashed else 0 * u
        log_prob = log_prob + Normal(mean, std).log_prob(u) - slope
        entropy = entropy + Normal(mean, std).entropy() + slope
    return log_prob, entropy, empty


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("bounds", ["clip", "tanh"])
@pytest.mark.parametrize("masked", [False, True])
def test_probability_and_entropy_are_those_of_each_agents_own_heads(bounds: str, masked: bool):
    dist, mask = distribution(MIXED, action_bounds=bounds), random_mask() if masked else None
    assert dist.heads == HEADS
    assert dist.continuous == NUMBERS
    x, action, sampled, legal = drawn(dist, mask)
    log_prob, entropy = dist.log_prob(x, action, legal)
    empty = 0
    for agent in range(len(MIXED)):
        expected_log_prob, expected_entropy, none_legal = alone(agent, x, action, mask, bounds == "tanh")
        assert_close(log_prob[:, agent], expected_log_prob, rtol=1e-9, atol=1e-9)
        assert_close(entropy[:, agent], expected_entropy, rtol=1e-9, atol=1e-9)
        empty += none_legal
    assert_equal(sampled, log_prob)
    assert (empty > 10) == masked


@pytest.mark.parametrize("bounds", ["clip", "tanh"])
@pytest.mark.parametrize("masked", [False, True])
def test_what_an_agent_lacks_and_what_is_masked_has_no_gradient_whatever(bounds: str, masked: bool):
    dist, mask = distribution(MIXED, action_bounds=bounds), random_mask() if masked else None
    x, action, _, legal = drawn(dist, mask)
    x.requires_grad_()
    log_prob, entropy = dist.log_prob(x, action, legal)
    (log_prob.sum() + 0.3 * entropy.sum()).backward()
    assert x.grad is not None
    heard = torch.zeros_like(x, dtype=torch.bool)  # what may have a gradient
    for agent in range(len(MIXED)):
        heads, own_numbers = places(agent)
        for choices in heads:
            allowed = torch.ones(len(x), len(choices), dtype=torch.bool) if mask is None else mask[:, agent, choices]
            allowed = allowed | ~allowed.any(-1, keepdim=True)
            heard[:, agent, choices] = allowed & (allowed.sum(-1, keepdim=True) > 1)
        for i in own_numbers:
            heard[:, agent, [sum(HEADS) + i, sum(HEADS) + NUMBERS + i]] = True
    assert not x.grad[~heard].any()
    assert (x.grad[heard] != 0).float().mean() > 0.99
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("garbage", [1e30, INF, math.nan])
@pytest.mark.parametrize("bounds", ["clip", "tanh"])
def test_a_number_that_an_agent_lacks_may_be_anything(bounds: str, garbage: float):
    dist = distribution(MIXED, action_bounds=bounds)
    x, action, _, legal = drawn(dist, None)
    expected = dist.log_prob(x, action, legal)
    for agent, own in enumerate(MIXED):
        for i in range(own.continuous, NUMBERS):
            x[:, agent, [sum(HEADS) + i, sum(HEADS) + NUMBERS + i]] = garbage
            action[:, agent, len(HEADS) + i] = garbage
    assert_equal(dist.log_prob(x, action, legal), expected)
    x.requires_grad_()
    log_prob, entropy = dist.log_prob(x, action, legal)
    (log_prob + entropy).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_what_an_agent_lacks_is_a_choice_of_one_of_probability_1():
    dist = distribution([ActionHeads((2,)), ActionHeads((4, 3))])
    legal = dist.legal_choices(None)
    x, noise = 5 * torch.randn(20, 2, 7), torch.rand(20, 2, 2)
    action, log_prob = dist.sample(x, noise, legal)
    own_logit = x[:, 0, :2].clone()
    assert not action[:, 0, 1].any()
    assert_equal(log_prob[:, 0], own_logit.log_softmax(-1).gather(-1, action[:, 0, :1]).squeeze(-1))
    assert action[:, 1, 1].any()


@pytest.mark.parametrize("noise", [0.0, 2.0**-24, 0.37, 1 - 2.0**-24])
def test_a_masked_action_of_any_head_is_never_drawn_nor_the_mode(noise: float):
    dist, mask = distribution(MIXED), random_mask(500)
    x = 3 * torch.randn(500, len(MIXED), sum(HEADS) + 2 * NUMBERS)
    legal = dist.legal_choices(mask)
    everyone = torch.full((500, len(MIXED), len(HEADS) + NUMBERS), noise)
    for action in (dist.sample(x, everyone, legal)[0], dist.mode(x, legal)):
        for agent, own in enumerate(MIXED):
            for column, choices in enumerate(places(agent)[0]):
                allowed = mask[:, agent, choices]
                taken = action[:, agent, column].long()
                assert (taken < len(choices)).all()
                assert allowed.gather(-1, taken.unsqueeze(-1))[allowed.any(-1)].all()
            assert not action[:, agent, len(own.categorical) : len(HEADS)].any()


def test_where_nothing_is_legal_an_agent_has_all_that_it_has():
    dist = distribution(MIXED)
    nothing = torch.zeros(len(MIXED), sum(HEADS), dtype=torch.bool)
    assert_equal(dist.legal_choices(nothing), dist.legal_choices(None))
    assert_equal(dist.legal_choices(~nothing), dist.legal_choices(None))


def test_draws_have_the_frequencies_and_moments_of_each_agent():
    dist, rows = distribution(MIXED), 40_000
    x = torch.randn(len(MIXED), sum(HEADS) + 2 * NUMBERS).expand(rows, -1, -1)
    action, _ = dist.sample(x, torch.rand(rows, len(MIXED), len(HEADS) + NUMBERS), dist.legal_choices(None))
    for agent in range(len(MIXED)):
        heads, own_numbers = places(agent)
        for column, choices in enumerate(heads):
            seen = torch.bincount(action[:, agent, column].long(), minlength=len(choices)) / rows
            assert_close(seen, x[0, agent, choices].softmax(-1), rtol=0, atol=0.015)
        for i in own_numbers:
            u, mean, log_std = action[:, agent, len(HEADS) + i], *x[0, agent, [sum(HEADS) + i, -NUMBERS + i]]
            assert u.mean().item() == pytest.approx(mean.item(), abs=0.03 * log_std.exp().item())
            assert u.std().item() == pytest.approx(log_std.exp().item(), rel=0.03)
    columns = action.reshape(rows, -1)  # heads are drawn apart, and numbers from choices
    varied = columns[:, columns.std(0) > 0]
    assert (torch.corrcoef(varied.T) - torch.eye(varied.shape[1])).abs().max() < 0.03


@pytest.mark.parametrize("bounds", ["clip", "tanh"])
def test_the_greedy_action_is_the_likeliest_choice_and_the_mean(bounds: str):
    dist = distribution(MIXED, action_bounds=bounds)
    x, _, _, legal = drawn(dist, random_mask())
    mode = dist.mode(x, legal)
    mean = x[..., sum(HEADS) : sum(HEADS) + NUMBERS]
    for agent in range(len(MIXED)):
        heads, own_numbers = places(agent)
        for column, choices in enumerate(heads):
            best = x[:, agent, choices].masked_fill(~legal[:, agent, choices], -INF).argmax(-1)
            assert torch.equal(mode[:, agent, column].long(), best)
        columns = [len(HEADS) + i for i in own_numbers]
        assert torch.equal(mode[:, agent, columns], mean[:, agent, own_numbers])


def test_without_numbers_actions_are_integers_and_go_as_they_are():
    dist = distribution([ActionHeads((3, 2))] * 2)
    action, _ = dist.sample(torch.randn(4, 2, 5), torch.rand(4, 2, 2), dist.legal_choices(None))
    assert action.dtype == torch.int64
    assert dist.to_bounds(action) is action
    assert dist.legal_choices(None) is None  # no work where all have everything


# Bounds and units


@pytest.mark.parametrize("bounds", ["clip", "tanh"])
def test_numbers_are_sent_within_the_bounds_and_in_their_units(bounds: str):
    dist = distribution(MIXED, action_bounds=bounds)
    u = torch.linspace(-3, 3, 61)
    inner = u.clamp(-1, 1) if bounds == "clip" else torch.tanh(u)
    action = torch.cat([torch.zeros(61, len(MIXED), 3), u.reshape(-1, 1, 1).expand(61, len(MIXED), NUMBERS)], -1)
    action[:, :, :3] = torch.tensor([1.0, 0.0, 1.0])
    sent = dist.to_bounds(action)
    assert torch.equal(sent[..., :3], action[..., :3])
    for agent, own in enumerate(MIXED):
        for i, (low, high) in enumerate(zip(own.low, own.high, strict=True)):
            assert_close(sent[:, agent, 3 + i], (low + high) / 2 + (high - low) / 2 * inner)
            assert sent[:, agent, 3 + i].min() >= low
            assert sent[:, agent, 3 + i].max() <= high


def test_what_has_no_bound_is_sent_as_it_is_and_half_a_bound_is_kept():
    own = ActionHeads(low=(-INF, 2.0, -INF, 0.0), high=(INF, INF, -1.0, 4.0))
    dist = distribution([own, own])
    u = torch.tensor([-7.0, -1.0, 0.0, 0.5, 7.0])
    sent = dist.to_bounds(u.reshape(-1, 1, 1).expand(5, 2, 4))
    # One bound alone is where -1, or 1, stands.
    expected = [u, (3 + u).clamp_min(2), (-2 + u).clamp_max(-1), (2 + 2 * u).clamp(0, 4)]
    for i, column in enumerate(expected):
        assert_equal(sent[:, 0, i], column)
    assert sent.isfinite().all()


@pytest.mark.parametrize(("low", "high"), [(-INF, INF), (0.0, INF), (-INF, 0.0)])
def test_tanh_needs_bounds(low: float, high: float):
    heads = [ActionHeads((3,)), ActionHeads(low=(-1.0, low), high=(1.0, high))]
    with pytest.raises(UserError, match=r"network\.action-bounds tanh needs finite bounds"):
        distribution(heads, action_bounds="tanh")
    distribution(heads, action_bounds="clip")
    distribution([ActionHeads((3,)), ActionHeads((), (-1.0, -2.0), (1.0, 2.0))], action_bounds="tanh")


def test_the_random_policy_plays_every_legal_choice_and_every_number_alike():
    rows = 4000
    mask = random_mask(1)[0].expand(rows, -1, -1)
    action, memory = RandomPolicy(spec_of(MIXED))(torch.zeros(rows, len(MIXED), 4), "kept", mask=mask)
    assert memory == "kept"
    for agent, own in enumerate(MIXED):
        for column, choices in enumerate(places(agent)[0]):
            allowed = mask[0, agent, choices] | ~mask[0, agent, choices].any()
            seen = torch.bincount(action[:, agent, column].long(), minlength=len(choices)) / rows
            assert_close(seen, allowed / allowed.sum(), rtol=0, atol=0.04)
        for i, (low, high) in enumerate(zip(own.low, own.high, strict=True)):
            quarters = torch.histc(action[:, agent, len(HEADS) + i], 4, low, high) / rows
            assert_close(quarters, torch.full((4,), 0.25), rtol=0, atol=0.04)


# Spaces and the padded layout


def test_the_heads_of_a_space():
    assert MIXED[0] == ActionHeads((3,), start=(1,), shape=())
    assert MIXED[1] == ActionHeads((2, 4))
    assert MIXED[2] == ActionHeads((2, 2, 2))
    assert MIXED[3] == ActionHeads(low=(-2.0, 0.0), high=(2.0, 10.0))
    assert MIXED[4].shape == (1, 1)
    grid = ActionHeads.from_space(spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [2, 3]]))
    assert grid == ActionHeads((2, 3, 4, 5), start=(0, 1, 2, 3), shape=(2, 2))
    for space in (spaces.Box(0, 255, (2,), np.uint8), spaces.Text(3), spaces.Tuple([spaces.Discrete(2)])):
        with pytest.raises(UserError, match="are not supported: use Discrete"):
            ActionHeads.from_space(cast(Any, space))


@pytest.mark.parametrize("array", [np.asarray, torch.as_tensor])
def test_an_action_of_the_own_space_is_made_of_its_columns(array: Callable[[Any], Any]):
    spec = spec_of(MIXED)
    action = array(np.array([[2.0, 3.0, 1.0, 0.5, 0.25, 0.125]] * 2, np.float32))
    for index, space in enumerate(SPACES):
        own = spec.action_heads[index].to_space_action(action[:, spec.action_columns(index)])
        assert own.shape == (2, *cast(tuple[int, ...], space.shape))
        columns = action[0, spec.action_columns(index)].tolist()
        expected = [3] if index == 0 else columns  # Discrete(3, start=1)
        assert np.asarray(own[0]).ravel().tolist() == expected
        if not spec.action_heads[index].continuous:
            assert not np.issubdtype(np.asarray(own).dtype, np.floating)
    mixed = spec.action_heads[5].to_space_action(action[:, spec.action_columns(5)])
    assert np.asarray(mixed[0]).tolist() == [2.0, 3.0, 0.5, 0.25, 0.125]


def test_the_padded_layout():
    spec = spec_of(MIXED)
    assert (spec.heads, spec.continuous, spec.action_size) == (HEADS, NUMBERS, 6)
    assert [spec.action_columns(a) for a in range(6)] == [[0], [0, 1], [0, 1, 2], [3, 4], [3], [0, 1, 3, 4, 5]]
    for agent in range(6):
        choices, _ = places(agent)
        assert spec.choice_indices(agent) == [c for head in choices for c in head]
        lacking = [sum(HEADS[:i]) for i in range(len(choices), len(HEADS))]
        assert spec.static_mask_tensor[agent].nonzero().flatten().tolist() == sorted(
            [*spec.choice_indices(agent), *lacking]
        )


# An actor, and one agent of it, alone


def learner(spec: Spec, seed: int = 1, ppo: dict[str, Any] | None = None, **net: Any) -> MAPPO:
    """With logits large enough to tell policies apart."""
    settings: dict[str, Any] = {"hidden": (8,), "actor_gain": 1.0, "critic_input": "own"} | net
    made = MAPPO(spec, Config(EnvConfig(4), NetworkConfig(**settings), PPOConfig(**(ppo or {}))), seed=seed)
    with torch.no_grad():
        for p in made.network.parameters():
            p += 0.3 * torch.randn(p.shape)
    return made


def saved(agent: MAPPO, sampled: bool = False) -> Actor:
    """The actor as a checkpoint brings it back: from tensors by name and nothing else."""
    tower = build_actor(agent.spec, agent.config.network)
    tower.load_state_dict(subdict(subdict(agent.state_dict(), "network"), "actor"))
    return Actor(Policy(agent.spec, agent.config.network, tower), sampled)


def unequal(image: bool = False) -> Spec:
    """One agent for each of SPACES, with observations of its own size; or with images, channels first."""
    see = [spaces.Box(-np.inf, np.inf, shape, np.float32) for shape in ((4,), (2, 3), (1,), (), (4,))]
    see = [spaces.Box(0, 255, (3, 8, 9), np.uint8)] * len(SPACES) if image else see
    heads = tuple(map(ActionHeads.from_space, SPACES))
    return Spec(tuple("abcde"), tuple(see), heads, groups=(0, 1, 2, 3, 0) if not image else (0, 0, 1, 1, 0))


def own_observations(spec: Spec, rows: tuple[int, ...], seed: int) -> tuple[list[Tensor], Tensor]:
    """What each agent sees, in its own shape; and all of it padded, `(*rows, A, *shape)`."""
    generator = torch.Generator().manual_seed(seed)
    own: list[Tensor] = []
    padded = torch.zeros(*rows, spec.num_agents, *spec.obs_shape, dtype=spec.obs_dtype)
    for agent, space in enumerate(spec.obs_spaces):
        shape = cast(tuple[int, ...], space.shape)
        if len(shape) == 3:
            own.append((255 * torch.rand(*rows, *shape, generator=generator)).byte())
            padded[..., agent, :, :, :] = own[-1].movedim(-3, -1) if shape[0] == 3 else own[-1]
        else:
            own.append(torch.randn((*rows, *shape), generator=generator))
            padded[..., agent, : math.prod(shape)] = own[-1].reshape(*rows, -1)
    return own, padded


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("sharing", ["group", "all", "none"])
@pytest.mark.parametrize("bounds", ["clip", "tanh"])
def test_one_agent_alone_acts_as_in_the_team_in_its_own_spaces(image: bool, memory: int, sharing: str, bounds: str):
    spec = unequal(image)
    agent = learner(spec, memory_size=memory, sharing=sharing, action_bounds=bounds, obs_norm=not image)
    if agent.network.actor.norm is not None:  # some statistics
        agent.network.actor.norm.update(own_observations(spec, (30,), 9)[1] + 1, torch.ones(30, 5))
    actor, rows = saved(agent), (7,)
    kept: list[Any] = [None] * 5
    team_memory = None
    for t in range(4):
        own, padded = own_observations(spec, rows, t)
        mask = torch.rand(*rows, 5, sum(spec.heads)) < 0.6
        first = torch.rand(*rows, 5) < 0.3
        greedy, _, team_memory = agent.policy(padded, team_memory, mask=mask, is_first=first)
        sent = agent.env_action(greedy)
        for index, name in enumerate(spec.agents):
            action, kept[index] = actor.agent(name)(
                own[index], kept[index], mask=mask[:, index, spec.choice_indices(index)], is_first=first[:, index]
            )
            space = SPACES[index]
            expected = spec.action_heads[index].to_space_action(sent[:, index, spec.action_columns(index)])
            assert action.dtype == expected.dtype
            assert_close(action, expected, rtol=1e-5, atol=1e-5)
            for one in action.numpy():
                assert space.contains(np.asarray(one, space.dtype)), (space, one)
            if memory:
                assert_close(kept[index], team_memory[:, index], rtol=1e-5, atol=1e-5)
            else:
                assert kept[index] is None


@pytest.mark.parametrize("sharing", ["group", "none"])
def test_one_row_may_come_without_any_axes_in_front(sharing: str):
    spec = unequal()
    agent = learner(spec, sharing=sharing, memory_size=3)
    own, padded = own_observations(spec, (), 0)
    together, _ = agent.actor()(padded)
    for index, name in enumerate(spec.agents):
        action, memory = agent.actor().agent(name)(own[index])
        assert action.shape == SPACES[index].shape
        assert_close(action, spec.action_heads[index].to_space_action(together[index, spec.action_columns(index)]))
        assert memory.shape == (3,)
        again, _ = agent.actor().agent(name)(own[index].numpy(), memory, is_first=True)
        assert_close(again, action)


def test_images_come_channels_first_or_last_and_are_read_alike():
    heads = (ActionHeads((5,)),) * 2
    image = (255 * torch.rand(6, 2, 8, 9, 3)).byte()
    answers: list[Tensor] = []
    for shape in ((8, 9, 3), (3, 8, 9)):
        spec = Spec(("a", "b"), (spaces.Box(0, 255, shape, np.uint8),) * 2, heads)
        assert spec.obs_shape == (8, 9, 3)
        assert spec.obs_dtype == torch.uint8
        torch.manual_seed(0)
        actor = learner(spec).actor()
        own = image if shape[2] == 3 else image.movedim(-1, -3)
        answers.append(torch.stack([actor.agent(name)(own[:, i])[0] for i, name in enumerate("ab")], -1))
        assert torch.equal(answers[-1], actor(image)[0].squeeze(-1))
        with pytest.raises(ValueError, match=r"a reads observations \('\*B', "):
            actor.agent("a")(own[:, 0].movedim(-1, -2))
    assert torch.equal(*answers)
    assert answers[0].unique().numel() > 1


def test_another_agents_observation_never_changes_my_numbers_nor_my_memory():
    for sharing in ("group", "all", "none"):
        spec = unequal()
        policy = learner(spec, sharing=sharing, memory_size=3, obs_norm=True).policy
        memory = torch.randn(6, 5, 3)
        _, obs = own_observations(spec, (6,), 0)
        for other in range(5):
            changed, changed_memory = obs.clone(), memory.clone()
            changed[:, other], changed_memory[:, other] = math.nan, math.nan
            before, after = (
                policy.network.step(policy.network.preprocess(x), m)
                for x, m in ((obs, memory), (changed, changed_memory))
            )
            mine = [a for a in range(5) if a != other]
            for x, y in zip(before, after, strict=True):
                assert torch.equal(x[:, mine], y[:, mine])
                assert y[:, other].isnan().any()


@pytest.mark.parametrize("memory", [0, 3])
def test_permuting_equal_agents_permutes_their_actions_and_memories(memory: int):
    spec = spec_of([ActionHeads((4, 2), (0.0,), (1.0,))] * 4)
    policy = learner(spec, memory_size=memory, obs_norm=True).policy
    order = torch.tensor([2, 0, 3, 1])
    obs, noise, kept = torch.randn(6, 4, 4), torch.rand(6, 4, 3), torch.randn(6, 4, memory) if memory else None
    mask = torch.rand(6, 4, 6) < 0.7
    here = policy(obs, kept, mask=mask, noise=noise)
    there = policy(obs[:, order], None if kept is None else kept[:, order], mask=mask[:, order], noise=noise[:, order])
    for x, y in zip(here, there, strict=True):
        assert (x is None) == (y is None)
        if x is not None and y is not None:
            assert_close(x[:, order], y, rtol=1e-6, atol=1e-6)


def test_an_agent_whose_name_is_a_number_is_found_by_the_number():
    spec = Spec(("0", "1"), (spaces.Box(-1, 1, (2,)),) * 2, (ActionHeads((3,)), ActionHeads((5,))))
    actor = learner(spec).actor()
    for number, size in ((0, 3), (1, 5)):
        assert actor.agent(number)(torch.zeros(2), mask=torch.eye(size)[-1])[0] == size - 1
    with pytest.raises(UserError, match="there is no agent 2; there are: 0, 1"):
        actor.agent(2)


def test_an_agent_that_does_not_exist_and_shapes_that_do_not_fit_are_named():
    spec = unequal()
    actor = learner(spec).actor()
    with pytest.raises(UserError, match="there is no agent 'z'; there are: a, b, c, d, e"):
        actor.agent("z")
    with pytest.raises(ValueError, match=r"b reads observations \('\*B', 2, 3\), got \(5,\)"):
        actor.agent("b")(torch.zeros(5))
    with pytest.raises(ValueError, match=r"the mask must be \(3, 6\), got \(3, 9\)"):
        actor.agent("b")(torch.zeros(3, 2, 3), mask=torch.ones(3, 9))
    with pytest.raises(ValueError, match=r"this actor reads observations \(\*B, 5, 6\), got \(3, 6\)"):
        actor(torch.zeros(3, 6))
    with pytest.raises(ValueError, match=r"the mask must be \(3, 5, 9\), got \(3, 5, 4\)"):
        actor(torch.zeros(3, 5, 6), mask=torch.ones(3, 5, 4))


def test_equal_agents_that_share_all_may_come_alone_in_any_number():
    spec = spec_of([ActionHeads((4,), (0.0,), (1.0,))] * 3)
    actor, obs = learner(spec, obs_norm=True).actor(), torch.randn(5, 3, 4)
    together = actor(obs)[0]
    for rows in (obs[:, 1], obs[2, 1], obs.reshape(15, 4)):
        assert actor(rows)[0].shape == (*rows.shape[:-1], 2)
    assert_equal(actor(obs[:, 1])[0], together[:, 1])


@pytest.mark.parametrize("obs_norm", [False, True])
def test_agents_whose_statistics_differ_come_together(obs_norm: bool):
    """Else the statistics of the team would be read for a row of one."""
    space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    spec = Spec(tuple("abc"), (space,) * 3, (ActionHeads((3,)),) * 3, groups=(0, 1, 1))
    actor = learner(spec, sharing="all", agent_id=False, obs_norm=obs_norm).actor()
    if obs_norm:
        with pytest.raises(ValueError, match=r"this actor reads observations \(\*B, 3, 4\), got \(4,\)"):
            actor(torch.zeros(4))
    else:
        assert actor(torch.zeros(4))[0].shape == (1,)


def test_a_sampled_actor_draws_by_its_own_generator():
    spec = unequal()
    agent = learner(spec)
    _, obs = own_observations(spec, (50,), 0)
    before = agent.generator.get_state()
    first, again = (agent.actor(sampled=True)(obs)[0] for _ in range(2))
    assert_equal(first, again)
    assert torch.equal(agent.generator.get_state(), before)
    assert not torch.equal(first, agent.actor()(obs)[0])
    low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 10.0])
    assert ((first[:, 3, 3:5] >= low) & (first[:, 3, 3:5] <= high)).all()


def test_the_start_of_a_standard_deviation_and_its_two_kinds():
    spec = unequal()
    for action_std, constants in (("free", 2), ("state", 0)):
        tower = learner(spec, action_std=action_std).network.actor
        fresh = build_actor(spec, NetworkConfig(action_std=action_std, initial_std=0.3))
        log_std = fresh(torch.randn(6, 5, 6))[0][..., -2:]
        assert (0 if tower.constants is None else tower.constants.shape[-1]) == constants
        assert_close(log_std.exp(), torch.full_like(log_std, 0.3), rtol=0.05, atol=0.01)
        obs = torch.randn(6, 5, 6)
        varies = tower(obs)[0][..., -2:].std(0).max() > 1e-3
        assert bool(varies) == (action_std == "state")


def test_the_free_standard_deviations_are_each_sets_own():
    spec = replace(unequal(), groups=(0, 1, 2, 3, 4))
    agent = learner(spec, sharing="none")
    assert cast(Tensor, agent.network.actor.constants).shape == (5, 2)
    numbers, _ = agent.network.actor(torch.randn(3, 5, 6))
    numbers[:, 3, -2:].sum().backward()
    gradient = cast(Tensor, cast(Tensor, agent.network.actor.constants).grad)
    assert gradient[3].tolist() == [3, 3]
    assert not gradient[[0, 1, 2, 4]].any()
