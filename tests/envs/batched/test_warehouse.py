"""Law 9: the batched warehouse follows rware step for step, with a rule of its own for ties."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import rware_original as original
from mappo import envs
from mappo.config.presets import twin_of
from mappo.core.protocols import Environment, Graphable, Renderable, Resumable
from mappo.envs.adapters import rware
from mappo.envs.batched import warehouse
from mappo.envs.batched.warehouse import Warehouse
from mappo.envs.batched.warehouse_layout import DOWN, FORWARD, LEFT, NOOP, RIGHT, TOGGLE, TURN_LEFT, TURN_RIGHT, UP
from mappo.envs.batched.warehouse_moves import contest, decide_moves
from mappo.envs.batched.warehouse_starts import sample_distinct
from mappo.errors import UserError
from mpe_original import assert_same, count_pixels

TINY = "rware-tiny-2ag-v2"
# Low shelves and many requests, so that random robots deliver.
CASES: list[tuple[str, int, dict[str, Any]]] = [
    (TINY, 120, {}),
    ("rware-1x3-1h-4ag-3req-twostage-v2", 240, {}),
    ("rware-2x3-1h-6ag-7req-global-v2", 150, {"msg_bits": 2}),
    ("rware-2s-1x3-1h-12ag-3req-indiv-v2", 80, {"normalised_coordinates": True}),
    ("rware-1x3-2h-4ag-7req-twostage-v2", 40, {"max_inactivity_steps": 30}),
    ("rware-tiny-3ag-v2", 30, {"max_steps": 25}),
]
# 20 names: sizes, robots, difficulties, sight, messages, rewards, limits.
LONG: list[tuple[str, dict[str, Any]]] = [
    *(
        (f"rware-{size}-{robots}ag{hard}-v2", {})
        for size, robots, hard in [
            ("tiny", 2, ""),
            ("tiny", 4, ""),
            ("tiny", 2, "-easy"),
            ("tiny", 4, "-hard"),
            ("tiny", 1, ""),
            ("tiny", 10, ""),
            ("small", 4, ""),
            ("small", 2, "-hard"),
            ("small", 6, "-easy"),
            ("medium", 4, ""),
            ("medium", 8, "-easy"),
            ("large", 4, ""),
            ("large", 19, "-hard"),
        ]
    ),
    ("rware-1x3-1h-4ag-3req-twostage-v2", {}),
    ("rware-1x3-2h-8ag-7req-twostage-v2", {"msg_bits": 3}),
    ("rware-2x3-1h-6ag-7req-global-v2", {"msg_bits": 1}),
    ("rware-2s-1x3-2h-5ag-7req-indiv-v2", {}),
    ("rware-5s-2x5-3h-7ag-12req-indiv-v2", {"normalised_coordinates": True}),
    ("rware-tiny-4ag-easy-v2", {"reward_type": "two_stage"}),
    ("rware-3x3-1h-19ag-9req-global-v2", {}),
]


def make(name: str = TINY, num_envs: int = 1, **options: Any) -> Warehouse:
    return warehouse.make(name, num_envs, "cpu", options)


@pytest.mark.parametrize(("name", "steps", "options"), CASES)
def test_an_episode_is_that_of_rware(name: str, steps: int, options: dict[str, Any]):
    paid = original.follow(name, range(5, 7), steps, 20, **options)
    assert paid > 0 or steps < 150


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), LONG)
def test_a_hundred_thousand_steps_are_those_of_rware(name: str, options: dict[str, Any]):
    for first in range(0, 200, 20):
        original.follow(name, range(first, first + 20), 500, **options)


@pytest.mark.parametrize("name", [TINY, "rware-small-6ag-easy-v2"])
def test_a_reset_from_a_seed_is_rwares(name: str):
    seeds = [*range(40), 2**31, 2**40]
    env = make(name, len(seeds))
    env.reset(seeds)
    package = original.package(name)
    for index, seed in enumerate(seeds):
        package.reset(seed=seed)
        assert original.state_of_twin(env, index) == original.state_of(package)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in LONG])
def test_resets_from_a_thousand_seeds_are_rwares(name: str):
    env = make(name, 1000)
    env.reset(range(1000))
    package = original.package(name)
    for seed in range(1000):
        package.reset(seed=seed)
        assert original.state_of_twin(env, seed) == original.state_of(package)


def test_the_package_scores_a_run_with_its_options_but_without_the_rule_for_ties():
    name = "warehouse/rware-small-4ag-v2"
    assert envs.original_name(name, "rware") == "rware/rware-small-4ag-v2"
    assert envs.translate_options(name, {"max_steps": 50, "ties": "package"}) == {"max_steps": 50}
    assert envs.translate_options("rware/rware-tiny-2ag-v2", {"max_steps": 50}) == {"max_steps": 50}
    assert twin_of("rware/rware-tiny-2ag-v2") == "warehouse/rware-tiny-2ag-v2"
    assert twin_of("rware/rware-img-tiny-2ag-v2") is None
    assert set(warehouse.names("warehouse")) == {n for n in rware.names("rware") if "img" not in n}
    env: Any = envs.make(name, 2, options={"max_steps": 50, "msg_bits": 1})
    assert (env.horizon, env.spec.heads, env.spec.num_agents) == (50, (5, 2), 4)


def test_spaces_and_rewards_are_rwares():
    for name, options in (("rware-tiny-3ag-v2", {}), ("rware-2s-1x3-2h-2ag-3req-global-v2", {"msg_bits": 2})):
        spec, package = make(name, **options).spec, rware.make(name, options)
        assert spec.agents == tuple(package.possible_agents)
        assert spec.shared_reward is package.shared_reward
        for agent, space, heads in zip(spec.agents, spec.obs_spaces, spec.action_heads, strict=True):
            assert space == package.observation_space(agent)
            assert heads == heads.from_space(package.action_space(agent))
    env: Any = make()
    for kind in (Environment, Renderable, Resumable):
        assert isinstance(env, kind)
    assert isinstance(env, Graphable)


def place(env: Warehouse, robots: list[tuple[int, int, int]]) -> None:
    """Put the robots on rows and columns, with directions."""
    y, x, direction = (np.array(column) for column in zip(*robots, strict=True))
    env.restore({"cell": torch.as_tensor(env.layout.number(y, x))[None], "direction": torch.as_tensor(direction)[None]})


def moved(robots: list[tuple[int, int, int]], actions: list[int] | None = None) -> list[bool]:
    """The robots that move, all of them forward by default."""
    env = make(f"rware-tiny-{len(robots)}ag-easy-v2")
    env.reset(0)
    place(env, robots)
    before = env.state_dict()["cell"]
    env.step(torch.tensor(actions or [FORWARD] * len(robots)).view(1, -1, 1))
    return (env.state_dict()["cell"] != before)[0].tolist()


def test_robots_move_as_in_a_warehouse():
    assert moved([(0, 0, RIGHT), (0, 2, RIGHT)]) == [True, True]
    assert moved([(0, 0, UP), (5, 9, RIGHT)]) == [False, False], "walls"
    assert moved([(0, 0, RIGHT), (0, 1, RIGHT), (0, 2, RIGHT)]) == [True, True, True], "a chain"
    assert moved([(0, 0, RIGHT), (0, 1, RIGHT)], [FORWARD, NOOP]) == [False, False], "behind a robot that stays"
    assert moved([(0, 0, RIGHT), (0, 1, LEFT)]) == [False, False], "no changing of places"
    others = [(5, 0, UP), (5, 9, DOWN)]
    stay = [FORWARD, FORWARD, NOOP, NOOP]
    assert moved([(0, 0, RIGHT), (0, 1, LEFT), *others], stay) == [False] * 4, "nor among four robots"
    assert moved([(0, 4, RIGHT), (0, 5, DOWN), (1, 5, LEFT), (1, 4, UP)]) == [True] * 4, "a ring"
    ring = [(0, 4, RIGHT), (0, 5, DOWN), (1, 5, LEFT), (1, 4, UP), (0, 3, RIGHT)]
    assert moved(ring) == [True, True, True, True, False], "behind a ring"


def test_the_longer_chain_wins_and_then_the_first_robot():
    assert moved([(0, 0, RIGHT), (0, 2, LEFT)]) == [True, False]
    assert moved([(0, 2, LEFT), (0, 0, RIGHT)]) == [True, False]
    assert moved([(0, 5, LEFT), (0, 3, RIGHT), (0, 2, RIGHT)]) == [False, True, True]
    three_against_two = [(0, 5, LEFT), (0, 6, LEFT), (0, 3, RIGHT), (0, 2, RIGHT), (0, 1, RIGHT)]
    assert moved(three_against_two) == [False, False, True, True, True]
    # Two equal chains meet behind a robot that moves.
    assert moved([(1, 3, UP), (1, 4, LEFT), (2, 3, UP)]) == [True, True, False]


def test_without_ties_the_rule_is_rwares_and_a_tie_is_seen():
    """The package decides for every environment, in place of the tied ones alone."""
    env: Any = make("rware-1x3-1h-9ag-3req-indiv-v2", 30, ties="package")
    env.reset(0)
    generator = torch.Generator().manual_seed(0)
    num_tied = num_different = 0
    for _ in range(12):
        action = original.random_actions(env, generator)
        tensors = {name: x.clone() for name, x in env.state_tensors().items()}
        cell, ahead = (
            x.t()
            for x in (tensors["cell"], env.layout.ahead[tensors["direction"] * len(env.layout.start) + tensors["cell"]])
        )
        wants = (action[..., 0].t() == FORWARD) & (cell != ahead)
        found = contest(cell, ahead, wants)
        free = decide_moves(found)
        for index, is_tied in enumerate(found.has_tie().tolist()):
            state = {name: x[index] for name, x in tensors.items()} | {"load": torch.zeros(9, dtype=torch.long)}
            asked = env._ask(state, wants[:, index])
            is_same = torch.equal(asked, free[:, index])
            assert is_same or is_tied
            num_different += not is_same
            num_tied += is_tied
        env.step(action)
    assert num_tied > num_different > 0


def test_requests_are_drawn_as_in_rware():
    env: Any = make(num_envs=3, ties="package")
    env.reset(0)
    shelves = env.state_dict()["shelves"]
    places = env.layout.shelf_cells[[0, 9]]
    shelves[:, places] = shelves[:, places.flip(0)]  # two shelves have changed places: the order is that of ids
    packages = [original.package(TINY) for _ in range(3)]
    for seed, package in enumerate(packages):
        package.reset(seed=seed)
        first, second = package.shelfs[0], package.shelfs[9]
        (first.x, first.y), (second.x, second.y) = (second.x, second.y), (first.x, first.y)
    after = {"shelves": shelves}
    for _ in range(6):
        chosen = env._draw_request(after, torch.ones(3, dtype=torch.int16)).flatten().numpy()
        for package, y, x in zip(packages, *env.layout.rows_and_columns(chosen), strict=True):
            shelf = package.np_random.choice([s for s in package.shelfs if s not in package.request_queue])
            assert (shelf.y, shelf.x) == (y, x)


def test_a_tie_may_end_otherwise_in_rware():
    """With the option a tie is decided as by the package, whose order of ties is another."""
    shares = []
    for ties in ("order", "package"):
        env = make("rware-tiny-10ag-v2", 200, ties=ties)
        env.reset(0)
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            env.step(original.random_actions(env, generator))
        shares.append(env.state_dict()["cell"])
    assert not torch.equal(*shares)


@pytest.mark.parametrize(
    ("kind", "at_the_goal", "in_its_place"),
    [("individual", (1, 0), (0, 0)), ("global", (1, 1), (0, 0)), ("two_stage", (0.5, 0), (0.5, 0))],
)
def test_a_delivery_pays_and_requests_another_shelf(kind: str, at_the_goal: Any, in_its_place: Any):
    """A robot takes a requested shelf to the goal, and back."""
    env = make("rware-1x3-1h-2ag-2req-indiv-v2", 400, reward_type=kind)
    env.reset(0)
    codes = env.layout.start.expand(400, -1).clone()
    codes[:, env.layout.shelf_cells[:2]] += 1  # the second in row 1, column 2, left of the way to the goals
    start = env.layout.number(np.array([1, 0]), np.array([2, 0]))
    robots = {"cell": torch.as_tensor(start), "direction": torch.tensor([RIGHT, UP])}
    env.restore({"shelves": codes, **{name: x.expand(400, -1) for name, x in robots.items()}})

    def act(number: int) -> Tensor:
        return env.step(torch.tensor([number, NOOP]).view(1, 2, 1).expand(400, -1, -1)).reward

    for number in (TOGGLE, FORWARD, FORWARD, TURN_RIGHT, FORWARD):
        assert not act(number).any()
    assert (act(FORWARD) == torch.tensor(at_the_goal)).all()
    assert not env.state_dict()["inactive"].any()
    requested = env.state_dict()["shelves"] & 1
    assert (requested.sum(1) == 2).all(), "as many requests as before"
    in_place = requested[:, env.layout.shelf_cells]
    assert in_place[:, 0].all(), "the other request stays"
    assert (in_place[:, 2:].sum(1) == 1).all(), "a shelf without a request, and not the shelf at the goal"
    assert abs(in_place[:, 2].float().mean() - 0.5) < 0.12
    for number in (TURN_RIGHT, TURN_RIGHT, FORWARD, FORWARD, TURN_LEFT, FORWARD, FORWARD):
        assert not act(number).any()
    assert (act(TOGGLE) == torch.tensor(in_its_place)).all()
    assert not env.state_dict()["load"].any()
    assert (env.state_dict()["deliveries"] == 1).all()


def test_new_episodes_begin_like_those_of_seeds():
    env = make("rware-1x3-1h-3ag-2req-indiv-v2", 4000, max_steps=1)
    env.reset(0)
    for state in (env.state_dict(), (env.step(torch.zeros(4000, 3, 1, dtype=torch.long)), env.state_dict())[1]):
        cells = (state["cell"].unsqueeze(-1) == env.layout.cells).float()
        assert (cells.sum(1).amax(-1) == 1).all(), "robots stand apart"
        assert abs(cells.mean(0) - 1 / 40).max() < 0.012
        assert abs((state["direction"].unsqueeze(-1) == torch.arange(4)).float().mean(0) - 0.25).max() < 0.035
        requests = (state["shelves"] & 1)[:, env.layout.shelf_cells]
        assert (requests.sum(1) == 2).all()
        assert abs(requests.float().mean(0) - 0.5).max() < 0.035
        assert not state["load"].any()


def test_distinct_numbers_come_in_every_order():
    samples = sample_distinct(torch.rand(60_000, 3, generator=torch.Generator().manual_seed(0)), 5)
    counts = (samples * torch.tensor([25, 5, 1])).sum(1).bincount(minlength=125)
    orders = [25 * a + 5 * b + c for a, b, c in itertools.permutations(range(5), 3)]
    assert counts[orders].sum() == 60_000
    assert ((counts[orders] - 1000.0) ** 2 / 1000).sum() < 110  # chi squared of 59 degrees: 1 in 20,000
    assert sample_distinct(torch.full((1, 4), 1 - 2**-24), 4).sort(1).values.tolist() == [[0, 1, 2, 3]]


def test_limits_truncate():
    env = make(num_envs=3, max_steps=4)
    env.reset(0)
    stay = torch.zeros(3, 2, 1, dtype=torch.long)
    steps = [env.step(stay) for _ in range(9)]
    assert [step.ended.tolist()[0] for step in steps] == [t % 4 == 0 for t in range(1, 10)]
    assert not any(step.terminated.any() for step in steps)
    assert steps[3].is_first.all()
    assert not torch.equal(steps[3].obs, steps[3].next_obs)
    env = make(num_envs=2, max_inactivity_steps=3)
    env.reset(0)
    assert [env.step(stay[:2]).ended.all().item() for _ in range(6)] == [False, False, True] * 2


@pytest.mark.parametrize("ties", ["order", "package"])
def test_saved_in_the_middle_of_an_episode_it_goes_on_bit_for_bit(ties: str):
    name = "rware-1x3-1h-6ag-3req-twostage-v2"
    env, other = (
        make(name, 20, ties=ties, max_steps=40, msg_bits=1),
        make(name, 20, ties=ties, max_steps=40, msg_bits=1),
    )
    env.reset(0)
    generator = torch.Generator().manual_seed(2)
    for _ in range(30):
        env.step(original.random_actions(env, generator))
    saved = {key: x.clone() for key, x in env.state_dict().items()}
    other.load_state_dict(saved)
    paid = 0.0
    for _ in range(60):
        action = original.random_actions(env, generator)
        step = env.step(action)
        assert_same(step, other.step(action))
        paid += float(step.reward.sum())
    assert paid > 0


def test_seeds_of_a_run_are_single_runs():
    """Also where their requests and new episodes are drawn."""
    options = {"max_steps": 30}
    name = "rware-1x3-1h-4ag-3req-indiv-v2"
    env = make(name, 30, **options)
    env.set_num_seeds(2)
    env.reset([*range(15), *range(100, 115)])
    env.restore({"clock": torch.tensor([10] * 15 + [0] * 15)})  # the episodes of the first seed end earlier
    alone = make(name, 15, **options)
    alone.reset(100)
    generator = torch.Generator().manual_seed(0)
    for _ in range(70):
        action = original.random_actions(env, generator)
        assert_same(env.step(action).slice_envs(slice(15, 30)), alone.step(action[15:]))


def test_the_state_stays_in_its_place():
    env: Any = make(num_envs=3, max_steps=5)
    addresses = {key: x.data_ptr() for key, x in env.state_tensors().items()}
    env.reset(0)
    steps = [env.step(torch.ones(3, 2, 1, dtype=torch.long)) for _ in range(12)]
    env.load_state_dict(env.state_dict())
    assert {key: x.data_ptr() for key, x in env.state_tensors().items()} == addresses
    assert not torch.equal(steps[0].obs, steps[1].obs), "a time step is not overwritten"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "rware-tiny-2ag-v1",
            {},
            "unknown environment 'warehouse/rware-tiny-2ag-v1'; did you mean 'warehouse/rware-tiny",
        ),
        ("rware-img-tiny-2ag-v2", {}, "images are observed in the package alone: use rware/rware-img-tiny-2ag-v2"),
        (
            TINY,
            {"layout": "."},
            "warehouse/rware-tiny-2ag-v2 has no option 'layout'; there are: column_height, shelf_rows",
        ),
        (
            TINY,
            {"reward_type": "team"},
            "warehouse: reward_type must be one of global, individual, two_stage, got 'team'",
        ),
        (TINY, {"max_steps": 0}, "warehouse: max_steps must be at least 1, got 0"),
        (TINY, {"msg_bits": 11}, "warehouse: msg_bits must be at most 10, got 11"),
        (TINY, {"shelf_columns": 2}, "warehouse: shelf_columns must be odd, got 2"),
        ("rware-tiny-1ag-hard-v2", {}, "warehouse: 0 requests and 1 robots in a warehouse of 32 shelves and 110 cells"),
        (TINY, {"n_agents": 111}, "2 requests and 111 robots"),
    ],
)
def test_what_is_wrong_is_told(name: str, options: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        make(name, **options)


def test_ties_of_the_package_need_a_cpu_and_the_package(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="ties=package asks rware, on a CPU"):
        warehouse.make(TINY, 1, "cuda", {"ties": "package"})
    monkeypatch.setitem(__import__("sys").modules, "rware.warehouse", None)
    with pytest.raises(UserError, match="rware is not installed"):
        make(ties="package")
    make()  # the twin needs no package


def test_a_wrong_number_of_seeds_is_refused():
    with pytest.raises(ValueError, match="warehouse: 3 seeds for 2 environments"):
        make(num_envs=2).reset([1, 2, 3])


def test_a_picture_shows_requests_loads_and_deliveries():
    from mappo.envs.batched.rendering import AGENT_COLORS, COVERED
    from mappo.envs.batched.warehouse_picture import REQUESTED, SHELF

    env = make("rware-tiny-3ag-v2")
    env.reset(0)
    picture = env.render(0)
    assert picture.dtype == np.uint8
    shelf = count_pixels(picture, SHELF) / 29
    assert count_pixels(picture, REQUESTED) == pytest.approx(3 * shelf, rel=0.15)
    assert all(count_pixels(picture, color) > 100 for color in (*AGENT_COLORS[:3], COVERED))
    env.restore({"shelves": env.layout.start.expand(1, -1)})
    assert count_pixels(env.render(0), REQUESTED) == 0
