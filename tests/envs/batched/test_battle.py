"""A skirmish by hand: range, damage, deaths, masks, sight, pay, and how games end."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mappo.algorithms.mappo import MAPPO
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig
from mappo.core.protocols import Environment, Renderable, Resumable
from mappo.core.timestep import TimeStep
from mappo.envs.batched.battle import Battle
from mappo.envs.batched.battle_scripts import attack_nearest, focus_fire
from mappo.envs.batched.rendering import AGENT_COLORS, COLLISION
from mappo.errors import UserError
from mappo.policies.random_policy import RandomPolicy
from mappo.rollouts.collector import Collector

NO_OP, STOP, LEFT, RIGHT, DOWN, UP, ATTACK = range(7)
OUT = (1.4, 1.4)  # out of the way of everybody


def scene(
    team: list[tuple[float, float]], enemies: list[tuple[float, float]], health: list[int] | None = None, **options: Any
) -> tuple[Battle, TimeStep]:
    """One battle of two against two, or more, in which everybody stands where the test wants it."""
    env = Battle(1, len(team), **options)
    state = env.state_dict() | {"place": torch.tensor([[*team, *enemies]])}
    if health is not None:
        state["health"] = torch.tensor([health], dtype=torch.float)
    return env, env.load_state_dict(state)


def act(env: Battle, *choices: int) -> TimeStep:
    return env.step(torch.tensor(choices).view(1, -1, 1))


def health(env: Battle) -> list[float]:
    return env.state_dict()["health"][0].tolist()


def place(env: Battle) -> list[list[float]]:
    return env.state_dict()["place"][0].tolist()


def random_policy(env: Battle) -> RandomPolicy:
    return RandomPolicy(env.spec, 0, torch.device("cpu"))


def test_it_says_what_it_is():
    env = Battle(3, 4)
    step = env.reset(0)
    spec = env.spec
    assert spec.agents == ("agent_0", "agent_1", "agent_2", "agent_3")
    assert (spec.obs_shape, spec.heads, spec.state_shape, spec.groups) == ((24,), (10,), (24,), (0,) * 4)
    assert spec.shared_reward
    assert step.obs.shape == (3, 4, 24)
    assert step.obs.dtype == torch.float32
    assert step.mask is not None
    assert step.mask.shape == (3, 4, 10)
    assert step.state is not None
    assert step.state.shape == (3, 24)
    assert isinstance(env, Environment)
    assert isinstance(env, Renderable)
    assert isinstance(env, Resumable)
    assert Battle(1).spec.num_agents == 5
    assert Battle(1).horizon == 60


def test_moves_are_an_eighth_to_the_four_sides():
    env, _ = scene([(-1.0, 0.0)] * 5, [(1.25, 0.25), (0.5, -1.0), (0.25, 1.0), OUT, OUT])
    act(env, STOP, LEFT, RIGHT, DOWN, UP)
    # The enemies are too far to shoot: each walks along the larger way to the agents, who stood together.
    assert place(env)[:5] == [[-1, 0], [-1.125, 0], [-0.875, 0], [-1, -0.125], [-1, 0.125]]
    assert place(env)[5:8] == [[1.125, 0.25], [0.375, -1.0], [0.125, 1.0]]
    assert health(env) == [8] * 10


def test_an_enemy_walks_along_the_larger_way():
    env, _ = scene([(0.0, 1.0), (-1.5, -1.5)], [(0.25, -0.5), (1.25, 0.125)])
    act(env, STOP, STOP)
    assert place(env)[2:] == [[0.25, -0.375], [1.125, 0.125]]


@pytest.mark.parametrize(("apart", "hit"), [(0.5, True), (0.5001, False), (0.0, True)])
def test_attacks_reach_half_a_unit(apart: float, hit: bool):
    env, step = scene([(0.0, 0.0), (-1.5, -1.5)], [(0.0, apart), OUT])
    assert step.mask is not None
    assert step.mask[0, 0, ATTACK:].tolist() == [hit, False]
    step = act(env, ATTACK, STOP)
    assert health(env)[2] == (7 if hit else 8)
    assert health(env)[0] == (7 if hit else 8)  # the enemy shoots as far, and walks else
    assert step.next_obs[0, 0, 0] == health(env)[0] / 8


def test_all_act_at_once_and_from_where_they_stood():
    # Agent 0 walks out of range, and is still hit; both agents' attacks on one enemy add up.
    env, _ = scene([(0.0, 0.0), (0.5, 0.25), (0.5, -0.25)], [(0.5, 0.0), OUT, (-1.5, 1.5)])
    act(env, LEFT, ATTACK, ATTACK)
    assert place(env)[0] == [-0.125, 0.0]
    assert health(env) == [8, 7, 8, 6, 8, 8]  # the nearest of equals is the first of them


def test_an_enemy_attacks_the_nearest_of_the_living():
    env, _ = scene([(0.1, 0.0), (0.3, 0.0), (0.2, 0.3)], [(0.0, 0.0), OUT, OUT], [0, 5, 5, 8, 8, 8])
    act(env, NO_OP, STOP, STOP)
    assert health(env) == [0, 4, 5, 8, 8, 8]


def test_the_mask_of_the_living_and_of_the_dead():
    _, step = scene([(-1.5, 1.5), (1.4, -1.4), (0.0, 0.0)], [(0.25, 0.0), (0.0, 0.25), (1.5, 1.5)], [8, 8, 0, 0, 8, 8])
    mask = step.mask
    assert mask is not None
    # no-op, stop, left, right, down, up, three attacks
    assert mask[0, 0].int().tolist() == [0, 1, 0, 1, 1, 0, 0, 0, 0]
    assert mask[0, 1].int().tolist() == [0, 1, 1, 0, 0, 1, 0, 0, 0]
    assert mask[0, 2].int().tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0]
    _, step = scene([(0.0, 0.0)] * 3, [(0.25, 0.0), (0.0, 0.25), (1.5, 1.5)], [8, 8, 8, 0, 8, 8])
    assert step.mask is not None
    assert step.mask[0, 2].int().tolist() == [0, 1, 1, 1, 1, 1, 0, 1, 0]  # enemy 0 is dead, enemy 2 far


def test_what_is_illegal_is_a_stop():
    def scene_of_one() -> Battle:
        return scene([(-1.5, 1.5), (1.0, 1.0), (0.0, 0.0)], [(0.25, 0.0), (0.9, 1.0), OUT], [8, 8, 0, 0, 8, 8])[0]

    env, other = scene_of_one(), scene_of_one()
    # Out of the square, an attack out of range, an attack by the dead; then a move by the dead, an attack on the dead.
    a, b = act(env, LEFT, ATTACK, ATTACK + 1), act(other, STOP, STOP, NO_OP)
    assert_same(a, b)
    a, b = act(env, NO_OP, ATTACK + 0, RIGHT), act(other, STOP, STOP, NO_OP)
    assert_same(a, b)
    assert health(env)[3:] == [0, 8, 8]


def test_an_agent_sees_itself_the_others_and_the_enemies_up_to_one_away():
    env, step = scene(
        [(0.0, 0.0), (0.6, 0.8), (-0.5, 0.25)], [(0.0, -1.0), (0.0, 1.01), (0.25, 0.5)], [8, 4, 0, 2, 8, 6]
    )
    first = [1, 0, 0, 0.5, 0.6, 0.8, 0, 0, 0, 0.25, 0, -1, 0, 0, 0, 0.75, 0.25, 0.5]
    assert step.obs[0, 0].tolist() == pytest.approx(first)
    second = [0.5, 0.6, 0.8, 1, -0.6, -0.8, 0, 0, 0, 0, 0, 0, 1, -0.6, 0.21, 0.75, -0.35, -0.3]
    assert step.obs[0, 1].tolist() == pytest.approx(second)
    assert step.obs[0, 2].isnan().all()  # it is dead
    assert step.active.tolist() == [[True, True, False]]
    assert step.is_first.tolist() == [[True, True, False]]
    assert not act(env, RIGHT, STOP, NO_OP).is_first.any()


def test_the_state_shows_everybody_alive_whoever_sees_them():
    _, step = scene([(0.0, 0.0), (0.5, 0.75)], [(-1.5, 1.5), (1.0, -1.0)], [8, 0, 4, 2])
    assert step.state is not None
    assert step.state[0].tolist() == [1, 0, 0, 0, 0, 0, 0.5, -1.5, 1.5, 0.25, 1, -1]
    assert not step.obs[0, 0, 6:].any()  # out of sight of the only agent


def test_damage_and_kills_pay_the_whole_team():
    # 5 for all the damage, of 16 points of two enemies: 5/16 a point; 5 for two kills; 10 for the victory.
    env, _ = scene([(0.0, 0.0), (0.0, 0.1), (-1.5, -1.5)], [(0.25, 0.0), (0.0, 1.5), OUT], [8, 8, 8, 3, 8, 8])
    step = act(env, ATTACK, ATTACK, STOP)
    assert step.reward.tolist() == [pytest.approx([5 * 2 / 24] * 3)]
    step = act(env, ATTACK, ATTACK, STOP)  # two attacks on the last point: one is in vain
    assert step.reward.tolist() == [pytest.approx([5 * 1 / 24 + 5 / 3] * 3)]
    assert not step.ended.any()
    assert not step.terminated.any()
    step = act(env, STOP, STOP, STOP)
    assert not step.reward.any()
    assert torch.equal(env.spec.team_reward(step.reward), torch.zeros(1))


def test_the_dead_are_paid_too_and_have_died_once():
    env, _ = scene([(0.0, 0.0), (0.5, 0.0), (-1.5, -1.5)], [(0.25, 0.0), OUT, OUT], [1, 8, 8, 8, 8, 8])
    step = act(env, STOP, ATTACK, STOP)
    assert step.terminated.tolist() == [[True, False, False]]
    assert step.active.tolist() == step.next_active.tolist() == [[False, True, True]]
    assert step.next_obs[0, 0].isnan().all()
    assert not step.ended.any()
    step = act(env, NO_OP, ATTACK, STOP)
    assert step.terminated.tolist() == [[False, False, False]]
    assert step.reward.tolist() == [pytest.approx([5 / 24] * 3)]
    assert health(env) == [0, 7, 8, 6, 8, 8]


def test_a_victory_ends_the_episode_by_itself():
    env, _ = scene([(0.0, 0.0), (0.0, 0.0), OUT], [(0.25, 0.0), OUT, OUT], [8, 8, 0, 1, 0, 0])
    step = act(env, ATTACK, STOP, NO_OP)
    assert step.reward.tolist() == [pytest.approx([5 / 24 + 5 / 3 + 10] * 3)]
    assert step.terminated.tolist() == [[True] * 3]
    assert step.ended.tolist() == [True]
    assert step.next_active.tolist() == [[True, True, False]]
    assert step.next_state is not None
    assert not step.next_state[0, 9:].any()
    # And another one begins.
    assert step.active.all()
    assert step.is_first.all()
    assert health(env) == [8] * 6
    assert step.obs.isfinite().all()
    assert int(env.state_dict()["clock"]) == 0


def test_a_defeat_ends_the_episode_by_itself_and_pays_nothing_more():
    env, _ = scene([(0.0, 0.0), OUT], [(0.25, 0.0), (0.0, 0.25)], [2, 0, 8, 8])
    step = act(env, ATTACK + 1, NO_OP)
    assert step.reward.tolist() == [[5 / 16] * 2]
    assert step.terminated.all()
    assert step.ended.all()
    assert not step.next_active.any()
    assert step.next_obs.isnan().all()
    assert step.active.all()


def test_who_falls_with_the_last_enemy_has_not_won():
    env, _ = scene([(0.0, 0.0), OUT], [(0.25, 0.0), OUT], [1, 0, 1, 0])
    step = act(env, ATTACK, NO_OP)
    assert step.reward.tolist() == [[5 / 16 + 5 / 2] * 2]
    assert step.terminated.all()
    assert step.ended.all()


def test_the_time_limit_is_a_truncation():
    env, _ = scene([(-1.5, -1.5), (-1.5, -1.0)], [(1.5, 1.5), (1.5, 1.0)], horizon=3)
    for t in range(1, 4):
        step = act(env, UP, RIGHT)
        assert step.ended.tolist() == [t == 3]
        assert not step.terminated.any()
        assert step.is_first.all() == (t == 3)
    assert step.next_obs[0, 0, :3].tolist() == [1, -1.5, -1.5 + 3 * 0.125]
    assert not torch.equal(step.next_obs, step.obs)
    assert step.next_state is not None
    assert not torch.equal(step.next_state, step.state)


def test_a_victory_at_the_time_limit_is_no_truncation():
    env, _ = scene([(0.0, 0.0)] * 2, [(0.25, 0.0), OUT], [8, 8, 1, 0], horizon=1)
    step = act(env, ATTACK, STOP)
    assert step.ended.all()
    assert step.terminated.all()


def play(env: Battle, policy: Any, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Of the first episode of each battle: the return, float64, and whether it was won."""
    step, going = env.reset(seed), torch.ones(env.num_envs, dtype=torch.bool)
    total, won = torch.zeros(env.num_envs, dtype=torch.float64), torch.zeros_like(going)
    for _ in range(env.horizon):
        action, _ = policy(step.obs, None, mask=step.mask, is_first=step.is_first, active=step.active)
        assert step.mask is not None
        assert step.mask.gather(-1, action).all()  # no policy here sends what is illegal
        seen = step.obs[step.active].numpy()
        assert all(space.low.min() <= seen.min() <= seen.max() <= space.high.max() for space in env.spec.obs_spaces)
        step = env.step(action)
        assert torch.equal(step.reward, step.reward[:, :1].expand(-1, env.num_agents))
        total += torch.where(going, step.reward[:, 0], 0.0)
        assert step.next_state is not None
        units = step.next_state.view(env.num_envs, 2, env.num_agents, 3)[..., 0].sum(-1)
        won |= going & step.ended & (units[:, 0] > 0) & (units[:, 1] == 0)
        going &= ~step.ended
    assert not going.any()
    return total, won


def test_a_won_game_brings_20_and_no_other_game_more_than_10():
    total, won = play(Battle(400), focus_fire)
    assert 300 < won.sum() < 400
    assert (total[won] == 20).all()
    assert total[~won].max() <= 10
    total, won = play(Battle(100, 3), focus_fire)
    torch.testing.assert_close(total[won], torch.full_like(total[won], 20), rtol=0, atol=1e-5)


def test_chance_loses_the_naive_rule_wins_half_and_who_fights_together_nearly_always():
    env = Battle(500)
    rates = [play(env, policy)[1].float().mean() for policy in (random_policy(env), attack_nearest, focus_fire)]
    assert rates[0] == 0
    assert 0.4 < rates[1] < 0.6
    assert rates[2] > 0.93


def test_the_enemies_play_what_attack_nearest_plays():
    """The mirror of a battle in which all are in sight: what the team does there, the enemies do here."""
    env = Battle(200)
    env.reset(0)
    state = env.state_dict()
    generator = torch.Generator().manual_seed(0)
    spots = torch.rand(200, 10, 2, generator=generator) * 0.7  # all within one of each other
    left = torch.randint(0, 9, (200, 10), generator=generator).float()
    left[:, [0, 5]] = 8.0
    mirrored = {"place": spots.roll(5, 1), "health": left.roll(5, 1)}
    step = env.load_state_dict(state | mirrored)
    mine = attack_nearest(step.obs)[0].squeeze(-1)
    env.load_state_dict(state | {"place": spots, "health": left})
    stop = torch.where(left[:, :5] > 0, STOP, NO_OP).unsqueeze(-1)
    env.step(stop)
    after = env.state_dict()
    moved, shots = after["place"][:, 5:] - spots[:, 5:], after["aim"][:, 5:]
    going = (after["clock"] == 1).unsqueeze(-1)  # a battle may have ended, and begun anew
    assert going.sum() > 150
    assert (torch.where(mine >= ATTACK, mine - ATTACK, -1) == shots)[going.expand_as(shots)].all()
    steps = torch.tensor([[0.0, 0.0]] * 2 + [[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]] + [[0.0, 0.0]] * 5)
    torch.testing.assert_close(torch.where(going.unsqueeze(-1), moved, 0.0), 0.125 * steps[mine] * going.unsqueeze(-1))


def rows(obs: Tensor, n: int) -> Tensor:
    """Observations as rows of three of every unit, the observer's own first: `(E, N, 2 N, 3)`."""
    return obs.reshape(*obs.shape[:2], 2 * n, 3)


def test_agents_and_enemies_may_change_places():
    """Whoever is called what: permuted teams see, do and get the same."""
    n, env, other = 4, Battle(50, 4), Battle(50, 4)
    env.reset(0)
    mine, theirs = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 3, 2, 0])
    whole = torch.cat([mine, n + theirs])
    state = env.state_dict()
    both = {k: state[k][:, whole] for k in ("place", "health", "aim")}
    a, b = env.load_state_dict(state), other.load_state_dict(state | both)
    generator = torch.Generator().manual_seed(1)
    others = torch.tensor([[j for j in range(n) if j != i] for i in range(n)])
    checked = 0
    for t in range(40):
        alive = [env.state_dict()["clock"] == t, other.state_dict()["clock"] == t]
        assert torch.equal(*alive)
        at = alive[0]  # battles in their first episode
        checked += int(at.sum())
        assert torch.equal(b.active[at], a.active[at][:, mine])
        seen, permuted = rows(a.obs, n)[at][:, mine].nan_to_num(-9), rows(b.obs, n)[at].nan_to_num(-9)
        assert torch.equal(permuted[:, :, 0], seen[:, :, 0])
        assert torch.equal(permuted[:, :, n:], seen[:, :, n:][:, :, theirs])
        for i in range(n):  # those whom b's agent i sees as its others are a's agents mine[...]
            column = [int((others[mine[i]] == mine[j]).nonzero()) for j in others[i]]
            assert torch.equal(permuted[:, i, 1:n], seen[:, i, 1:n][:, column])
        assert a.mask is not None
        assert b.mask is not None
        order = torch.cat([torch.arange(ATTACK), ATTACK + theirs])
        assert torch.equal(b.mask[at], a.mask[at][:, mine][..., order])
        assert a.state is not None
        assert b.state is not None
        assert torch.equal(b.state[at].view(-1, 2 * n, 3), a.state[at].view(-1, 2 * n, 3)[:, whole])
        if t:
            assert torch.equal(b.reward[at], a.reward[at])
        # Fight, mostly: what a's agent mine[i] does to enemy theirs[j], b's agent i does to enemy j.
        action = torch.where(
            torch.rand(50, n, 1, generator=generator) < 0.7,
            attack_nearest(a.obs)[0],
            RandomPolicy(env.spec, t, torch.device("cpu"))(a.obs, mask=a.mask, active=a.active)[0],
        )
        a = env.step(action)
        b = other.step(torch.cat([torch.arange(ATTACK), ATTACK + theirs.argsort()])[action[:, mine]])
    assert checked > 900


def assert_same(a: TimeStep, b: TimeStep) -> None:
    for name, x in vars(a).items():
        y = getattr(b, name)
        assert (x is None and y is None) or torch.equal(x.nan_to_num(-9), y.nan_to_num(-9)), name


def test_a_battle_starts_from_its_own_seed_whatever_the_batch():
    many, two, one = Battle(5), Battle(2), Battle(1)
    step = many.reset([7, 3, 99, 3, 2**31])
    assert torch.equal(step.obs[1], step.obs[3])
    assert not torch.equal(step.obs[0], step.obs[1])
    assert torch.equal(two.reset([2**31, 99]).obs, step.obs[[4, 2]])
    assert torch.equal(one.reset(7).obs[0], step.obs[0])
    assert torch.equal(many.reset(3).obs, many.reset([3, 4, 5, 6, 7]).obs)


def test_battles_of_a_batch_know_nothing_of_each_other():
    """The first episode of a battle is the same alone and among others."""
    many, seeds = Battle(8), [5, 6, 7, 8, 9, 10, 11, 12]
    games = [Battle(1) for _ in seeds]
    step, alone = many.reset(seeds), [game.reset(seed) for game, seed in zip(games, seeds, strict=True)]
    going = [True] * 8
    for _ in range(60):
        action = attack_nearest(step.obs)[0]
        for i in range(8):
            if going[i]:
                assert torch.equal(attack_nearest(alone[i].obs)[0][0], action[i])
                alone[i] = games[i].step(action[[i]])
        step = many.step(action)
        for i in range(8):
            if going[i]:
                for name in ("reward", "terminated", "ended", "next_obs", "next_state", "next_active"):
                    x, y = getattr(alone[i], name)[0], getattr(step, name)[i]
                    assert torch.equal(x.nan_to_num(-9), y.nan_to_num(-9)), name
                going[i] = not bool(step.ended[i])
    assert not any(going)


def test_battles_end_each_in_its_own_time():
    env = Battle(50)
    step, lengths, ends = env.reset(0), torch.zeros(50, dtype=torch.long), set()
    for _ in range(120):
        clock = env.state_dict()["clock"]
        assert torch.equal(clock, lengths)
        step = env.step(attack_nearest(step.obs)[0])
        assert torch.equal(step.is_first, step.ended.unsqueeze(-1).expand(-1, 5))
        ends |= set((lengths + 1)[step.ended].tolist())
        lengths = torch.where(step.ended, 0, lengths + 1)
        on = ~step.ended
        assert torch.equal(step.obs[on].nan_to_num(-9), step.next_obs[on].nan_to_num(-9))
        assert torch.equal(step.active[on], step.next_active[on])
    assert len(ends) > 8


def test_a_seed_fixes_the_episodes_that_follow_too():
    a, b = Battle(3), Battle(3)
    b.step(torch.ones(3, 5, 1, dtype=torch.long))
    x, y = a.reset(3), b.reset(3)
    assert_same(x, y)
    ended = 0
    for _ in range(100):
        action = attack_nearest(x.obs)[0]
        x, y = a.step(action), b.step(action)
        ended += int(x.ended.sum())
        assert_same(x, y)
    assert ended > 6


def test_without_a_seed_the_stream_goes_on():
    env = Battle(2)
    env.reset(3)
    obs = [env.reset().obs for _ in range(2)]
    assert not torch.equal(*obs)
    env.reset(3)
    assert torch.equal(env.reset().obs, obs[0])


@pytest.mark.parametrize("drawn", ["by numpy", "by torch"])
def test_the_team_starts_on_the_left_and_the_enemies_on_the_right(drawn: str):
    env = Battle(1000, horizon=1)
    env.reset(0)
    if drawn == "by torch":
        env.step(torch.ones(1000, 5, 1, dtype=torch.long))
    spots, left = env.state_dict()["place"], env.state_dict()["health"]
    assert (left == 8).all()
    x, y = spots.unbind(-1)
    assert -1.25 <= x[:, :5].min() < -1.24
    assert -0.76 < x[:, :5].max() <= -0.75
    assert 0.75 <= x[:, 5:].min() < 0.76
    assert 1.24 < x[:, 5:].max() <= 1.25
    assert -0.625 <= y.min() < -0.62
    assert 0.62 < y.max() <= 0.625
    assert abs(y.mean()) < 0.02
    assert abs(x.abs().mean() - 1) < 0.01


def test_saved_in_the_middle_it_goes_on_bit_for_bit():
    env, other = Battle(4), Battle(4)
    last = env.reset(0)
    for _ in range(16):
        last = env.step(attack_nearest(last.obs)[0])
    assert not last.active.all()  # somebody is dead already
    state = {name: x.clone() for name, x in env.state_dict().items()}
    present = other.load_state_dict(state)
    for name in ("obs", "state", "mask", "active", "is_first"):
        assert torch.equal(getattr(present, name).nan_to_num(-9), getattr(last, name).nan_to_num(-9)), name
    assert not present.reward.any()
    assert not present.terminated.any()
    assert np.array_equal(env.render(1), other.render(1))
    for _ in range(100):
        action = attack_nearest(last.obs)[0]
        last = env.step(action)
        assert_same(last, other.step(action))


def test_what_a_step_gave_is_not_overwritten_by_the_next():
    env = Battle(2)
    step = env.step(attack_nearest(env.reset(0).obs)[0])
    before = {name: x.clone() for name, x in vars(step).items()}
    state = {name: x.clone() for name, x in env.state_dict().items() if name != "generator"}
    kept = env.state_dict()
    last = step
    for _ in range(70):
        last = env.step(attack_nearest(last.obs)[0])
    for name, x in before.items():
        assert torch.equal(x.nan_to_num(-9), getattr(step, name).nan_to_num(-9)), name
    for name, x in state.items():
        assert torch.equal(x, kept[name]), name


def test_attack_nearest_shoots_else_walks_and_without_a_foe_goes_to_the_middle():
    _, step = scene(
        [(0.0, 0.0), (-0.5, 0.0), (-1.25, 0.25), (0.25, -1.5), (0.0, 0.0)],
        [(0.25, 0.25), (0.125, 0.0), (0.0, 0.0), OUT, OUT],
        [8, 8, 8, 8, 0, 8, 8, 0, 8, 8],
    )
    action, memory = attack_nearest(step.obs, "kept", mask=step.mask)
    # The nearest in range, though not the first; 0.625 away it walks; the others see nobody.
    assert action[0, :, 0].tolist() == [ATTACK + 1, RIGHT, RIGHT, UP, NO_OP]
    assert memory == "kept"


def test_focus_fire_gathers_and_attacks_one_enemy_together():
    # Nobody is near: to the middle of those in sight, and stay there.
    _, step = scene([(-1.0, 0.5), (-1.0, -0.5), (-1.0, 0.0)], [(1.0, 0.0), OUT, OUT])
    action, memory = focus_fire(step.obs, "kept", mask=step.mask)
    assert action[0, :, 0].tolist() == [DOWN, UP, STOP]
    assert memory == "kept"
    # Of two in everybody's range the weak one, though the other is a little nearer.
    team, foes = [(0.0, 0.1), (0.0, 0.0), (0.0, -0.1)], [(0.25, 0.0), (0.3, 0.0), OUT]
    _, step = scene(team, foes, [8, 8, 0, 8, 3, 8])
    assert focus_fire(step.obs)[0][0, :, 0].tolist() == [ATTACK + 1, ATTACK + 1, NO_OP]
    _, step = scene(team, foes, [8, 8, 0, 8, 8, 8])
    assert focus_fire(step.obs)[0][0, :, 0].tolist() == [ATTACK, ATTACK, NO_OP]
    # Agent 1 is in danger: agent 0 walks to that enemy, though nobody is near it, and no longer up to the middle.
    _, step = scene([(-0.5, 0.0), (-0.25, 0.5)], [(0.125, 0.5), OUT])
    assert focus_fire(step.obs)[0][0, :, 0].tolist() == [RIGHT, ATTACK]


def test_scripted_teams_act_on_their_own_observations_alone():
    env = Battle(50)
    step = env.reset(0)
    for _ in range(14):
        step = env.step(attack_nearest(step.obs)[0])
    for policy in (attack_nearest, focus_fire):
        action = policy(step.obs)[0]
        assert action.shape == (50, 5, 1)
        assert action.unique().numel() > 6
        for agent in range(5):
            shuffled = step.obs.flip(0)
            shuffled[:, agent] = step.obs[:, agent]
            assert torch.equal(policy(shuffled)[0][:, agent], action[:, agent])


def test_two_can_fight():
    for policy in (attack_nearest, focus_fire):
        total, won = play(Battle(100, 2), policy)
        assert won.any()
        assert (total[won] == 20).all()


@pytest.mark.parametrize("memory_size", [0, 8])
def test_a_learner_takes_it_as_it_is(memory_size: int):
    """Masks, deaths in the middle, what the dead observe, a state, and a team's reward."""
    config = Config(
        env=EnvConfig(num_envs=8),
        network=NetworkConfig(hidden=(16,), memory_size=memory_size),
        ppo=PPOConfig(rollout_length=40, epochs=2),
    )
    env = Battle(8)
    agent = MAPPO(env.spec, config, seed=0)
    collector = Collector(env, agent, 40, env.reset(0), torch.Generator().manual_seed(0))
    for _ in range(2):
        rollout, episodes = collector.collect()
        chosen = rollout.action[rollout.active]
        assert rollout.mask is not None
        assert rollout.mask[rollout.active].gather(-1, chosen).all()
        assert not rollout.active.all()
        assert episodes["episodes"] > 0
        numbers = agent.update(rollout)
        assert numbers["skipped_steps"] == 0
        assert all(number.isfinite() for number in numbers.values())


def count(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((abs(picture.astype(int) - color).max(-1) <= 8).sum())


def test_a_picture_shows_units_health_and_shots():
    blue, red = AGENT_COLORS[0], COLLISION
    spots = [(-1.0, 0.0), (-1.0, 1.0)], [(1.0, 0.0), (1.0, 1.0)]
    env, _ = scene(*spots)
    picture = env.render(0)
    assert (picture.shape, picture.dtype) == ((548, 480, 3), np.uint8)
    left, right = picture[:, :240], picture[:, 240:]
    assert count(left, blue) == pytest.approx(count(right, red), abs=20)
    assert count(left, blue) > 400
    assert count(left, red) == count(right, blue) == 0
    hurt = scene(*spots, [4, 8, 8, 0])[0].render(0)
    assert 0.6 < count(hurt[:, :240], blue) / count(left, blue) < 0.9  # one is half full
    assert 0.4 < count(hurt[:, 240:], red) / count(right, red) < 0.6  # one is dead
    env, _ = scene([(0.0, 0.0), (-1.0, 1.0)], [(0.0, 0.5), (1.0, 1.0)])
    calm = env.render(0)
    act(env, ATTACK, STOP)
    assert env.state_dict()["aim"].tolist() == [[2, -1, 0, -1]]  # unit 3 walks
    shot = env.render(0)
    way = (calm != shot).any(-1)[190:260, 230:250]  # between the two
    assert way.any(1).mean() > 0.5


def test_a_wrong_number_of_seeds_is_refused():
    with pytest.raises(ValueError, match="battle: 3 seeds for 2 environments"):
        Battle(2).reset([1, 2, 3])


@pytest.mark.parametrize("sizes", [(0, 5, 60), (2, 1, 60), (2, 5, 0)])
def test_there_must_be_somebody_to_fight(sizes: tuple[int, int, int]):
    with pytest.raises(UserError, match="battle needs at least one environment, two agents and one step"):
        Battle(*sizes)


def test_who_walks_out_of_range_is_still_hit():
    env, _ = scene([(0.0, 0.0), (-1.5, -1.5)], [(0.5, 0.0), OUT])
    act(env, LEFT, STOP)
    assert place(env)[0] == [-0.125, 0.0]
    assert health(env) == [7, 8, 8, 8]
