"""Episodes of a policy, and what may be said of them; law 5 for a saved actor."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from mappo import envs
from mappo.algorithms.mappo import MAPPO
from mappo.config import Config, NetworkConfig, RunConfig
from mappo.core import state_dict as state
from mappo.core.protocols import Environment, TeamPolicy
from mappo.core.spec import ActionHeads, Spec
from mappo.core.timestep import TimeStep
from mappo.deploy import load as saved_actor
from mappo.envs.batched.spread import Spread, central_planner
from mappo.envs.probes.basic import Constant
from mappo.errors import UserError
from mappo.evaluation import episodes as playing, progress
from mappo.evaluation.episodes import Budget, CutOffError, play_episodes
from mappo.evaluation.options import SCORE_SEED, SELECT_SEED
from mappo.evaluation.replay import replay
from mappo.evaluation.score import score
from mappo.evaluation.statistics import summarize
from mappo.policies.random_policy import RandomPolicy
from mappo.runs import checkpoint, directory as rundir

FIRST = 7
OBS = 18  # numbers that an agent of spread sees


def spec_of(*agents: ActionHeads) -> Spec:
    """Agents that see one number each."""
    boxes = (spaces.Box(0, 1, (1,)),) * len(agents)
    return Spec(tuple(f"agent_{i}" for i in range(len(agents))), boxes, agents)


class Dice:
    """Two agents; a game's seed is its length less one, modulo 7, and most of its reward; later games pay 1000.

    Action 1 pays a half more; where masks are on, the first agent may only do 0 and the second only 1.
    """

    def __init__(self, num_envs: int, *, fixed: int | None = None, masked: bool = False, endless: bool = False) -> None:
        self.num_envs, self.device = num_envs, torch.device("cpu")
        self.fixed, self.masked, self.endless = fixed, masked, endless
        self.spec = Spec(("x", "y"), (spaces.Box(0, 1, (1,)),) * 2, (ActionHeads((2,)),) * 2, (0, 0))
        self.resets: list[list[int]] = []
        self.seed = self.clock = self.game = torch.zeros(num_envs)

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        seeds = [0] * self.num_envs if seed is None else [seed] if isinstance(seed, int) else list(seed)
        assert len(seeds) == self.num_envs
        self.resets.append(seeds)
        self.seed = torch.tensor(seeds, dtype=torch.float32)
        self.clock = self.game = torch.zeros(self.num_envs)
        return self._step(torch.zeros(self.num_envs, 2), torch.zeros(self.num_envs, dtype=torch.bool))

    def step(self, action: Tensor) -> TimeStep:
        assert action.shape == (self.num_envs, 2, 1)
        base = torch.where(self.game == 0, self.seed, 1000.0)
        reward = torch.stack([base, base + 0.25], -1) + 0.5 * action.squeeze(-1)
        self.clock = self.clock + 1
        length = torch.full_like(self.seed, self.fixed) if self.fixed else 1 + self.seed % FIRST
        ended = self.clock >= length if not self.endless else torch.zeros(self.num_envs, dtype=torch.bool)
        self.clock, self.game = torch.where(ended, 0.0, self.clock), self.game + ended
        return self._step(reward, ended)

    def close(self) -> None:
        pass

    def _step(self, reward: Tensor, ended: Tensor) -> TimeStep:
        all_, none = torch.ones(self.num_envs, 2, dtype=torch.bool), torch.zeros(self.num_envs, 2, dtype=torch.bool)
        mask = torch.tensor([[True, False], [False, True]]).expand(self.num_envs, 2, 2) if self.masked else None
        obs = torch.zeros(self.num_envs, 2, 1)
        first = (self.clock == 0).unsqueeze(-1).expand_as(all_)
        return TimeStep(obs, None, mask, all_, first, reward, none, ended, obs, None, all_)


def always(choice: int) -> TeamPolicy:
    def policy(obs: Tensor, memory: Any = None, **_: Any) -> tuple[Tensor, Any]:
        return torch.full((*obs.shape[:2], 1), choice), memory

    return policy


@pytest.mark.parametrize("num_envs", [1, 4, 16, 30])
def test_each_seed_counts_once_with_its_first_episode_whatever_the_batch(num_envs: int):
    env, seeds = Dice(num_envs), [*range(100, 116), 3, 3]
    played = play_episodes(env, always(0), seeds)
    lengths = np.array([1 + s % FIRST for s in seeds])
    assert len(set(lengths)) == FIRST
    assert np.array_equal(played.lengths, lengths)
    expected = np.stack([lengths * np.array(seeds), lengths * (np.array(seeds) + 0.25)], -1)
    assert np.array_equal(played.returns, expected)
    assert np.array_equal(played.team_returns, expected.sum(-1))
    assert [s for part in env.resets for s in part][: len(seeds)] == seeds


def test_the_policy_sees_masks_first_steps_and_its_memory():
    calls: list[tuple[Any, Tensor | None, Tensor | None]] = []

    def policy(obs: Tensor, memory: Any = None, **seen: Any) -> tuple[Tensor, Any]:
        calls.append((memory, seen["mask"], seen["is_first"]))
        assert seen["active"].shape == (1, obs.shape[1])
        return torch.zeros(*obs.shape[:2], 1, dtype=torch.long), len(calls)

    play_episodes(Dice(1, fixed=2, masked=True), policy, [5, 6])
    assert [c[0] for c in calls] == [None, 1, None, 3], "memory starts anew with each batch of games"
    assert [bool(c[2].all()) for c in calls if c[2] is not None] == [True, False, True, False]
    assert all(c[1] is not None for c in calls)


def test_an_endless_environment_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(playing, "LONG_EPISODE", 10)
    budget = playing.Budget(max_length=20)
    assert play_episodes(Dice(2, fixed=10), always(0), [1, 2], budget=budget).lengths.tolist() == [10, 10]
    message = "an episode did not end within 20 steps: the environment needs a time limit"
    with pytest.raises(CutOffError, match=message), pytest.warns(UserWarning, match="goes on after 10 steps, up to 20"):
        play_episodes(Dice(2, endless=True), always(0), [1, 2], budget=budget)


@pytest.mark.parametrize(("steps", "games"), [(0, 4), (40, 4), (41, 8), (79, 8), (81, 10), (10_000, 10)])
def test_no_game_begins_once_the_steps_are_used_up_and_each_that_began_ends(steps: int, games: int):
    whole = play_episodes(Dice(4, fixed=10), always(0), range(10))
    told: list[float] = []
    played = play_episodes(Dice(4, fixed=10), always(0), range(10), told.append, Budget(steps=steps or 1))
    assert played.lengths.tolist() == [10] * games
    assert np.array_equal(played.returns, whole.returns[:games])
    assert told == sorted(told)
    assert (told[0], max(told)) == (0.0, told[-1])
    assert told[-1] <= 1


def test_time_ends_games_too_where_no_number_depends_on_it(monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(100))
    monkeypatch.setattr(playing.time, "monotonic", lambda: next(clock))
    assert len(play_episodes(Dice(4), always(0), range(40), budget=Budget(seconds=2.0)).lengths) == 8
    assert playing.EVALUATION_BUDGET.seconds == math.inf, "metrics.csv is the same on any machine"


def test_the_notes_on_progress_say_what_is_left(monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    notes: list[str] = []
    stops: list[float] = []
    on_step = progress.progress_notes("score", notes.append, lambda: stops.append(clock[0]))
    for second in range(35):
        clock[0] = float(second)
        on_step(second / 40)
    assert notes == ["score: 25%, 0:30 left", "score: 50%, 0:20 left", "score: 75%, 0:10 left"]
    assert stops == list(range(35))
    clock[0] = 50.0
    progress.progress_notes("score", notes.append)(0.0)
    assert len(notes) == 3
    halves = [playing.part_of(notes.append, index, 2) for index in (0, 1)]  # type: ignore[arg-type]
    halves[0](0.5)
    halves[1](1.0)
    assert notes[3:] == [0.25, 1.0]


@pytest.mark.parametrize("count", [2, 3, 4, 7, 100])
def test_summary_is_what_numpy_says(count: int):
    values = np.random.default_rng(count).normal(5, 2, count)
    told = summarize(values)
    ordered = sorted(values.tolist())
    middle = ordered[count // 4 : count - count // 4]
    assert told["mean"] == pytest.approx(sum(ordered) / count)
    assert told["iqm"] == pytest.approx(sum(middle) / len(middle))
    low, high = told["ci95"]
    assert low <= told["mean"] + 1e-9
    assert told["mean"] <= high + 1e-9
    assert told == summarize(values), "drawn from a seed of its own"
    assert {type(x) for x in (told["mean"], told["iqm"], low, high)} == {float}


def test_an_outlier_moves_the_mean_and_not_the_interquartile_mean():
    values = np.array([*range(19), 1e6])
    assert summarize(values)["iqm"] == summarize(np.array([*range(19), 20.0]))["iqm"] == 9.5
    assert summarize(values)["mean"] > 1e4


def test_the_interval_is_that_of_the_mean():
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = summarize(values)["ci95"]
    error = values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)


def test_score_compares_game_by_game(monkeypatch: pytest.MonkeyPatch):
    """Games differ by hundreds; the better action pays 3 games long for both agents, so always 3 more."""
    monkeypatch.setattr(envs, "baselines", lambda name, num_agents: {"lazy": always(0)})
    told = score(Dice(4, fixed=3), "dice", {"greedy": [always(1)]}, 10, seed=50)
    assert told["episodes"] == 10
    assert told["seed"] == 50
    assert told["episode_length"] == 3
    assert set(told["baselines"]) == {"random", "lazy"}
    seeds = np.arange(50, 60)
    sums = 3 * (2 * seeds + 0.25 + 1)
    assert told["return_sum"] == summarize(sums.astype(float))
    assert told["return_per_agent"] == [3 * (54.5 + 0.5), 3 * (54.5 + 0.75)]
    assert sum(told["return_per_agent"]) == pytest.approx(told["return_sum"]["mean"])
    lazy = told["baselines"]["lazy"]
    assert {k: lazy[k] for k in ("mean", "iqm", "ci95")} == summarize(sums - 3.0)
    assert lazy["difference"] == {"mean": 3.0, "ci95": [3.0, 3.0]}
    random = told["baselines"]["random"]
    assert 0 < random["difference"]["mean"] < 3


def test_the_planner_and_chance_are_what_spread_is_measured_by():
    told = score(Spread(40), "spread", {"greedy": [central_planner]}, 40)
    assert set(told["baselines"]) == {"random", "planner"}
    assert told["baselines"]["planner"]["difference"] == {"mean": 0.0, "ci95": [0.0, 0.0]}
    low, high = told["baselines"]["random"]["difference"]["ci95"]
    assert 25 < low < high < 75


def test_seven_agents_are_too_many_for_the_planner():
    assert set(envs.baselines("spread", Spread(1, 6).spec)) == {"planner"}
    assert envs.baselines("spread", Spread(1, 7).spec) == {}
    assert envs.baselines("probe/signal", Spread(1).spec) == {}


def test_final_scores_and_choices_of_checkpoints_never_share_a_game():
    assert abs(SCORE_SEED - SELECT_SEED) >= 100_000


def test_the_random_policy_plays_each_legal_action_alike():
    policy = RandomPolicy(spec_of(ActionHeads((3, 2))), seed=1)
    mask = torch.tensor([[[True, False, True, True, True]], [[False, True, False, False, True]]])
    actions, memory = policy(torch.zeros(2, 4000, 1), "kept", mask=mask.expand(2, 4000, 5))
    assert memory == "kept"
    assert actions.shape == (2, 4000, 2)
    first = actions[0, :, 0].bincount(minlength=3) / 4000
    assert first[1] == 0
    assert first[[0, 2]].tolist() == pytest.approx([0.5, 0.5], abs=0.05)
    assert (actions[0, :, 1].bincount(minlength=2) / 4000).tolist() == pytest.approx([0.5, 0.5], abs=0.05)
    assert (actions[1] == 1).all()
    free, _ = policy(torch.zeros(2, 4000, 1))
    assert (free[..., 0].flatten().bincount(minlength=3) / 8000).tolist() == pytest.approx([1 / 3] * 3, abs=0.05)


def test_the_random_policy_is_the_same_for_the_same_seed():
    spec = spec_of(*[ActionHeads((5,))] * 3)
    draws = [RandomPolicy(spec, seed)(torch.zeros(4, 3, 1))[0] for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_masks_reach_the_random_policy_in_a_game():
    env = Dice(2, fixed=4, masked=True)
    assert isinstance(env, Environment)
    played = play_episodes(env, RandomPolicy(env.spec), [10, 20])
    assert played.returns.tolist() == [[40, 4 * 10.75], [80, 4 * 20.75]]


def test_sums_are_over_agents_and_a_shared_reward_counts_once():
    played = playing.play_episodes(Spread(2, horizon=3), always(0), [5, 6])
    assert np.allclose(played.team_returns, played.returns.sum(-1), atol=1e-5)
    shared = playing.play_episodes(Constant(2, num_agents=3, horizon=7), always(0), [5, 6])
    assert shared.returns.tolist() == [[7.0] * 3] * 2
    assert shared.team_returns.tolist() == [7.0, 7.0]


def test_a_replay_shows_each_game():
    first, second = replay(Spread(2, horizon=3), always(0), [5, 6])
    assert (len(first), len(second)) == (3, 3)
    assert not np.array_equal(first[0], second[0])


def test_a_replay_needs_an_environment_that_draws():
    with pytest.raises(UserError, match=r"cannot draw a replay: it has no render\(index\)"):
        next(replay(Dice(1), always(0), [1]))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, MAPPO]:
    """A run with one checkpoint of an agent whose actions differ from observation to observation."""
    spec = Spread(1).spec
    config = Config(network=NetworkConfig(hidden=(16,), actor_gain=1.0), run=RunConfig(seed=5))
    agent, path = MAPPO(spec, config), tmp_path / "run"
    rundir.create_run(path, "spread", config, spec)
    checkpoint.save(path, 10, {}, state.flatten("network", agent.network.state_dict()), {})
    return path, agent


def test_a_saved_actor_is_the_policy_that_was_trained(saved: tuple[Path, MAPPO]):
    path, agent = saved
    actor = saved_actor.load_actor(path)
    obs = torch.randn(50, 3, OBS)
    actions, _ = actor(obs)
    with torch.no_grad():
        logit, trained = actor.policy.network(obs)[0], agent.network.actor(obs)[0]
    assert torch.equal(logit, trained)
    assert torch.equal(actions, agent.actor()(obs)[0])
    assert torch.equal(actions, trained.argmax(-1, keepdim=True))
    assert len(actions.unique()) > 2


def test_a_saved_actor_alone_answers_as_in_the_team(saved: tuple[Path, MAPPO]):
    path, agent = saved
    actor, obs = saved_actor.load_actor(path), torch.randn(20, 3, OBS)
    team = agent.actor()(obs)[0]
    names = agent.spec.agents
    for e in range(20):
        for a in range(3):
            alone, memory = actor(obs[e, a])
            assert alone.shape == (1,)
            assert alone.dtype == torch.int64
            assert torch.equal(alone, team[e, a])
            assert memory is None
            by_name, _ = actor.agent(names[a])(obs[e, a])
            assert by_name.shape == (), "as its own space has it"
            assert by_name == team[e, a]
            logit = [tower(x)[0] for tower, x in ((actor.policy.network, obs[e, a]), (agent.network.actor, obs[e]))]
            assert torch.allclose(logit[0], logit[1][a], atol=1e-6)


def test_a_saved_actor_respects_a_mask_and_draws_if_asked(saved: tuple[Path, MAPPO]):
    path, _ = saved
    obs, mask = torch.randn(200, OBS), torch.zeros(200, 5, dtype=torch.bool)
    mask[:, [1, 3]] = True
    greedy, sampled = (saved_actor.load_actor(path, sampled=x) for x in (False, True))
    assert set(greedy(obs, mask=mask)[0].flatten().tolist()) == {1, 3}
    assert set(sampled(obs, mask=mask)[0].flatten().tolist()) == {1, 3}
    assert not torch.equal(sampled(obs)[0], sampled(obs)[0])
    assert torch.equal(greedy(obs)[0], greedy(obs)[0])
    again = saved_actor.load_actor(path, sampled=True)
    assert torch.equal(again(obs, mask=mask)[0], saved_actor.load_actor(path, sampled=True)(obs, mask=mask)[0])


def test_an_actor_names_the_size_that_it_reads(saved: tuple[Path, MAPPO]):
    actor = saved_actor.load_actor(saved[0])
    with pytest.raises(ValueError, match=r"reads observations \(\*B, 18\), got \(4,\)"):
        actor(torch.zeros(4))


def test_an_actor_of_a_run_carries_no_gradient(saved: tuple[Path, MAPPO]):
    actor = saved_actor.load_actor(saved[0])
    assert not actor.policy.network(torch.zeros(1, OBS))[0].requires_grad
