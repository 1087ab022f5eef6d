"""Episodes dealt out over processes are those of a single process; threads stand for the processes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mappo
from mappo.algorithms.mappo import MAPPO
from mappo.backend.ranks import ALONE, Ranks
from mappo.config import Config, EnvConfig, NetworkConfig, RunConfig
from mappo.core.timestep import TimeStep
from mappo.errors import StopTraining, UserError
from mappo.evaluation import score_run
from mappo.evaluation.dealt import CutOffError, Deal, Episodes, together
from mappo.evaluation.episodes import NO_BUDGET, Budget, play_episodes
from mappo.evaluation.options import EvaluateOptions
from mappo.evaluation.score_run import evaluate_run
from mappo.evaluation.shared_run import shared_run
from mappo.policies.random_policy import RandomPolicy
from mappo.system.shutdown import Interrupts
from mappo.training.evaluator import Evaluator
from thread_ranks import in_threads

SMALL = Config(
    EnvConfig(num_envs=2, workers=0),
    NetworkConfig((8,)),
    mappo.PPOConfig(rollout_length=10, epochs=1),
    RunConfig(total_steps=20, progress="off", eval_episodes=4),
)


@pytest.fixture(autouse=True)
def no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mappo.training.session.draw_curve", lambda *_: None)


@pytest.mark.parametrize("policy", ["greedy", "sampled"])
@pytest.mark.parametrize(("name", "episodes", "size"), [("spread", 9, 2), ("battle", 8, 3), ("mpe2", 3, 2)])
def test_evaluations_have_the_returns_of_a_single_process(name: str, episodes: int, size: int, policy: Any):
    name = {"mpe2": "mpe2/simple_spread_v3"}.get(name, name)
    run = RunConfig(eval_episodes=episodes, eval_policy=policy)
    agent = MAPPO(mappo.make(name, 1).spec, SMALL, seed=0)

    def evaluate(ranks: Ranks) -> Any:
        env = mappo.make(name, -(-episodes // ranks.size))
        evaluator = Evaluator(env, run, Interrupts(), Deal(ranks, episodes))
        played, interruption = evaluator.evaluate([agent], 0, print)
        assert interruption is None
        return played, evaluator.agent_means

    whole = evaluate(ALONE)
    assert len(set(whole[0][0].values())) > 2
    assert in_threads(size, evaluate) == [whole] * size


class Uneven:
    """Episodes of 1 to 5 steps, by their seeds; the reward is the action. Seed 13 is lost once with its worker."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.device = torch.device("cpu")
        self.spec = mappo.make("probe/combined", 1).spec
        self.restarts = 0

    def reset(self, seed: Any = None) -> TimeStep:
        self.is_lost = 13 in seed and not self.restarts
        self.length = 1 + torch.tensor(seed) % 5
        self.clock = torch.zeros(self.num_envs)
        return self._step(torch.zeros(self.num_envs, self.spec.num_agents))

    def step(self, action: torch.Tensor) -> TimeStep:
        self.clock = self.clock + 1
        self.restarts += self.is_lost
        self.is_lost = False
        return self._step(action.double().sum(-1))

    def _step(self, reward: torch.Tensor) -> TimeStep:
        flags = torch.ones(reward.shape, dtype=torch.bool)
        obs = torch.zeros(*reward.shape, *self.spec.obs_shape)
        return TimeStep(obs, None, None, flags, ~flags, reward, ~flags, self.clock >= self.length, obs, None, flags)


@pytest.mark.parametrize(("steps", "games"), [(1e9, 15), (20, 8), (1, 4)])
@pytest.mark.parametrize("first", [20, 12])
def test_batches_budget_and_random_numbers_are_those_of_a_single_process(steps: float, games: int, first: int):
    def play(ranks: Ranks) -> list[Episodes]:
        env = Uneven(-(-4 // ranks.size))
        policy = RandomPolicy(env.spec, 3)
        seeds = range(first, first + 15)
        return [play_episodes(env, policy, seeds, budget=Budget(steps=steps), deal=Deal(ranks, 4)) for _ in range(2)]

    whole = play(ALONE)
    assert len(whole[0].lengths) == games
    if first == 12:  # a worker was lost: the episodes of its process have other random numbers, and no others
        assert np.array_equal(whole[0].lengths, in_threads(2, play)[0][0].lengths)
        return
    assert not np.array_equal(whole[0].returns, whole[1].returns), "the random numbers go on"
    for size in (2, 3, 4):
        for found in in_threads(size, play):
            for a, b in zip(found, whole, strict=True):
                for name in ("returns", "team_returns", "lengths"):
                    assert np.array_equal(getattr(a, name), getattr(b, name)), (size, name)
                    assert getattr(a, name).dtype == getattr(b, name).dtype


def test_time_over_in_one_process_ends_all_after_the_same_batch(monkeypatch: pytest.MonkeyPatch):
    def play(ranks: Ranks) -> int:
        budget = Budget(seconds=0.0) if ranks.rank else NO_BUDGET
        env = Uneven(2)
        return len(play_episodes(env, RandomPolicy(env.spec), range(12), budget=budget, deal=Deal(ranks, 4)).lengths)

    assert in_threads(2, play) == [4, 4]


@pytest.mark.parametrize(
    ("errors", "kind", "message"),
    [
        ([None, UserError("broken")], UserError, "process 1: broken"),
        ([CutOffError("endless"), UserError("broken")], UserError, "process 1: broken"),
        ([CutOffError("endless"), None], CutOffError, "process 0: endless"),
        ([UserError("broken"), StopTraining()], StopTraining, ""),
        ([KeyboardInterrupt(), None], KeyboardInterrupt, ""),
    ],
)
def test_all_raise_the_error_of_one(errors: list[Any], kind: type[BaseException], message: str):
    def work(ranks: Ranks) -> BaseException:
        def fail() -> None:
            if errors[ranks.rank] is not None:
                raise errors[ranks.rank]

        with pytest.raises(BaseException) as found:  # noqa: PT011
            together(ranks, fail)
        return found.value

    first, second = in_threads(2, work)
    assert type(first) is kind
    assert type(second) is (StopTraining if kind is KeyboardInterrupt else kind)
    assert str(first) == str(second) == message


@pytest.mark.parametrize("name", ["spread", "mpe2/simple_speaker_listener_v4"])
def test_a_score_is_the_score_of_a_single_process(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = mappo.train(name, mappo.Config.from_dict({"run.dir": str(tmp_path / "run")}, SMALL))
    seen: list[Path] = []
    written: list[Path] = []
    save = score_run.save_score
    monkeypatch.setattr(score_run, "save_score", lambda path, found: (written.append(path), save(path, found)))
    read = score_run.read_run
    monkeypatch.setattr(score_run, "read_run", lambda path: (seen.append(path), read(path))[1])

    def score(ranks: Ranks) -> Any:
        with shared_run(run.path, ranks) as path:
            return evaluate_run(path, EvaluateOptions(episodes=7), ranks=ranks)

    whole = score(ALONE)
    saved = (run.path / "score.json").read_bytes()
    (run.path / "score.json").unlink()
    assert in_threads(2, score) == [whole] * 2
    assert (run.path / "score.json").read_bytes() == saved
    assert written == [run.path] * 2, "by the first process alone"
    assert len({*seen}) == 2, "the second process has a copy of the run"
    assert [path.exists() for path in {*seen} - {run.path}] == [False]
