"""Runs whose numbers overflow: they end, kept, and say what to do, in place of learning nothing to their end."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.spaces import Box
from torch import Tensor

import mappo
from games import Game
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.core.spec import ActionHeads, Spec
from mappo.core.timestep import Rollout
from mappo.envs.probes.basic import Constant
from mappo.errors import UserError
from mappo.networks.input_reader import obs_reader, state_reader
from mappo.networks.normalizers import RunningNorm, ValueNorm
from mappo.runs import checkpoint
from mappo.training import diagnostics as watch
from mappo.training.diagnostics import PATIENCE, Diagnostics, SeedDiagnostics

CONFIG = Config(ppo=PPOConfig(epochs=3, minibatches=2, rollout_length=4), env=EnvConfig(num_envs=2))
SPEC = Constant(1).spec
FINE = {"skipped_steps": 0.0, "epochs": 3.0, "explained_variance": 0.5, "value": 3.0}
SKIPPED = FINE | {"skipped_steps": 6.0}
INFINITE = FINE | {"explained_variance": math.nan, "value": -1e19}


class Large(Game):
    """Observations and rewards of any size."""

    def __init__(self, seen: float = 1.0, paid: float = 1.0) -> None:
        super().__init__(masks=False, state=False)
        self.seen, self.paid = seen, paid

    def step(self, actions: dict[str, Any]) -> Any:
        obs, rewards, *rest = super().step(actions)
        return obs, {a: r * self.paid for a, r in rewards.items()}, *rest

    def _look(self, agents: Any) -> Any:
        obs, infos = super()._look(agents)
        return {a: (x / 1000 * self.seen).astype(np.float32) for a, x in obs.items()}, infos


def config(path: Path, updates: int, **network: Any) -> Config:
    return Config(
        env=EnvConfig(num_envs=4, workers=0),
        network=NetworkConfig(hidden=(16,), **network),
        ppo=PPOConfig(rollout_length=10, epochs=2),
        run=RunConfig(total_steps=40 * updates, eval_interval=10**9, eval_episodes=4, dir=str(path), progress="off"),
    )


def rollout(obs: Tensor, reward: float = 1.0, state: Tensor | None = None) -> Rollout:
    """What a watch looks at; one agent of two is there."""
    given = dict.fromkeys(Rollout.__dataclass_fields__)
    active = torch.tensor([True, False]).expand(obs.shape[:3])
    return Rollout(**{**given, "obs": obs, "state": state, "active": active, "reward": torch.full((4, 2, 2), -reward)})  # pyright: ignore


@pytest.mark.parametrize(
    ("seen", "paid", "message"),
    [
        (
            1e36,
            1.0,
            r"observations go up to .*e\+3\d, rewards to .*--network\.obs-norm, or --network\.layer-norm\); metr",
        ),
        (
            1.0,
            1e25,
            r"observations go up to 0.[0-9]+, rewards to .*e\+2\d, .*Start another run with smaller rewards \(divided",
        ),
        (1e9, 1e36, r"--network\.layer-norm\), and with smaller rewards"),
    ],
)
def test_a_run_whose_numbers_overflow_ends_and_is_kept(seen: float, paid: float, message: str, tmp_path: Path):
    path = tmp_path / "run"
    with pytest.raises(UserError, match=rf"nothing was learned in the last 5 updates[^$]*{message}") as told:
        mappo.train(lambda: Large(seen, paid), config(path, 40))
    assert str(told.value).endswith(f"The run is kept in {path}")
    metrics = mappo.Run(path, "", Config(), 0).metrics
    assert metrics["update"][-1] < 40
    assert checkpoint.load(path).state["step"] == metrics["step"][-1]
    weights = checkpoint.load(path).model.values()
    assert all(w.isfinite().all() for w in weights), "the value statistics, too"


def test_values_that_feed_on_themselves_are_noticed(tmp_path: Path):
    """Observations of some thousands do no harm to one update: only one after the other they do."""
    with pytest.raises(UserError, match="nothing was learned in the last 5 updates"):
        mappo.train(lambda: Large(1e4), config(tmp_path / "run", 300))
    values = mappo.Run(tmp_path / "run", "", Config(), 0).metrics["value"]
    assert len(values) > 2 * PATIENCE
    assert abs(values[0]) < 1e10 < abs(values[-1])


@pytest.mark.parametrize("network", [{"obs_norm": True}, {"layer_norm": True}])
def test_what_is_advised_helps(network: dict[str, Any], tmp_path: Path):
    run = mappo.train(lambda: Large(1e5), config(tmp_path / "run", 60, **network))
    assert run.finished
    assert (abs(run.metrics["value"]) < 1e4).all()


@pytest.mark.parametrize("broken", [SKIPPED, INFINITE, SKIPPED | {"value": math.nan, "explained_variance": math.nan}])
def test_so_many_in_a_row_are_enough_and_others_between_are_not(broken: dict[str, float]):
    watch, seen = SeedDiagnostics(CONFIG), rollout(torch.ones(4, 2, 2, 3))
    few = [broken] * (PATIENCE - 1)
    for metrics in (*few, FINE, *few):
        assert watch.check(seen, metrics) == ""
    assert watch.check(seen, broken)


@pytest.mark.parametrize(
    "metrics",
    [
        FINE | {"skipped_steps": 5.0},
        FINE | {"explained_variance": math.nan, "value": 0.0},  # all returns are alike
        FINE | {"explained_variance": -math.inf},
        FINE | {"value": 1e12},
    ],
)
def test_what_still_teaches_something_goes_on(metrics: dict[str, float]):
    watch, seen = SeedDiagnostics(CONFIG), rollout(torch.ones(4, 2, 2, 3))
    assert [watch.check(seen, metrics) for _ in range(20)] == [""] * 20


def test_nothing_but_smaller_steps_is_left_where_all_numbers_are_small():
    watch, seen = SeedDiagnostics(CONFIG), rollout(torch.ones(4, 2, 2, 3))
    *_, told = [watch.check(seen, SKIPPED) for _ in range(PATIENCE)]
    assert "Start another run with smaller learning rates (--ppo.actor-lr, --ppo.critic-lr); " in told


def test_large_observations_are_told_at_the_first_rollout():
    obs = torch.zeros(4, 2, 2, 3)
    obs[..., 1, :] = math.nan  # who is not there sees nothing
    obs[1, 1, 0, 2] = -2500
    assert SeedDiagnostics(CONFIG).check_first(rollout(obs)) == (
        "Observations go up to 2500, from which networks learn badly: divide them in the environment, or give "
        "--network.obs-norm"
    )
    for network in ({"obs_norm": True}, {"layer_norm": True}):
        assert SeedDiagnostics(replace(CONFIG, network=NetworkConfig(**network))).check_first(rollout(obs)) == ""
    assert SeedDiagnostics(CONFIG).check_first(rollout(obs / 30)) == ""
    large_state = torch.full((4, 2, 5), 101.0)
    assert SeedDiagnostics(CONFIG).check_first(rollout(obs / 30, state=large_state)).startswith("States go up to 101, ")
    space = spaces.Box(0, 2500, obs.shape[3:], np.int64)
    spec = Spec(("a", "b"), (space,) * 2, (ActionHeads((2,)),) * 2)
    readers = (obs_reader(spec), state_reader(spec))
    note = SeedDiagnostics(CONFIG, readers).check_first(rollout(obs, state=large_state))
    assert note.startswith("States go up to 101, "), "the observations are divided by their bounds"


@pytest.mark.parametrize(
    ("space", "largest", "advice"),
    [
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), 255, ""),
        (spaces.Box(0, 1, (8, 8, 3), np.uint8), 255, "Observations go up to 255, .* divide them in the environment$"),
        (spaces.Box(0, 255, (3,), np.uint8), 255, ""),
        (spaces.Box(0, 2000, (3,), np.int64), 2000, ""),
        (spaces.Box(0, 2000, (3,), np.float32), 2000, "Observations go up to 2000, .* or give --network.obs-norm$"),
        (spaces.Box(-(2**15), 2**15 - 1, (3,), np.int16), 2000, "Observations go up to 2000"),
    ],
)
def test_integers_are_large_where_networks_do_not_divide_them(space: Any, largest: float, advice: str):
    spec = Spec(("a", "b"), (space,) * 2, (ActionHeads((2,)),) * 2)
    seed_diagnostics = SeedDiagnostics(CONFIG, (obs_reader(spec), state_reader(spec)))
    seen = rollout(torch.full((4, 2, 2, *space.shape), largest).to(spec.obs_dtype))
    note = seed_diagnostics.check_first(seen)
    assert re.match(advice, note) if advice else note == ""
    reason = [seed_diagnostics.check(seen, SKIPPED) for _ in range(PATIENCE)][-1]
    assert f"observations go up to {largest}, " in reason
    assert ("normalised observations" in reason) == bool(advice)


def test_the_note_is_shown_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plain = config(tmp_path / "run", 2)
    mappo.train(lambda: Large(1e3), replace(plain, run=replace(plain.run, progress="plain")))
    assert capsys.readouterr().out.count("from which networks learn badly") == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_statistics_take_no_number_that_is_not_finite(bad: float):
    value, seen = ValueNorm(), RunningNorm(3)
    value.update(torch.randn(50), torch.ones(50))
    seen.update(torch.randn(50, 3), torch.ones(50))
    kept = [x.clone() for x in (*value.buffers(), *seen.buffers())]
    returns, rows = torch.randn(50), torch.randn(50, 3)
    returns[7], rows[7, 1] = bad, bad
    value.update(returns, torch.ones(50))
    seen.update(rows, torch.ones(50))
    assert all(torch.equal(a, b) for a, b in zip(kept, (*value.buffers(), *seen.buffers()), strict=True))


def test_evaluations_that_take_most_of_the_time_are_told_once():
    watches = Diagnostics(CONFIG, SPEC)
    assert not watches.check_evaluation_time(10, 19, 64)  # so early starts weigh too much
    told = watches.check_evaluation_time(2, 24, 64)
    assert told.startswith("evaluations took 50% of the time: raise --run.eval-interval above 100,000 steps")
    assert told.endswith("lower --run.eval-episodes below 64"), "of those played, whatever the limit"
    assert not watches.check_evaluation_time(20, 44, 64)
    assert not Diagnostics(CONFIG, SPEC).check_evaluation_time(9.9, 20, 64)


def test_what_is_told_of_evaluations_is_what_helps():
    large = replace(CONFIG, env=EnvConfig(num_envs=50_000), run=RunConfig(eval_episodes=1))
    told = Diagnostics(large, SPEC).check_evaluation_time(
        20, 30, 1
    )  # an update is 200,000 steps, and each is evaluated once at most
    assert told == "evaluations took 67% of the time: raise --run.eval-interval above 200,000 steps"


def test_what_evaluations_take_is_told_while_others_are_to_come(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watch, "SOON", 0.0)
    monkeypatch.setattr(watch, "MOST_EVALUATED", 1e-9)
    for updates, times in ((1, 0), (3, 1)):
        plain = config(tmp_path / str(updates), updates)
        mappo.train(lambda: Large(), replace(plain, run=replace(plain.run, progress="plain", eval_interval=1)))
        assert capsys.readouterr().out.count("evaluations took ") == times


@pytest.mark.parametrize(
    ("reward", "shared", "is_told"), [("agent", False, True), ("agent", True, False), ("team", False, False)]
)
def test_a_reward_that_nobody_learns_of_is_told_once(reward: Any, shared: bool, is_told: bool):
    """The second agent is not there, and is paid at the third step of the second episode of environment 1."""
    seen = rollout(torch.ones(4, 2, 2, 3), 0.0)
    seen.reward[3, 1, 1] = 10
    seen.terminated = torch.zeros(4, 2, 2, dtype=torch.bool)
    seen.ended = torch.tensor([[False, True], [False, False], [False, False], [True, False]])
    spec = Spec(("a", "b"), (Box(0, 1, (3,)),) * 2, (ActionHeads((2,)),) * 2, shared_reward=shared)
    watch = Diagnostics(replace(CONFIG, env=EnvConfig(num_envs=2, reward=reward)), spec)
    notes = watch.check_first(seen)
    assert [note.startswith("b received the reward 10 at step 3 of an episode") for note in notes] == [True] * is_told
    assert watch.check_first(seen) == []
