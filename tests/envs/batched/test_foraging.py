"""Law 9: the batched foraging follows lbforaging step for step; its starts, pictures, options and errors."""

from dataclasses import fields
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from foraging_original import NAMES, Original, follow, twin_of
from mappo import envs
from mappo.core.protocols import Environment, Renderable, Resumable
from mappo.core.timestep import TimeStep
from mappo.envs.adapters import lbf
from mappo.envs.batched.foraging import EAST, LOAD, NONE, NORTH, SOUTH, WEST, Foraging
from mappo.envs.batched.foraging_rules import ForagingRules, registered_names
from mappo.envs.batched.foraging_starts import Starts
from mappo.envs.batched.rendering import AGENT_COLORS, COLLISION, COVERED
from mappo.envs.batched.tensor_game import TensorGame
from mappo.errors import UserError
from mpe_original import assert_same, count_pixels

Item = tuple[int, int, int]  # row, column, level
CPU = torch.device("cpu")
OPTIONS: dict[str, Any] = {
    "min_player_level": 2,
    "max_player_level": 4,
    "min_food_level": 2,
    "max_food_level": 9,
    "normalize_reward": False,
    "observe_agent_levels": False,
    "penalty": 0.25,
    "max_episode_steps": 17,
    "sight": 3,
}


@pytest.mark.parametrize("name", [NAMES[i] for i in (2, 3, 7, 8, 10)])
def test_steps_are_those_of_lbforaging(name: str):
    counts = follow(name, 5, 55)
    assert counts.ended >= 5
    assert counts.paid


def test_all_options_do_what_they_do_in_lbforaging():
    counts = follow("Foraging-7x7-5p-3f-v3", 6, 70, **OPTIONS)
    assert min(counts.paid, counts.fined, counts.terminated, counts.ended - counts.terminated) > 0
    assert follow("Foraging-5x5-6p-1f-v3", 4, 30, force_coop=True).paid


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_a_hundred_thousand_steps_are_those_of_lbforaging(name: str):
    counts = follow(name, 100, 1000)
    assert counts.steps == 100_000
    print(f"\n{name}: {counts}")


@pytest.mark.parametrize("name", ["Foraging-10x10-3p-3f-v3", "Foraging-2s-5x5-6p-4f-pen-v3"])
def test_a_reset_from_a_seed_is_lbforagings(name: str):
    seeds = [*range(25), 2**31, 12345678901]
    twin = twin_of(name, len(seeds), {})
    twin.reset(5)  # of earlier episodes nothing is left
    step = twin.reset(seeds)
    original = Original(name, seeds)
    assert step.mask is not None
    assert np.array_equal(step.obs.numpy(), original.obs)
    assert np.array_equal(step.mask.numpy(), original.mask)
    assert bool(step.is_first.all())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_resets_from_seeds_are_lbforagings(name: str):
    seeds = range(1000, 2000)
    assert np.array_equal(twin_of(name, len(seeds), {}).reset(seeds).obs.numpy(), Original(name, seeds).obs)


def scene(players: list[Item], food: list[Item], **options: Any) -> tuple[Foraging, TimeStep]:
    """A game of 6 x 6 with players and food (row, column, level) where the test wants them."""
    env = twin_of(f"Foraging-6x6-{len(players)}p-{len(food)}f-v3", 1, options)
    levels = torch.tensor([[level for *_, level in food]])
    state = {
        "cell": torch.tensor([[6 * y + x for y, x, _ in players]]),
        "level": torch.tensor([[level for *_, level in players]]),
        "food": torch.tensor([[6 * y + x for y, x, _ in food]]),
        "food_level": levels,
        "spawned": levels.sum(1, keepdim=True),
    }
    return env, env.load_state_dict(env.state_dict() | state)


def act(env: Foraging, *choices: int) -> TimeStep:
    return env.step(torch.tensor(choices).view(1, -1, 1))


def places(env: Foraging) -> list[tuple[int, int]]:
    return [divmod(cell, 6) for cell in env.state_dict()["cell"][0].tolist()]


def test_two_players_come_to_stand_in_one_cell():
    env, _ = scene([(0, 0, 1), (0, 2, 1), (1, 0, 1)], [(4, 4, 1)])
    act(env, EAST, WEST, NORTH)  # two head for (0, 1) and stay; the third enters the cell of the first
    assert places(env) == [(0, 0), (0, 2), (0, 0)]
    act(env, NONE, NONE, SOUTH)
    assert places(env) == [(0, 0), (0, 2), (1, 0)]


def test_players_change_places_but_enter_no_cell_of_a_player_that_stays():
    env, _ = scene([(0, 0, 1), (0, 1, 1)], [(4, 4, 1)])
    act(env, EAST, WEST)
    assert places(env) == [(0, 1), (0, 0)]
    act(env, NONE, EAST)
    assert places(env) == [(0, 1), (0, 0)]


def test_food_is_paid_by_level_to_those_who_load_it():
    players = [(1, 2, 2), (2, 1, 1), (4, 3, 2)]
    env, step = scene(players, [(2, 2, 3), (4, 4, 1)], penalty=0.1)
    assert step.mask is not None
    assert step.mask[0, 0].tolist() == [True, True, False, True, True, True]
    step = act(env, LOAD, NONE, NONE)  # 2 of 3 levels
    assert step.reward[0].tolist() == pytest.approx([-0.1, 0, 0])
    step = act(env, LOAD, LOAD, NONE)
    assert step.reward[0].tolist() == pytest.approx([2 * 3 / (3 * 4), 3 / (3 * 4), 0])
    assert step.next_obs[0, 0, :6].tolist() == [4, 4, 1, -1, -1, 0]
    assert not step.ended.any()
    step = act(env, NONE, NONE, LOAD)
    assert step.reward[0].tolist() == pytest.approx([0, 0, 1 / 4])  # of all food of the episode, not of the food left
    assert step.terminated.all()


def test_the_last_food_terminates_and_the_limit_truncates():
    env, _ = scene([(1, 2, 1), (0, 0, 1)], [(2, 2, 1)], max_episode_steps=2)
    assert (act(env, NONE, NONE).ended | act(env, NONE, NONE).terminated.all()).tolist() == [False]
    env, _ = scene([(1, 2, 1), (0, 0, 1)], [(2, 2, 1)], max_episode_steps=2)
    act(env, NONE, NONE)
    step = act(env, LOAD, NONE)  # both at once: terminated
    assert step.ended.all()
    assert step.terminated.all()
    assert step.is_first.all()
    assert step.next_obs[0, 0, :3].tolist() == [-1, -1, 0]


def test_it_says_what_it_is():
    env = twin_of("Foraging-8x8-3p-2f-v3", 4, {})
    step = env.reset(0)
    assert (env.spec.obs_shape, env.spec.heads, env.spec.state_shape) == ((15,), (6,), None)
    assert env.spec.agents == ("agent_0", "agent_1", "agent_2")
    assert not env.spec.shared_reward
    assert step.obs.dtype == torch.float32
    assert isinstance(env, Environment)
    assert isinstance(env, Renderable)
    assert isinstance(env, Resumable)
    assert env.horizon == 50


rules = st.builds(
    lambda size, players, food, low, more, coop, cap: ForagingRules(
        size, players, food, size, coop, cap, min_player_level=low, max_player_level=low + more
    ),
    st.integers(3, 9),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(0, 2),
    st.booleans(),
    st.none() | st.integers(1, 4),
)


@settings(max_examples=25, deadline=None)
@given(rules, st.integers(0, 1000))
def test_starts_keep_the_rules(rules: ForagingRules, seed: int):
    starts = Starts(rules, CPU)
    both = starts.sample(20, torch.Generator().manual_seed(seed)), starts.from_seeds(range(seed, seed + 10))
    for start in both:
        arrays = [start[name].numpy() for name in ("cell", "level", "food", "food_level")]
        for cell, level, food, food_level in zip(*arrays, strict=True):
            assert len(set(cell)) == rules.players
            assert ((level >= rules.min_player_level) & (level <= rules.max_player_level)).all()
            assert ((cell >= 0) & (cell < rules.size**2)).all()
            is_food = food < rules.size**2
            assert (is_food == (food_level > 0)).all()
            assert (np.diff(food) >= 0).all()
            places = np.array(np.divmod(food[is_food], rules.size))
            assert ((places >= 1) & (places <= rules.size - 2)).all()
            assert not set(cell) & set(food)
            away = abs(places[:, :, None] - places[:, None])
            apart = (away.max(0) >= 2) & ((away.sum(0) != 2) | (away.min(0) > 0)) | np.eye(len(places[0]), dtype=bool)
            assert apart.all()
            high = rules.max_food_level or np.sort(level)[:3].sum()
            low = high if rules.force_coop else 1
            assert ((food_level >= low) & (food_level <= high))[is_food].all()


def homogeneity(a: Tensor, b: Tensor) -> float:
    """Chi-square distance of two samples `(n,)` of categories, in standard deviations above its mean."""
    categories = torch.cat([a, b]).unique()
    counts = torch.stack([(x.unsqueeze(1) == categories).sum(0) for x in (a, b)]).double()
    expected = counts.sum(0) / 2
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    dof = len(categories) - 1
    return (chi2 - dof) / (2 * dof) ** 0.5


@pytest.mark.parametrize("coop", [False, True])
def test_starts_of_the_device_are_distributed_like_those_of_lbforaging(coop: bool):
    rules = ForagingRules(5, 3, 2, 5, coop)
    starts = Starts(rules, CPU)
    ours, theirs = starts.sample(1500, torch.Generator().manual_seed(0)), starts.from_seeds(range(1500))

    def code(start: dict[str, Tensor], *names: str) -> Tensor:
        digits = torch.stack([start[name][:, k] for name in names for k in range(2)], 1)
        return digits @ 30 ** torch.arange(digits.shape[1])

    for names in [("cell",), ("food",), ("level", "food_level")]:
        assert homogeneity(code(ours, *names), code(theirs, *names)) < 4, names
    together = [torch.stack([s["cell"][:, 2], s["food"][:, 0]]).T @ torch.tensor([1, 30]) for s in (ours, theirs)]
    assert homogeneity(*together) < 4


def test_a_field_without_room_for_food_begins_without():
    starts = Starts(ForagingRules(3, 8, 1, 3), CPU).sample(50, torch.Generator().manual_seed(0))
    free = (starts["cell"] != 4).all(1)  # the only cell off the edge
    assert torch.equal(starts["food"].squeeze(1), torch.where(free, 4, 9))
    assert torch.equal(starts["food_level"].squeeze(1) > 0, free)


def random_step(env: Foraging, generator: torch.Generator) -> TimeStep:
    return env.step(torch.randint(0, 6, (env.num_envs, env.spec.num_agents, 1), generator=generator))


def test_episodes_begin_in_the_games_that_ended_and_nowhere_else():
    env = twin_of("Foraging-5x5-2p-1f-v3", 40, {"max_episode_steps": 9})
    env.reset(0)
    generator = torch.Generator().manual_seed(1)
    for _ in range(60):
        step = random_step(env, generator)
        assert torch.equal(step.is_first[:, 0], step.ended)
        assert torch.equal(step.obs[~step.ended], step.next_obs[~step.ended])
    assert len(env.state_dict()["clock"].unique()) > 1


def test_the_games_of_a_graph_begin_by_the_same_rule_as_those_of_a_cpu():
    env = twin_of("Foraging-5x5-3p-2f-v3", 2000, {})
    env.reset()
    after = {name: x.clone() for name, x in env.state_tensors().items()}
    ended = torch.arange(2000) % 2 == 0
    whole = TensorGame._restart(env, after, ended)
    some = env._restart(after, ended)
    assert whole.keys() == some.keys()
    for name, x in whole.items():
        assert torch.equal(x[~ended], after[name][~ended])
        assert torch.equal(some[name][~ended], after[name][~ended])
        columns = x[ended].view(1000, -1)
        for ours, theirs in zip(columns.T, some[name][ended].view(1000, -1).T, strict=True):
            assert len(ours.unique()) == 1 or homogeneity(ours, theirs) < 5, name


def test_the_games_of_a_seed_do_not_depend_on_the_other_seeds():
    name = "Foraging-5x5-2p-1f-v3"
    both = twin_of(name, 8, {})
    both.set_num_seeds(2)
    alone = [twin_of(name, 4, {}) for _ in range(2)]
    seeds = [*range(10, 14), *range(90, 94)]
    both.reset(seeds)
    for env, mine in zip(alone, (seeds[:4], seeds[4:]), strict=True):
        env.reset(mine)
    generator = torch.Generator().manual_seed(2)
    ends = 0
    for _ in range(120):
        action = torch.randint(0, 6, (8, 2, 1), generator=generator)
        step = both.step(action)
        ends += int(step.ended.sum())
        for k, env in enumerate(alone):
            assert_same(env.step(action[4 * k : 4 * k + 4]), step.slice_envs(slice(4 * k, 4 * k + 4)))
    assert ends > 8


def test_a_saved_state_continues_as_it_would_have():
    env = twin_of("Foraging-2s-5x5-3p-2f-v3", 6, {})
    env.reset(3)
    generator = torch.Generator().manual_seed(4)
    for _ in range(30):
        random_step(env, generator)
    saved = env.state_dict()
    other = twin_of("Foraging-2s-5x5-3p-2f-v3", 6, {})
    assert_same(other.load_state_dict(saved), env.current_step())
    for _ in range(60):
        action = torch.randint(0, 6, (6, 3, 1), generator=generator)
        assert_same(other.step(action), env.step(action))


def test_a_picture_shows_players_food_and_pay():
    env, _ = scene([(1, 2, 1), (0, 0, 2), (0, 0, 1)], [(2, 2, 1), (4, 4, 2)], penalty=0.1)
    before = env.render(0)
    assert before.shape == (548, 480, 3)
    assert all(count_pixels(before, color) > 100 for color in AGENT_COLORS[:3])
    red, green = count_pixels(before, COLLISION), count_pixels(before, COVERED)
    act(env, LOAD, NONE, NONE)
    after = env.render(0)
    assert count_pixels(after, COVERED) > green
    env.load_state_dict(env.state_dict() | {"pay": torch.tensor([[-0.1, 0.0, 0.0]])})
    assert count_pixels(env.render(0), COLLISION) > red


def test_the_names_are_those_that_lbforaging_registers():
    assert set(registered_names()) == set(lbf.names("lbf"))
    for name in registered_names()[::97]:
        theirs: Any = gymnasium.spec(name).kwargs
        rules = twin_of(name, 1, {}).rules
        size = theirs.pop("field_size")
        assert size == (rules.size, rules.size)
        known = {field.name for field in fields(rules)}
        assert {k: v for k, v in theirs.items() if k in known} == {k: getattr(rules, k) for k in known & theirs.keys()}
        assert theirs.keys() - known == {"grid_observation"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Foraging-8x9-2p-1f-v3", {}, "unknown environment 'foraging/Foraging-8x9-2p-1f-v3'; did you mean 'foraging/"),
        ("Foraging-grid-8x8-2p-1f-v3", {}, "use a name without -grid"),
        ("Foraging-8x8-2p-1f-v3", {"players": 3}, "has no option 'players'; there are: sight, force_coop"),
        ("Foraging-8x8-2p-1f-v3", {"penalty": -1}, "foraging: penalty must be at least 0, got -1"),
        ("Foraging-8x8-2p-1f-v3", {"sight": "far"}, "foraging: sight must be of type int, got 'far'"),
        ("Foraging-8x8-2p-1f-v3", {"min_player_level": 3}, "min_player_level 3 exceeds 2"),
        ("Foraging-8x8-2p-1f-v3", {"min_food_level": 3}, "min_food_level 3 exceeds 2, the highest level"),
        ("Foraging-3x3-9p-1f-v3", {}, "9 players and food, which lies off the edge, do not fit in 3 x 3"),
        ("Foraging-2x2-1p-1f-v3", {}, "foraging: size must be at least 3, got 2"),
    ],
)
def test_wrong_names_and_options_are_told(name: str, options: dict[str, Any], message: str):
    with pytest.raises(UserError) as told:
        envs.make(f"foraging/{name}", 2, options=options)
    assert message in str(told.value)


def test_invalid_numbers_of_games_and_of_agents_are_refused():
    with pytest.raises(UserError, match="at least one environment"):
        envs.make("foraging/Foraging-8x8-2p-1f-v3", 0)
    with pytest.raises(UserError, match=r"the number of agents of foraging/.* is fixed"):
        envs.make("foraging/Foraging-8x8-2p-1f-v3", 1, num_agents=3)
