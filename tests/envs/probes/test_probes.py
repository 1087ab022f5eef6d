"""The probes themselves, without a learner: scripted policies get exactly the returns that are documented."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mappo import envs
from mappo.core.protocols import Environment, Resumable
from mappo.core.spec import Spec
from mappo.core.timestep import TimeStep
from mappo.envs.batched.matrix import CLIMBING, MatrixGame, climbing, penalty
from mappo.envs.batched.tensor_game import TensorGame
from mappo.envs.probes.basic import Constant, Image, Mask, Memory, MultiDiscrete, Roles, Signal, Unequal
from mappo.envs.probes.continuous import Mixed, Target
from mappo.envs.probes.lives import Arrival, Combined, Death, Respawn
from mappo.errors import UserError

Policy = Callable[[TimeStep], Tensor]
NAMES = [name for name in envs.NATIVE if name.startswith(("probe/", "matrix/"))]
E = 400
ALL = [
    *(Constant, Signal, Memory, Mask, Unequal, MultiDiscrete, Image, Roles),
    *(Death, Respawn, Arrival, Combined, Target, Mixed, climbing, penalty),
]


class Random:
    """Any legal choices, and any numbers within the bounds."""

    def __init__(self, spec: Spec, seed: int = 0) -> None:
        self.spec, self.generator = spec, torch.Generator().manual_seed(seed)

    def __call__(self, step: TimeStep) -> Tensor:
        spec, lead = self.spec, step.active.shape
        legal = spec.static_mask_tensor.expand(*lead, -1) if step.mask is None else step.mask & spec.static_mask_tensor
        legal = legal | ~step.active.unsqueeze(-1)
        parts = [part.float().flatten(0, 1) for part in legal.split(spec.heads, -1)]
        chosen = [torch.multinomial(part, 1, generator=self.generator).view(*lead, 1) for part in parts]
        action = torch.cat([*chosen, torch.zeros(*lead, spec.continuous)], -1)
        for i, heads in enumerate(spec.action_heads):
            if heads.continuous:
                low, high = torch.tensor(heads.low), torch.tensor(heads.high)
                drawn = torch.rand(lead[0], heads.continuous, generator=self.generator)
                action[:, i, spec.action_columns(i)[-heads.continuous :]] = low + drawn * (high - low)
        return action.to(spec.action_dtype)


class Recall:
    """Names what `see` reads when a life begins, by `name`, until the next life; `see` and `name` give `(E, A)`."""

    def __init__(self, see: Policy, name: Callable[[TimeStep, Tensor], Tensor] = lambda _, seen: seen) -> None:
        self.see, self.name, self.memory = see, name, torch.tensor(0)

    def __call__(self, step: TimeStep) -> Tensor:
        self.memory = torch.where(step.is_first, self.see(step), self.memory)
        return self.name(step, self.memory).unsqueeze(-1)


def shown(step: TimeStep) -> Tensor:
    """The number of each agent's one-hot; 0 where there is none."""
    return step.obs.nan_to_num(0).argmax(-1)


def always(action: int) -> Policy:
    return lambda step: torch.full((*step.active.shape, 1), action)


def fields(step: TimeStep) -> dict[str, Tensor]:
    every = {f.name: getattr(step, f.name) for f in dataclasses.fields(step)}
    return {name: value for name, value in every.items() if value is not None}


def same(a: TimeStep, b: TimeStep) -> bool:
    a_fields, b_fields = fields(a), fields(b)
    return a_fields.keys() == b_fields.keys() and all(
        torch.equal(torch.isnan(v), torch.isnan(b_fields[k])) and torch.equal(v.nan_to_num(), b_fields[k].nan_to_num())
        if v.is_floating_point()
        else torch.equal(v, b_fields[k])
        for k, v in a_fields.items()
    )


def play(env: Environment, policy: Policy, steps: int, seed: int | None = 0) -> list[TimeStep]:
    told = [env.reset(seed)]
    for _ in range(steps):
        told.append(env.step(policy(told[-1])))
    return told


def returns(env: Any, policy: Policy, seed: int = 0) -> Tensor:
    """Of each environment's first episode: `(E, A)`."""
    total, going = torch.zeros(env.num_envs, env.spec.num_agents), torch.ones(env.num_envs, 1, dtype=torch.bool)
    step = env.reset(seed)
    while going.any():
        step = env.step(policy(step))
        total += step.reward * going
        going &= ~step.ended.unsqueeze(-1)
    return total


def exactly(env: Any, policy: Policy, *expected: float) -> None:
    """Each agent's return, the same in all games."""
    got = returns(env, policy)
    assert torch.allclose(got, torch.tensor(expected).float().expand_as(got), atol=1e-5), got.mean(0)


def on_average(env: Any, policy: Policy, *expected: float) -> None:
    """Each agent's return, within five standard errors of the mean."""
    got = returns(env, policy)
    error = got.std(0) / env.num_envs**0.5
    assert ((got.mean(0) - torch.tensor(expected)).abs() <= 5 * error + 1e-6).all(), (got.mean(0), error)


@pytest.mark.parametrize("make", ALL)
def test_a_probe_keeps_the_contract(make: Any):
    env = make(7)
    spec: Spec = env.spec
    assert isinstance(env, Environment)
    assert isinstance(env, Resumable)
    steps = play(env, Random(spec), 60)
    start = steps[0]
    assert not start.reward.any()
    assert not start.terminated.any()
    assert not start.ended.any()
    for now in steps:
        for obs, active in ((now.obs, now.active), (now.next_obs, now.next_active)):
            assert obs.shape == (7, spec.num_agents, *spec.obs_shape)
            assert obs.dtype == spec.obs_dtype
            assert obs[active].isfinite().all()
            if obs.is_floating_point():
                assert obs[~active].isnan().all()
            for i in range(spec.num_agents):
                if len(spec.obs_shape) == 1:
                    assert not obs[active[:, i], i, spec.obs_size(i) :].any(), "padding is zeros"
        for state in (now.state, now.next_state):
            assert (state is None) == (spec.state_shape is None)
            assert state is None or state.shape == (7, *(spec.state_shape or ()))
        if now.mask is not None:
            assert now.mask.shape == (7, spec.num_agents, sum(spec.heads))
            assert not (now.mask & ~spec.static_mask_tensor).any()
            assert now.mask[now.active].any(-1).all()
        for flag in (now.active, now.is_first, now.terminated, now.next_active):
            assert flag.shape == (7, spec.num_agents)
            assert flag.dtype == torch.bool
        assert now.ended.shape == (7,)
        assert now.reward.shape == (7, spec.num_agents)
        assert now.reward.dtype == torch.float32
        assert not spec.shared_reward or (now.reward == now.reward[:, :1]).all()
        assert not (now.is_first & ~now.active).any()
    for before, now in itertools.pairwise(steps):
        over = now.ended.unsqueeze(-1)
        assert not now.reward[~before.active].any()
        assert not (now.terminated & ~before.active & ~now.terminated.all(-1, keepdim=True)).any()
        assert (now.is_first == now.active)[now.ended].all()
        assert ((now.active == now.next_active) | over).all()
        # A life begins where nobody was, and only there; it ends by itself where nobody is left.
        assert (now.is_first == (now.active & (~before.active | over))).all()
        assert (now.terminated == (now.terminated.all(-1, keepdim=True) | (before.active & ~now.next_active))).all()
        kept = ~now.ended
        assert torch.equal(now.next_obs[kept].nan_to_num(), now.obs[kept].nan_to_num())
    assert sum(int(s.ended.sum()) for s in steps) >= 7 * 3


@pytest.mark.parametrize("make", ALL)
def test_the_same_seed_is_the_same_game(make: Any):
    one, other, third = (play(make(5), Random(make(1).spec), 30, seed) for seed in (3, 3, 4))
    assert all(same(a, b) for a, b in zip(one, other, strict=True))
    if make not in (Constant, Roles, Death, Respawn, climbing, penalty):  # these draw nothing
        assert not all(same(a, b) for a, b in zip(one, third, strict=True))


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("steps", [0, 4, 13])
def test_a_saved_game_goes_on_bit_for_bit(make: Any, steps: int):
    env = make(5)
    last = play(env, Random(env.spec), steps)[-1]
    saved = {k: v.clone() for k, v in env.state_dict().items()}
    following = [env.step(Random(env.spec, t)(last)) for t in range(25)]
    again = make(5)
    present = again.load_state_dict(saved)
    assert torch.equal(present.obs.nan_to_num(), last.obs.nan_to_num())
    assert torch.equal(present.is_first, last.is_first)
    assert torch.equal(present.active, last.active)
    assert not present.reward.any()
    assert not present.ended.any()
    for t, step in enumerate(following):
        assert same(again.step(Random(env.spec, t)(last)), step)


class Operations(TorchDispatchMode):
    """The names of all that torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("make", ALL)
def test_a_step_never_waits_for_the_device(make: Any):
    env = make(5)
    action = Random(env.spec)(env.reset(0))
    with Operations() as asked:
        for _ in range(14):
            env.step(action)
    assert "aten::where.self" in asked.names
    # To read a number, to count what is true, to carry numbers over: each would wait.
    waits = ("_local_scalar_dense", "nonzero", "lift_fresh", "masked_select")
    assert not {name for name in asked.names if any(w in name for w in waits)}


@pytest.mark.parametrize("make", ALL)
def test_what_was_given_is_not_changed_later(make: Any):
    env = make(5)
    steps = play(env, Random(env.spec), 5)
    copies = [{k: v.clone() for k, v in fields(step).items()} for step in steps]
    play(env, Random(env.spec), 15, seed=None)
    for step, copy in zip(steps, copies, strict=True):
        assert same(step, TimeStep(**{"state": None, "mask": None, "next_state": None, **copy}))


def test_a_constant_reward_ends_by_a_time_limit_alone():
    exactly(Constant(E), Random(Constant(1).spec), 10, 10)
    assert not any(step.terminated.any() for step in play(Constant(E), always(0), 25))


def test_each_agent_names_the_number_it_sees():
    exactly(Signal(E), lambda step: shown(step).unsqueeze(-1), 10, 10)
    exactly(Signal(E), lambda step: shown(step).unsqueeze(-1) + 1, 0, 0)
    on_average(Signal(E), always(2), 2.5, 2.5)


def test_memory_is_paid_at_the_end_for_the_first_observation():
    exactly(Memory(E), Recall(shown), 1, 1)
    on_average(Memory(E), lambda step: shown(step).unsqueeze(-1), 0.25, 0.25)
    steps = play(Memory(E), Recall(shown), 10)
    assert [int(step.obs.sum()) for step in steps] == [2 * E, 0, 0, 0, 0] * 2 + [2 * E]
    assert [float(step.reward.mean()) for step in steps] == [0, *[0, 0, 0, 0, 1] * 2]


def preferred(step: TimeStep, number: Tensor) -> Tensor:
    """The number, or where it is illegal the next one, of as many as each agent's head has."""
    assert step.mask is not None
    sizes = torch.tensor([3, 4, 5]) if step.mask.shape[-1] == 5 else torch.tensor(4)
    legal = step.mask.gather(-1, number.unsqueeze(-1)).squeeze(-1)
    return torch.where(legal, number, (number + 1) % sizes)


def test_the_mask_tells_what_is_right():
    exactly(Mask(E), lambda step: preferred(step, shown(step)).unsqueeze(-1), 10, 10)
    on_average(Mask(E), lambda step: shown(step).unsqueeze(-1), 5, 5)
    on_average(Mask(E), lambda step: (shown(step).unsqueeze(-1) + 1) % 4, 5, 5)
    on_average(Mask(E), Random(Mask(1).spec), 10 / 3, 10 / 3)
    for step in play(Mask(E), always(0), 12):
        assert step.mask is not None
        assert (step.mask.sum(-1) == 3).all()


def test_unequal_agents_answer_the_same_sight_differently():
    env = Unequal(E)
    assert env.spec.groups == (0, 1)
    assert Unequal(1, groups=(0, 0)).spec.groups == (0, 0)
    assert [env.spec.obs_size(i) for i in range(2)] == [3, 5]
    exactly(env, lambda step: (shown(step) + torch.tensor([0, 1])).unsqueeze(-1) % 3, 10, 10)
    exactly(env, lambda step: shown(step).unsqueeze(-1), 5, 5)
    exactly(env, lambda step: (shown(step).unsqueeze(-1) + 1) % 3, 5, 5)
    on_average(env, Random(env.spec), 10 * 7 / 24, 10 * 7 / 24)


def test_two_heads_name_two_numbers():
    env = MultiDiscrete(E)
    assert env.spec.heads == (3, 4)

    def named(step: TimeStep) -> Tensor:
        return torch.stack([part.argmax(-1) for part in step.obs.split((3, 4), -1)], -1)

    exactly(env, named, 10, 10)
    on_average(env, lambda step: named(step) * torch.tensor([1, 0]), 6.25, 6.25)
    on_average(env, lambda step: named(step) * torch.tensor([0, 1]), 5 + 10 / 6, 5 + 10 / 6)
    on_average(env, Random(env.spec), 10 * 7 / 24, 10 * 7 / 24)


def test_the_bright_quadrant_is_named():
    env = Image(E)

    def brightest(step: TimeStep) -> Tensor:
        quadrants = step.obs.view(E, 2, 2, 4, 2, 4).amax((3, 5))
        return quadrants.flatten(2).argmax(-1, keepdim=True)

    exactly(env, brightest, 10, 10)
    on_average(env, always(0), 2.5, 2.5)
    obs = env.reset(0).obs
    assert ((obs == 255).sum((2, 3, 4)) == 4).all()
    assert obs[obs < 255].max() == 63
    assert obs[..., 0].amax((0, 1)).min() == 255, "the block is seen everywhere"


def test_each_role_has_its_own_reward():
    exactly(Roles(E), Random(Roles(1).spec), 0, 10, 20)
    steps = play(Roles(3), always(0), 20)
    assert all((step.obs == 1).all() and bool((step.state == 1).all()) for step in steps)  # type: ignore[union-attr]


def test_to_jump_is_to_die():
    exactly(Death(E), always(0), 10, 10)
    exactly(Death(E), always(1), 3, 3)
    on_average(Death(10 * E), Random(Death(1).spec), 4 - 4 / 2**10, 4 - 4 / 2**10)
    exactly(Death(E), lambda step: torch.tensor([0, 1]).view(1, 2, 1).expand(E, -1, -1), 10, 3)


def test_an_episode_ends_by_itself_when_nobody_is_left_and_only_there():
    env = Death(3)
    env.reset(0)
    step = env.step(torch.tensor([[[1], [1]], [[1], [0]], [[0], [0]]]))
    assert step.terminated.tolist() == [[True, True], [True, False], [False, False]]
    assert step.ended.tolist() == [True, False, False]
    assert step.next_active.tolist() == [[False, False], [False, True], [True, True]]
    assert step.active.tolist() == [[True, True], [False, True], [True, True]]
    assert step.is_first.tolist() == [[True, True], [False, False], [False, False]]
    for _ in range(8):
        step = env.step(torch.tensor([[[0], [0]], [[1], [0]], [[0], [0]]]))
        assert not step.ended.any()
        assert not step.terminated.any()
        assert step.reward.tolist() == [[1, 1], [0, 1], [1, 1]]
    # The first game began a step later.
    step = env.step(torch.tensor([[[0], [0]], [[1], [0]], [[0], [0]]]))
    assert step.ended.tolist() == [False, True, True]
    assert not step.terminated.any()


def test_what_a_life_sacrifices_the_next_one_gets():
    exactly(Respawn(E), always(1), 9, 9)
    exactly(Respawn(E), always(0), 3, 3)
    on_average(Respawn(10 * E), Random(Respawn(1).spec), 6, 6)
    steps = play(Respawn(1), always(1), 12)
    alive = torch.stack([step.active[0] for step in steps]).T.int().tolist()
    assert alive == [[1, 1, 1, 0] * 3 + [1], [1, 1, 0, 1] * 3 + [1]]
    for agent in range(2):
        paid = [t for t, step in enumerate(steps) if step.reward[0, agent]]
        told = [t for t, step in enumerate(steps) if step.obs[0, agent, 3] == 1]
        died = [t for t, step in enumerate(steps) if step.terminated[0, agent]]
        assert died == [3 - agent, 7 - agent, 11 - agent]
        assert told == [t + 1 for t in died if t < 12]
        assert paid == [t + 1 for t in told if t < 12]
    for step in play(Respawn(1), always(0), 12):
        assert not (step.obs[..., 3] == 1).any()


def test_a_sacrifice_is_right_for_the_team_alone():
    """By the returns that a learner maximises, in all 12 steps and of both agents."""
    best = {reward: max((value(reward, action), action) for action in (0, 1)) for reward in ("team", "agent")}
    assert best["team"][1] == 1
    assert best["agent"][1] == 0


def value(reward: str, action: int, gamma: float = 0.9) -> float:
    """Discounted, of the team from agent_0's first last step on; or of its life from there."""
    steps = play(Respawn(1), always(action), 12)[3:]
    if reward == "agent":
        return float(steps[0].reward[0, 0])
    return sum(gamma**t * float(step.reward.sum()) for t, step in enumerate(steps))


def test_who_arrives_late_remembers_what_it_saw_first():
    def named(step: TimeStep, seen: Tensor) -> Tensor:
        return torch.where(torch.tensor([True, False]), shown(step), seen)

    exactly(Arrival(E), Recall(shown, named), 8, 1)
    on_average(Arrival(E), lambda step: shown(step).unsqueeze(-1), 8, 0.25)
    on_average(Arrival(E), Random(Arrival(1).spec), 2, 0.25)
    steps = play(Arrival(1), Recall(shown, named), 8)
    assert [bool(step.active[0, 1]) for step in steps] == [t in range(3, 8) for t in range(9)]
    assert [bool(step.is_first[0, 1]) for step in steps] == [t == 3 for t in range(9)]
    assert [float(step.obs[0, 1].sum()) for step in steps[3:8]] == [1, 0, 0, 0, 0]
    assert [bool(step.terminated.all()) for step in steps] == [t == 8 for t in range(9)]


def test_a_point_is_answered_by_a_point():
    env = Target(E)
    exactly(env, lambda step: step.obs + torch.tensor([3.5, -2.5]), 0, 0)
    middle, fixed = torch.tensor([3.0, -2.0]), torch.tensor([3.5, -2.5])
    on_average(env, lambda step: middle.expand_as(step.obs), *[-10 * (1 / 12 + 1 / 16)] * 2)
    on_average(env, lambda step: fixed.expand_as(step.obs), *[-10 / 12] * 2)
    on_average(env, Random(env.spec), *[-10 * (1 / 3 + 1 / 12 + 1 / 16)] * 2)
    answers = torch.cat([step.obs + fixed for step in play(env, Random(env.spec), 10)]).flatten(0, 1)
    assert (answers.amin(0) > torch.tensor([1.5, -3.6])).all()
    assert (answers.amax(0) < torch.tensor([4.6, -1.4])).all()


def test_one_agent_chooses_and_the_other_answers_by_a_number():
    env = Mixed(E)
    assert (env.spec.heads, env.spec.continuous, env.spec.action_dtype) == ((4,), 1, torch.float32)

    def answer(step: TimeStep, shift: float = 4.5, gain: float = 1.0) -> Tensor:
        number = shown(step)[:, :1].float() * gain
        point = step.obs[:, 1:, 0] * gain + shift
        nothing = torch.full_like(point, torch.nan)  # what an agent lacks is ignored
        return torch.stack([torch.cat([number, nothing], 1), torch.cat([nothing, point], 1)], -1)

    exactly(env, answer, 10, 0)
    on_average(env, lambda step: answer(step, 4.0, 0.0), 2.5, -10 * (1 / 12 + 1 / 16))


def combined(names: Callable[[TimeStep, Tensor], Tensor] = preferred) -> Policy:
    return Recall(lambda step: (shown(step) + torch.tensor([0, 1, 2])) % torch.tensor([3, 4, 5]), names)


def test_all_at_once_is_solved_by_a_policy_that_can_do_all():
    got = returns(Combined(E), combined())
    assert (got[:, 0] == 9).all()
    assert set(got[:, 1].tolist()) == {2, 3, 4, 5, 6}
    assert (got[:, 2] == 7).all()
    on_average(Combined(E), combined(), 9, 4, 7)
    on_average(Combined(E), Random(Combined(1).spec), 9 / 2, 4 / 3, 7 / 4)


def test_all_at_once_is_not_solved_without_the_mask_or_the_memory():
    on_average(Combined(E), combined(lambda _, name: name), 4.5, 2, 3.5)

    def beside_the_illegal(step: TimeStep) -> Tensor:
        """The most that can be read from a mask: right is one of the neighbours of what is illegal."""
        assert step.mask is not None
        sizes = torch.tensor([3, 4, 5])
        illegal = (~step.mask & (torch.arange(5) < sizes.unsqueeze(-1))).float().argmax(-1)
        return ((illegal + 1) % sizes).unsqueeze(-1)

    on_average(Combined(E), beside_the_illegal, 4.5, 2, 3.5)


def test_all_at_once_has_every_kind_of_life():
    steps = play(Combined(E), combined(), 10)
    active = torch.stack([step.active for step in steps[:10]])
    terminated = torch.stack([step.terminated for step in steps[1:]])
    first = torch.stack([step.is_first for step in steps[:10]])
    assert active[:, :, 0].all()
    assert set(active[:, :, 1].sum(0).tolist()) == {3, 4, 5, 6, 7}
    assert (active[:, :, 2].sum(0) == 9).all()
    assert terminated[-1].all()
    assert terminated[:-1].sum((0, 1)).tolist() == [0, E, E]
    assert first.sum((0, 1)).tolist() == [E, E, 2 * E]
    obs = torch.stack([step.obs for step in steps[:10]])
    assert (obs[first].sum(-1) == 1).all()
    assert not obs[active & ~first].any()
    again = (obs[0, :, 2] == (obs.nan_to_num() * first.unsqueeze(-1))[1:, :, 2].sum(0)).all(-1)
    assert 0.1 < again.float().mean() < 0.3, "another life has another number: of 5, the same one by chance"
    for step in steps:
        assert step.mask is not None
        assert torch.equal(step.mask.sum(-1), torch.tensor([2, 3, 4]) * step.active)


def test_a_matrix_game_pays_once_what_stands_in_its_matrix():
    for row in range(3):
        for column in range(3):
            choice = torch.tensor([row, column]).view(1, 2, 1).expand(E, -1, -1)
            exactly(climbing(E), lambda _, choice=choice: choice, *[CLIMBING[row][column]] * 2)
    assert max(max(row) for row in CLIMBING) == CLIMBING[0][0] == 11
    on_average(climbing(10 * E), Random(climbing(1).spec), *[-31 / 9] * 2)
    on_average(penalty(10 * E), Random(climbing(1).spec), *[-178 / 9] * 2)
    exactly(penalty(E), always(2), 10, 10)
    exactly(penalty(E, penalty=-7), lambda step: torch.tensor([0, 2]).view(1, 2, 1).expand(E, -1, -1), -7, -7)
    step = play(MatrixGame(2, ((1, 2, 3), (4, 5, 6))), always(1), 1)[-1]
    assert step.reward.tolist() == [[5, 5], [5, 5]]
    assert step.ended.all()
    assert step.terminated.all()
    assert step.is_first.all()
    assert (step.next_obs == 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_probe_is_made_by_its_name(name: str):
    env = envs.make(name, 2)
    assert isinstance(env, TensorGame)
    assert env.num_envs == 2
    assert type(env) is MatrixGame or name == f"probe/{type(env).__name__.lower()}"


@pytest.mark.parametrize("name", ["probe/memory", "probe/mask", "probe/death", "probe/target", "probe/image"])
def test_equal_agents_may_be_as_many_as_one_likes(name: str):
    for agents in (1, 4):
        env = envs.make(name, 2, num_agents=agents)
        steps = play(env, Random(env.spec), 12)
        assert steps[-1].reward.shape == (2, agents)


@pytest.mark.parametrize(
    "name",
    ["probe/unequal", "probe/combined", "matrix/climbing", "speaker_listener", "mpe2/simple_speaker_listener_v4"],
)
def test_a_number_of_agents_that_is_fixed_cannot_be_chosen(name: str):
    with pytest.raises(UserError, match=f"the number of agents of {name} is fixed: leave out env.num-agents"):
        envs.make(name, 2, num_agents=3)


def test_a_probe_needs_an_environment_and_a_step():
    with pytest.raises(UserError, match="at least one environment and step: 0, 10"):
        Signal(0)
    with pytest.raises(UserError, match="at least one environment and step: 3, 0"):
        Signal(3, horizon=0)
