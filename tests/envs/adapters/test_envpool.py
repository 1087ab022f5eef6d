"""The adapter of envpool, held against a loop over single games of the bare package, and each of its traps."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mappo.algorithms.mappo import MAPPO
from mappo.config import Config, EnvConfig, PPOConfig
from mappo.core.protocols import Environment, Resumable
from mappo.core.timestep import TimeStep
from mappo.errors import UserError
from mappo.rollouts.collector import Collector

pytest.importorskip("envpool")

from mappo.envs.adapters.envpool import make

FORAGING, CLEANER = "LevelBasedForaging-v0", "Cleaner-v0"
pytestmark = pytest.mark.filterwarnings("ignore:envpool/LevelBasedForaging-v0 starts every episode:UserWarning")


class ByHand:
    """One game of the bare package, reset by hand when it is over."""

    def __init__(self, game: str, seed: int) -> None:
        import envpool

        self.env = envpool.make_gymnasium(f"Jumanji/{game}", num_envs=1, seed=[seed], num_threads=1)
        self.seen = self.look(self.env.reset()[0])

    def look(self, obs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        mask = obs["action_mask"][0].copy()
        mask[~mask.any(1)] = True
        if "agents_view" in obs:
            return obs["agents_view"][0].astype(np.float32), mask
        where, grid = obs["agents_locations"][0], obs["grid"][0]
        return np.stack([np.concatenate([own, where.ravel(), grid.ravel()]) for own in where]).astype(np.float32), mask

    def step(self, action: Tensor) -> tuple[Any, ...]:
        obs, reward, terminated, truncated, info = self.env.step(action.numpy().astype(np.int32).T)
        reached, _ = self.seen = self.look(obs)
        late = info["elapsed_step"][0] == 100
        over = bool(terminated[0] or truncated[0])
        if over:
            self.seen = self.look(self.env.reset()[0])
        return reached, reward[0], over and not late, over


def legal(step: TimeStep, generator: torch.Generator) -> Tensor:
    """Random legal actions, `(E, A, 1)`."""
    assert step.mask is not None
    return (torch.rand(step.mask.shape, generator=generator) * step.mask).argmax(-1, keepdim=True)


def play(env: Environment, steps: int, seed: Any = 0) -> list[TimeStep]:
    generator, seen = torch.Generator().manual_seed(0), [env.reset(seed)]
    for _ in range(steps):
        seen.append(env.step(legal(seen[-1], generator)))
    return seen


@pytest.mark.parametrize("game", [FORAGING, CLEANER])
@pytest.mark.parametrize("threads", [1, 3])
def test_it_is_a_loop_over_single_games(game: str, threads: int):
    env, games = make(game, 6, "cpu", {"num_threads": threads}), [ByHand(game, seed) for seed in range(20, 26)]
    generator = torch.Generator().manual_seed(0)
    step, ends, own = env.reset(20), 0, 0
    for t in range(230):
        for i, one in enumerate(games):
            np.testing.assert_array_equal(step.obs[i], one.seen[0])
            np.testing.assert_array_equal(step.mask[i], one.seen[1])
        action = legal(step, generator)
        if t in (50, 51, 120) and game == CLEANER:  # an illegal move ends the game, at once after the start too
            action[2, 0, 0] = step.mask[2, 0].int().argmin()
        step = env.step(action)
        assert step.active.all()
        assert step.next_active.all()
        for i, one in enumerate(games):
            reached, reward, terminated, over = one.step(action[i])
            np.testing.assert_array_equal(step.next_obs[i], reached)
            np.testing.assert_array_equal(step.reward[i], np.full(len(reached), reward))
            assert step.terminated[i].tolist() == [terminated] * len(reached)
            assert bool(step.ended[i]) == over
            assert step.is_first[i].tolist() == [over] * len(reached)
            ends, own = ends + over, own + terminated
    assert ends >= 12
    assert own >= (3 if game == CLEANER else 0)


def test_foraging_is_won():
    """Two agents of level 1 stand where both together can load the one food item of level 2, then the other."""
    env = make(FORAGING, 2, "cpu", {"lbf_agents": "3,4,1,2,3,1", "lbf_food": "3,3,2,3,5,2"})
    env.reset(0)
    load, right, stay = 5, 4, 0
    plan = [[load, load], [stay, right], [stay, right], [load, load]]
    steps = [env.step(torch.tensor([moves, [stay, stay]]).unsqueeze(-1)) for moves in plan]
    assert [x.reward[0].tolist() for x in steps] == [[0.5, 0.5], [0, 0], [0, 0], [0.5, 0.5]]
    assert [bool(x.ended[0]) for x in steps] == [False, False, False, True]
    assert steps[3].terminated.tolist() == [[True, True], [False, False]]
    assert env.spec.team_reward(steps[3].reward).tolist() == [0.5, 0]
    assert torch.equal(steps[3].next_obs[0, 0, :6], torch.tensor([-1.0, -1, 0, -1, -1, 0]))  # all eaten
    assert torch.equal(steps[3].obs[0, 0, :6], torch.tensor([3.0, 3, 2, 3, 5, 2]))


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_a_time_limit_is_a_truncation(limit: int):
    env = make(FORAGING, 3, "cpu", {"max_steps": limit})
    for t, step in enumerate(play(env, 230)[1:]):
        assert step.ended.tolist() == [t % limit == limit - 1] * 3
        assert not step.terminated.any()


def test_a_seed_makes_a_game_wherever_it_stands():
    first, other = make(CLEANER, 3, "cpu", {"max_steps": 5}), make(CLEANER, 4, "cpu", {"max_steps": 5})
    starts = first.reset([7, 8, 9]).obs
    assert not (starts[0] == starts[1]).all()
    assert torch.equal(other.reset([5, 9, 7, 9]).obs, torch.stack([other.reset(5).obs[0], *starts[[2, 0, 2]]]))
    assert torch.equal(first.reset(7).obs, starts)  # one seed stands for it and those that follow
    again, once = (play(first, 12, 7) for _ in range(2))
    assert all(torch.equal(x.obs, y.obs) and torch.equal(x.reward, y.reward) for x, y in zip(again, once, strict=True))
    later = [first.reset().obs for _ in range(2)]
    assert not (later[0] == later[1]).all(-1).all(-1).any()
    first.reset([2**40, -1, 0])
    with pytest.raises(ValueError, match="2 seeds for 3 environments"):
        first.reset([1, 2])


def test_what_was_given_stays():
    """envpool's memory is its own: what came out of it is copied."""
    env = make(CLEANER, 3, "cpu", {"max_steps": 4})
    seen = play(env, 0)
    copies = [[x.clone() for x in (seen[0].obs, seen[0].next_obs, seen[0].mask, seen[0].reward)]]
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        seen.append(env.step(legal(seen[-1], generator)))
        copies.append([x.clone() for x in (seen[-1].obs, seen[-1].next_obs, seen[-1].mask, seen[-1].reward)])
    for step, kept in zip(seen, copies, strict=True):
        assert all(map(torch.equal, (step.obs, step.next_obs, step.mask, step.reward), kept))


def test_where_nothing_is_legal_all_is_offered():
    masks = make(CLEANER, 200, "cpu", {}).reset(0).mask
    assert masks is not None
    assert masks.any(-1).all()
    closed = masks.all(-1)  # in a corner two of four moves are illegal
    assert 0 < closed[:, 0].sum() < 20
    assert torch.equal(closed, closed[:, :1].expand(-1, 3))


@pytest.mark.parametrize(("game", "agents", "size", "choices"), [(FORAGING, 2, 12, 6), (CLEANER, 3, 108, 4)])
def test_spec(game: str, agents: int, size: int, choices: int):
    spec = make(game, 1, "cpu", {}).spec
    assert spec.agents == tuple(f"agent_{i}" for i in range(agents))
    assert spec.obs_shape == (size,)
    assert spec.heads == (choices,)
    assert spec.groups == (0,) * agents
    assert spec.shared_reward
    assert spec.state_shape is None


@pytest.mark.filterwarnings("error")
def test_one_level_is_told():
    with pytest.warns(UserWarning, match="starts every episode from the same state, whatever the seed"):
        make(FORAGING, 1, "cpu", {})
    make(CLEANER, 1, "cpu", {})


def test_what_cannot_be_made_is_told():
    def fails(match: str, game: str = CLEANER, num_envs: int = 1, **options: Any) -> None:
        with pytest.raises(UserError, match=match):
            make(game, num_envs, "cpu", options)

    fails("did you mean 'envpool/Cleaner-v0'", "Cleaner-v1")
    fails("There are: LevelBasedForaging-v0, Cleaner-v0", "xyz")
    fails("no shelves", "RobotWarehouse-v0")
    fails("unexpected keyword argument 'fov'", fov=2)
    fails("env_seed, seed cannot be chosen; there are max_steps and num_threads", seed=1, env_seed=[1])
    fails("has 1 to 100 steps, got max_steps 101", max_steps=101)
    fails("has 1 to 100 steps, got max_steps 0", max_steps=0)
    fails("at least one environment and thread", num_envs=0)
    fails("at least one environment and thread", num_threads=0)


def test_missing_envpool_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(UserError, match=r"envpool is not installed, .*pip install '?envpool"):
        make(CLEANER, 1, "cpu", {})


def test_a_collector_and_a_learner_take_it():
    env = make(CLEANER, 8, "cpu", {"max_steps": 5})
    assert isinstance(env, Environment)
    assert not isinstance(env, Resumable)
    config = Config(env=EnvConfig(num_envs=8), ppo=PPOConfig(rollout_length=10, epochs=1))
    agent = MAPPO(env.spec, config, seed=0)
    collector = Collector(env, agent, 10, env.reset(0), torch.Generator().manual_seed(0))
    rollout, played = collector.collect()
    assert played["episodes"] == 16
    assert played["return_sum"] == pytest.approx(float(rollout.reward[..., 0].sum()) / 16)
    assert all(bool(x.isfinite()) for x in agent.update(rollout).values())
