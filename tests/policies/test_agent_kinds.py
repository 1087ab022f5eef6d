"""Agents that differ, critics that read what they may (law 5), images, and functions that users give."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.testing import assert_close

from chaos import Chaos
from losses import loss_of
from mappo.algorithms.critic_input import CriticInput, make_critic_input
from mappo.algorithms.mappo import MAPPO
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig
from mappo.core.spec import ActionHeads, Spec
from mappo.core.timestep import Rollout, TimeStep
from mappo.errors import UserError
from mappo.evaluation.episodes import play_episodes
from mappo.networks.actor_critic import build_actor
from mappo.networks.encoders import ENCODERS, MLP, register_encoder
from mappo.rollouts.collector import Collector
from vectorized import from_factory

STEPS = 6
KINDS = [
    (4, ActionHeads((3, 2))),
    (2, ActionHeads(low=(-2.0,), high=(2.0,))),
    (4, ActionHeads((3, 2))),
    (5, ActionHeads((2,), (0.0,), (1.0,))),
]
MODES = [("team", "env"), ("team", "joint"), ("team", "agent"), ("team", "own"), ("agent", "agent"), ("agent", "own")]


class Pictures:
    """Chaos that is looked at: observations and states are images of bytes; the absent see `dead_sees` all over."""

    def __init__(self, heads: Sequence[tuple[int, ...]] = ((3,),) * 3, state: bool = True, dead_sees: int = 0) -> None:
        kinds = [(7 * 6 * 3, ActionHeads(own)) for own in heads]
        self.chaos = Chaos(4, kinds=kinds, state_size=7 * 6 * 2 if state else None, deaths=0.4)
        self.num_envs, self.device, self.dead_sees = 4, self.chaos.device, torch.tensor(dead_sees).byte()
        spec = self.chaos.spec
        see = (spaces.Box(0, 255, (7, 6, 3), np.uint8),) * spec.num_agents
        self.spec = Spec(spec.agents, see, spec.action_heads, state_shape=(7, 6, 2) if state else None)

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        return self._pictures(self.chaos.reset(seed))

    def step(self, action: Tensor) -> TimeStep:
        return self._pictures(self.chaos.step(action))

    def close(self) -> None:
        pass

    def _pictures(self, step: TimeStep) -> TimeStep:
        def picture(x: Any, channels: int, there: Any = True) -> Any:
            image = (255 * torch.sigmoid(x)).byte().unflatten(-1, (7, 6, channels))
            return torch.where(torch.as_tensor(there).reshape(*np.shape(there), 1, 1, 1), image, self.dead_sees)

        step = replace(
            step, obs=picture(step.obs, 3, step.active), next_obs=picture(step.next_obs, 3, step.next_active)
        )
        if step.state is None:
            return step
        return replace(step, state=picture(step.state, 2), next_state=picture(step.next_state, 2))


def config(mode: tuple[str, str] = ("team", "env"), num_envs: int = 4, ppo: Any = None, **net: Any) -> Config:
    reward, critic = cast(Any, mode)
    network = {"hidden": (8, 6), "activation": "tanh", "actor_gain": 1.0, "critic_input": critic} | net
    settings = {"rollout_length": STEPS, "epochs": 2, "chunk_length": 3} | (ppo or {})
    return Config(EnvConfig(num_envs, reward=reward), NetworkConfig(**network), PPOConfig(**settings))


def make(env: Any, mode: tuple[str, str] = ("team", "env"), user: Any = None, ppo: Any = None, **net: Any) -> MAPPO:
    """A small learner, with logits large enough to tell policies apart."""
    return MAPPO(env.spec, config(mode, env.num_envs, ppo, **net), seed=1, critic_input=user)


def collect(agent: MAPPO, env: Any, seed: int = 0) -> Rollout:
    return Collector(env, agent, STEPS, env.reset(seed), torch.Generator().manual_seed(seed)).collect()[0]


def assert_equal(a: Any, b: Any) -> None:
    """Bit for bit, however nested."""
    assert_close(a, b, rtol=0, atol=0)


def value(agent: MAPPO, obs: Tensor, state: Tensor | None, active: Tensor) -> Tensor:
    """What the critic says of one step, `(E)` or `(E, A)`."""
    critic = agent.network.critic
    with torch.no_grad():
        return critic.step(critic.preprocess(agent.critic_input(obs, state, active)))[0].squeeze(-1)


# Law 5: who reads what


@pytest.mark.parametrize(("mode", "state"), [*((m, True) for m in MODES), *((m, False) for m in MODES[1:])])
@pytest.mark.parametrize("memory", [0, 4])
@pytest.mark.parametrize("sharing", ["group", "all", "none"])
def test_the_critic_reads_what_it_says_and_the_actor_its_own_observation(
    mode: tuple[str, str], state: bool, memory: int, sharing: str
):
    env = Chaos(4, kinds=KINDS, state_size=5 if state else None)
    agent = make(env, mode, memory_size=memory, sharing=sharing, obs_norm=True)
    agent.update(collect(agent, env))  # some statistics
    obs, active = torch.randn(7, 4, 5), torch.ones(7, 4, dtype=torch.bool)
    seen = torch.randn(7, 5) if state else None

    def answers(obs: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return agent.network.actor.step(agent.network.actor.preprocess(obs))[0], value(agent, obs, seen, active)

    numbers, values = answers(obs, seen)
    for who in range(4):
        changed = obs.clone()
        changed[:, who, :2] += 1
        new_numbers, new_values = answers(changed, seen)
        others = [a for a in range(4) if a != who]
        assert torch.equal(new_numbers[:, others], numbers[:, others])
        assert (new_numbers[:, who] != numbers[:, who]).any(-1).all()
        moved = (new_values != values).float().reshape(7, -1).mean(0)  # of the team's row, or of each agent's
        everyone = mode[1] == "joint" or (mode[1] == "agent" and not state)
        for row in range(moved.numel()):
            assert moved[row] == (mode[1] != "env" and (everyone or row == who)), (who, row)
    if seen is not None:
        new_numbers, new_values = answers(obs, seen + 1)
        assert torch.equal(new_numbers, numbers)
        assert (new_values != values).all() == (mode[1] in ("env", "agent"))
        assert (new_values != values).any() == (mode[1] in ("env", "agent"))


@pytest.mark.parametrize("mode", [("team", "agent"), ("team", "own")])
@pytest.mark.parametrize("death_mask", [False, True])
def test_rows_of_the_dead_are_read_as_zeros_whoever_died(mode: tuple[str, str], death_mask: bool):
    env = Chaos(4, kinds=KINDS)
    if death_mask and mode[1] != "agent":
        with pytest.raises(UserError, match=r"network\.death-mask is for critic-input agent, but critic-input is own"):
            make(env, mode, death_mask=death_mask)
        return
    agent = make(env, mode, death_mask=death_mask)
    obs, state, active = torch.randn(7, 4, 5), torch.randn(7, 5), torch.rand(7, 4) < 0.6
    rows = agent.critic_input(obs, state, active)
    told = 5 if mode[1] == "agent" else 0
    for e, a in itertools.product(range(7), range(4)):
        expected = torch.zeros(rows.shape[-1])
        if mode[1] == "agent":
            expected[10 + a] = 1
            expected[:5] = state[e] if active[e, a] or not death_mask else 0
        if active[e, a]:
            expected[told : told + 5] = obs[e, a]
        assert torch.equal(rows[e, a], expected)


# Who shares what


def test_agents_of_one_kind_share_by_default_and_others_never():
    spec = Chaos(kinds=KINDS).spec
    assert spec.groups == (0, 1, 0, 2)
    for sharing, sets in (("group", (0, 1, 0, 2)), ("all", (0, 0, 0, 0)), ("none", (0, 1, 2, 3))):
        net = NetworkConfig(sharing=cast(Any, sharing))
        assert spec.parameter_sets(net.sharing) == sets
        tower = build_actor(spec, net)
        assert tower.head.weight.shape[:-2] == (() if sharing == "all" else (len(set(sets)),))
        assert (tower.ids is not None) == (sharing == "all")
        for asked in (False, True):
            assert (
                build_actor(spec, NetworkConfig(sharing=cast(Any, sharing), agent_id=asked)).ids is not None
            ) == asked
    equal = Chaos().spec
    assert build_actor(equal, NetworkConfig(sharing="all")).ids is None


@pytest.mark.parametrize("sharing", ["group", "none"])
def test_what_one_kind_learns_the_others_do_not(sharing: str):
    """The gradient of one agent's loss is exactly 0 in the parameters of all others, actor and critic."""
    env = Chaos(4, kinds=KINDS)
    agent = make(env, ("agent", "agent"), sharing=sharing, memory_size=4, layer_norm=True)
    batch, *_ = agent.prepare(collect(agent, env))
    sets = env.spec.parameter_sets(agent.config.network.sharing)
    for who in range(4):
        only = torch.zeros_like(batch.weight)
        only[..., who] = batch.weight[..., who]
        batch.value_weight, weight = only, batch.weight
        batch.weight = only
        agent.optimizer.zero_grad()
        loss_of(agent, batch)[0].backward()
        batch.weight = weight
        for p in agent.network.parameters():
            assert p.grad is not None
            others = [s for s in range(max(sets) + 1) if s != sets[who]]
            assert not p.grad[others].any()
        assert all(cast(Tensor, p.grad)[sets[who]].any() for p in agent.network.critic.parameters())
        assert cast(Tensor, agent.network.actor.head.weight.grad)[sets[who]].any()


def test_equal_agents_with_the_same_observation_act_alike_unless_they_have_ids():
    env = Chaos(4, 3)
    obs = torch.randn(5, 1, 4).expand(-1, 3, -1)
    for agent_id in (None, True):
        numbers, _ = make(env, agent_id=agent_id).network.actor(obs)
        assert torch.allclose(numbers[:, 0], numbers[:, 1], atol=1e-6) == (agent_id is None)


@pytest.mark.parametrize("obs_norm", [False, True])
@pytest.mark.parametrize("mode", [("team", "agent"), ("agent", "agent")])
def test_one_critic_for_all_kinds_is_told_whose_value_it_gives(mode: tuple[str, str], obs_norm: bool):
    """The id survives the statistics, though it never moves in the rows of a kind of one."""
    env = Chaos(4, kinds=KINDS)
    agent = make(env, mode, sharing="all", obs_norm=obs_norm)
    for seed in range(2):
        agent.update(collect(agent, env, seed))
    rows = agent.critic_input(torch.randn(4, 5), torch.randn(5), torch.ones(4, dtype=torch.bool))
    assert torch.equal(rows[:, -4:], torch.eye(4))
    ids = agent.network.critic.preprocess(rows)[:, -4:]
    assert min((ids[a] - ids[b]).abs().max().item() for a, b in itertools.combinations(range(4), 2)) >= 1


@pytest.mark.parametrize("sharing", ["group", "all", "none"])
def test_permuting_equal_agents_permutes_what_a_critic_of_each_says(sharing: str):
    spec = Chaos(4, kinds=KINDS)
    agent = make(spec, ("agent", "own"), sharing=sharing, memory_size=4)
    obs, active = torch.randn(7, 4, 5), torch.ones(7, 4, dtype=torch.bool)
    order = [2, 1, 0, 3]  # 0 and 2 are of one kind
    before, after = value(agent, obs, None, active), value(agent, obs[:, order], None, active)
    assert torch.allclose(after, before[:, order], atol=1e-6) == (sharing == "group")


def test_an_actor_that_plays_among_the_dead_stays_finite():
    """Evaluation sends what the absent see, NaN included, into the same memory."""
    env = Chaos(4, dead_sees=math.nan, deaths=0.3)
    agent = make(env, memory_size=4, obs_norm=True)
    agent.update(collect(agent, env))
    played = play_episodes(env, agent.actor(), range(8))
    assert np.isfinite(played.team_returns).all()
    step, memory, actor = env.reset(0), None, agent.actor()
    for _ in range(40):
        action, memory = actor(step.obs, memory, mask=step.mask, is_first=step.is_first)
        assert memory[step.active].isfinite().all()
        alike = agent.policy(step.obs, None, mask=step.mask, active=step.active)[0]
        assert action.shape == alike.shape
        step = env.step(action)


class Mortal:
    """PettingZoo's Parallel API: the first of two agents dies at the second of four steps; each step pays 1 to all."""

    possible_agents = ("a", "b")

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Box(-1, 1, (1,), np.float32)

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.agents, self.clock = ["a", "b"], 0
        return {a: np.zeros(1, np.float32) for a in "ab"}, {}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        acted, self.clock = list(actions), self.clock + 1
        over = {a: self.clock == (2 if a == "a" else 4) for a in acted}
        self.agents = [a for a in acted if not over[a]]
        see = {a: np.zeros(1, np.float32) for a in acted}
        return see, dict.fromkeys(acted, 1.0), over, dict.fromkeys(acted, False), {}

    def close(self) -> None:
        pass


@pytest.mark.parametrize("shared", [False, True])
def test_the_teams_number_goes_on_when_the_first_agent_is_dead(shared: bool):
    env = from_factory(Mortal, 1, shared)
    env.reset(0)
    team = [env.spec.team_reward(env.step(torch.zeros(1, 2, 1)).reward).item() for _ in range(5)]
    assert team == ([1, 1, 1, 1, 1] if shared else [2, 2, 1, 1, 2])


# Images


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("memory", "sharing"), [(0, "group"), (4, "none"), (4, "all")])
def test_pictures_are_learned_from_and_the_absent_are_not_heard(mode: tuple[str, str], memory: int, sharing: str):
    """Bytes all the way to the network; and what the absent see is no matter, bit for bit (law 6)."""
    ends: list[Any] = []
    for dead_sees in (0, 200):
        env = Pictures([(3,), (2, 2), (3,)], dead_sees=dead_sees)
        agent = make(env, mode, memory_size=memory, sharing=sharing, death_mask=mode[1] == "agent")
        rollout = collect(agent, env)
        assert rollout.obs.dtype == torch.uint8
        assert (~rollout.active).any()
        batch, *_ = agent.prepare(rollout)
        assert batch.obs.dtype == batch.critic_obs.dtype == torch.uint8
        metrics = agent.update(rollout)
        assert metrics["skipped_steps"] == 0
        ends.append((metrics, agent.network.state_dict()))
    assert_equal(*ends)


def test_pictures_are_joined_along_their_channels_and_ids_are_planes():
    env = Pictures()
    obs, state = (torch.randint(256, size).byte() for size in ((5, 3, 7, 6, 3), (5, 7, 6, 2)))
    active = torch.tensor([[True, True, False]]).expand(5, -1)
    seen = torch.where(active.reshape(5, 3, 1, 1, 1), obs, torch.tensor(0).byte())
    shapes = {"env": (7, 6, 2), "joint": (7, 6, 9), "agent": (7, 6, 8), "own": (7, 6, 3)}
    for mode, shape in shapes.items():
        made = make_critic_input(env.spec, config(("team", mode)))
        rows = made(obs, state, active)
        assert made.shape == shape
        assert rows.dtype == torch.uint8
        assert rows.shape[1 if made.team_rows else 2 :] == shape
        for a in range(3):
            if mode == "joint":
                assert torch.equal(rows[..., 3 * a : 3 * a + 3], seen[:, a])
            elif mode == "agent":
                assert torch.equal(rows[:, a, ..., :2], state)
                assert torch.equal(rows[:, a, ..., 2:5], seen[:, a])
                assert [rows[:, a, ..., 5 + i].unique().tolist() for i in range(3)] == [
                    [255 if i == a else 0] for i in range(3)
                ]
            elif mode == "own":
                assert torch.equal(rows[:, a], seen[:, a])
    stateless = make_critic_input(Pictures(state=False).spec, config(("team", "agent")))
    assert stateless.shape == (7, 6, 15)
    assert torch.equal(stateless(obs, None, active)[:, 1, ..., :9], seen.movedim(1, -2).flatten(-2))


def test_the_own_id_of_a_critic_is_a_plane_too():
    env = Pictures([(3,)] * 2)
    with pytest.raises(UserError, match=r"network\.obs-norm is for vectors"):
        make(env, ("team", "own"), agent_id=True, obs_norm=True)
    agent = make(env, ("team", "own"), agent_id=True)
    assert agent.critic_input.shape == (7, 6, 5)
    same = torch.randint(256, (4, 1, 7, 6, 3)).byte().expand(-1, 2, -1, -1, -1)
    given = value(agent, same, None, torch.ones(4, 2, dtype=torch.bool))
    assert (given[:, 0] != given[:, 1]).all()


def test_states_and_observations_of_two_kinds_are_not_joined():
    spec = Pictures().spec
    vector = Spec(spec.agents, spec.obs_spaces, spec.action_heads, state_shape=(5,))
    with pytest.raises(UserError, match="which are not of one kind: use env, joint or own"):
        make_critic_input(vector, config(("team", "agent")))
    assert make_critic_input(vector, config(("team", "auto"))).mode == "env"
    flat = Chaos(kinds=KINDS).spec
    odd = Spec(flat.agents, flat.obs_spaces, flat.action_heads, state_shape=(3, 5))
    with pytest.raises(UserError, match=r"the state must be a vector or an image \(H, W, C\), not \(3, 5\)"):
        make_critic_input(odd, config(("team", "env")))


def test_a_team_may_mix_images_with_vectors():
    see = (spaces.Box(0, 255, (7, 6, 3), np.uint8), spaces.Box(-1, 1, (4,), np.float32))
    spec = Spec(("a", "b"), see, (ActionHeads((2,)),) * 2)
    assert spec.obs_shape == (7 * 6 * 3,)
    assert spec.obs_dtype == torch.float32
    assert spec.groups == (0, 1)
    assert [part.is_image for parts in spec.obs_parts for part in parts] == [True, False]


# What users give


def sums(obs: Tensor, state: Tensor | None, active: Tensor) -> Tensor:
    """A row for the team: the sum of all observations, and who is there."""
    return torch.cat([obs.sum(-2), active.to(obs.dtype)], -1)


def neighbours(obs: Tensor, state: Tensor | None, active: Tensor) -> Tensor:
    """A row for each agent: its own observation and that of the next one."""
    assert state is not None
    state = state.unsqueeze(-2).expand(*obs.shape[:-1], -1)
    return torch.cat([obs, obs.roll(1, -2), state], -1)


@pytest.mark.parametrize(("function", "shape", "team"), [(sums, (9,), True), (neighbours, (15,), False)])
@pytest.mark.parametrize("memory", [0, 4])
@pytest.mark.parametrize("obs_norm", [False, True])
def test_a_function_of_the_user_makes_the_critics_rows(
    function: Any, shape: tuple[int, ...], team: bool, memory: int, obs_norm: bool
):
    ends: list[Any] = []
    for dead_sees in (0.0, math.nan):
        env = Chaos(4, kinds=KINDS, dead_sees=dead_sees, deaths=0.3)
        agent = make(env, ("team", "auto"), function, memory_size=memory, obs_norm=obs_norm)
        assert agent.critic_input == CriticInput(shape, team, mode="user", function=function)
        rollout = collect(agent, env)
        batch, *_ = agent.prepare(rollout)
        rows = function(torch.nan_to_num(rollout.obs), rollout.state, rollout.active)
        given = (
            batch.critic_obs.unflatten(-2 if team else -3, (-1, 4))
            if memory
            else batch.critic_obs.unflatten(0, (-1, 4))
        )
        assert_equal(given.transpose(0, 1).reshape(rows.shape) if memory else given, rows)
        ends.append((agent.update(rollout), agent.network.state_dict()))
    assert_equal(*ends)


def test_a_function_may_make_images_of_images():
    env = Pictures()
    for function, team in ((lambda obs, *_: obs[..., 0, :, :, :], True), (lambda obs, *_: obs[..., :1], False)):
        agent = make(env, ("team", "user"), function)
        assert agent.critic_input.team_rows == team
        assert agent.critic_input.shape == ((7, 6, 3) if team else (7, 6, 1))
        assert agent.update(collect(agent, env))["skipped_steps"] == 0


def test_functions_and_settings_that_do_not_fit_are_named():
    env = Chaos(4, kinds=KINDS)
    with pytest.raises(UserError, match=r"network\.critic-input user: give the function"):
        make(env, ("team", "user"))
    with pytest.raises(UserError, match=r"network\.critic-input own, but a function was given too"):
        make(env, ("team", "own"), sums)
    with pytest.raises(UserError, match=r"env\.reward agent needs a critic row for each agent: the function must"):
        make(env, ("agent", "auto"), sums)
    assert not make(env, ("agent", "auto"), neighbours).team_rows


def test_an_encoder_of_the_user_is_built_for_actor_and_critic():
    built: list[tuple[int, tuple[int, ...]]] = []

    @register_encoder("of_a_test")
    def twice(groups: int, shape: tuple[int, ...], net: NetworkConfig) -> MLP:
        built.append((groups, shape))
        return MLP(shape[0], (7, net.hidden[-1]), groups=groups)

    try:
        env = Chaos(4, kinds=KINDS)
        agent = make(env, ("team", "env"), encoder="of_a_test", memory_size=4)
        assert built == [(3, (5,)), (1, (5,))]
        assert agent.update(collect(agent, env))["skipped_steps"] == 0
    finally:
        del ENCODERS["of_a_test"]
    with pytest.raises(UserError, match=r"network\.encoder 'of_a_test' is not known; there are: auto, mlp, cnn"):
        make(env, encoder="of_a_test")
    with pytest.raises(UserError, match=r"network\.encoder mlp reads vectors"):
        make(Pictures(), encoder="mlp")


def test_a_critic_may_read_vectors_where_the_actor_sees_images():
    env = Pictures()
    agent = make(env, ("team", "user"), lambda obs, *_: obs.float().mean((-2, -3)).flatten(-2), encoder="cnn")
    assert agent.critic_input.shape == (9,)
    assert agent.update(collect(agent, env))["skipped_steps"] == 0
