"""Laws 7 and 13, and all that a run leaves behind."""

import csv
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mpe2 import simple_spread_v3
from torch import Tensor

import mappo
from chaos import Chaos
from games import Game
from mappo.backend import matmul
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.core.protocols import Environment
from mappo.core.seeding import derive_seed
from mappo.core.timestep import TimeStep
from mappo.envs.batched.spread import Spread
from mappo.envs.probes.basic import Signal
from mappo.errors import StopTraining, UserError
from mappo.evaluation import score_run as evaluate
from mappo.evaluation.episodes import play_episodes
from mappo.evaluation.options import SELECT_SEED, EvaluateOptions
from mappo.runs import checkpoint, directory as rundir
from mappo.runs.logger import Update
from mappo.system.shutdown import Interrupts
from mappo.training import train as trainer
from mappo.training.run import Run
from mappo.training.train import train
from training_runs import CONFIG, SETTINGS, SIZE, UPDATES, StopAtCheck, assert_same, everything, stop_after, within
from vectorized import from_factory


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Runs that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return {name: train("spread", within(config, folder / name)) for name, config in SETTINGS.items()}


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing a curve and the baselines beside it takes longer than these runs."""
    monkeypatch.setattr("mappo.training.session.draw_curve", lambda *_: None)
    monkeypatch.setattr("mappo.training.evaluator.Evaluator.measure_at_end", lambda *_: {})


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(("name", "count"), [("team", 1), ("team", 3), ("team", 4), ("agent", 3), ("memory", 3)])
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(
    whole: dict[str, Run], tmp_path: Path, name: str, count: int
):
    config = within(SETTINGS[name], tmp_path / "run")
    half = train("spread", config, callback=stop_after(count))
    assert half.step == count * SIZE
    assert not half.finished
    assert len(half.metrics["step"]) == count
    torch.manual_seed(123)  # nothing global matters
    rest = train("spread", config, resume=True)
    assert rest.finished
    assert_same(whole[name].path, rest.path)


# An update has 10 checks in its rollout, 4 before its gradient steps (2 in "agent"), and 1 behind it.
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("name", "number", "updates"),
    [("team", 1, 0), ("team", 14, 0), ("team", 28, 1), ("agent", 25, 1), ("memory", 6, 0), ("memory", 67, 2)],
)
def test_a_run_that_was_stopped_within_an_update_goes_on_from_the_last_finished_one(
    whole: dict[str, Run], tmp_path: Path, name: str, number: int, updates: int
):
    config = within(SETTINGS[name], tmp_path / "run")
    half = train("spread", config, stop=StopAtCheck(number))
    assert half.step == updates * SIZE
    assert checkpoint.load(half.path).state["updates"] == updates
    assert half.metrics["update"].tolist() == [*range(1, updates + 1)] if updates else not half.metrics
    train("spread", config, resume=True)
    assert_same(half.path, whole[name].path)


@pytest.mark.usefixtures("no_pictures")
def test_new_episodes_go_on_the_same_way_wherever_a_run_was_stopped(tmp_path: Path):
    """In an environment without `state_dict`: within a rollout and an update, as behind the update before."""
    config = Config(
        env=EnvConfig(num_envs=2, workers=0),
        network=NetworkConfig(hidden=(8,)),
        ppo=PPOConfig(rollout_length=8, epochs=2, minibatches=2),
        run=RunConfig(total_steps=64, eval_interval=32, eval_episodes=2, progress="off"),
    )
    texts: list[bytes] = []
    # An update has 16 checks in its rollout of two halves, 4 before its gradient steps, and 1 behind it.
    for number in (21 + 5, 21 + 16, 21 + 18):
        stopped = within(config, tmp_path / str(number))
        assert train(Game, stopped, stop=StopAtCheck(number)).step == 16
        texts.append((train(Game, stopped, resume=True).path / "metrics.csv").read_bytes())
    assert texts[1:] == texts[:-1]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("resume", [False, True])
def test_a_first_reset_that_hangs_may_be_interrupted(resume: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So are all resets and steps of an environment without `state_dict`: no exception there would lose anything."""
    config = replace(CONFIG, env=EnvConfig(num_envs=2, workers=0), run=replace(CONFIG.run, eval_episodes=2))
    interrupts = Waiting()
    reset = Game.reset

    def checked(*args: Any, **kwargs: Any) -> Any:
        assert interrupts.is_waiting
        return reset(*args, **kwargs)

    config = within(config, tmp_path / "run", total_steps=60, eval_interval=1000)
    if resume:
        train(Game, config, callback=stop_after(1))
    monkeypatch.setattr(Game, "reset", checked)
    assert train(Game, config, stop=interrupts, resume=resume).finished


class Waiting(Interrupts):
    """Knows whether it is waited for an environment, where an exception would lose nothing."""

    is_waiting = False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        self.is_waiting = True
        yield
        self.is_waiting = False


def test_a_time_limit_ends_an_update(whole: dict[str, Run], tmp_path: Path):
    config = within(SETTINGS["team"], tmp_path / "run")
    with pytest.warns(UserWarning, match=r"run\.time-limit 1e-09 min ended before a single update .*: raise run\.time"):
        assert train("spread", replace(config, run=replace(config.run, time_limit=1e-9))).step == 0
    train("spread", config, resume=True)
    assert_same(tmp_path / "run", whole["team"].path)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
@pytest.mark.parametrize(("when", "minibatches"), [("reset", 1), ("reset", 2), ("step", 2)])
def test_an_environment_that_turns_gradients_off_trains_all_the_same(
    mode: str, when: str, minibatches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = Config(
        env=EnvConfig(num_envs=2, workers=0),
        network=NetworkConfig(hidden=(8,)),
        ppo=PPOConfig(rollout_length=8, epochs=2, minibatches=minibatches),
        run=RunConfig(total_steps=32, eval_episodes=2, progress="off"),
    )
    whole = train(Game, within(config, tmp_path / "whole"))
    method = getattr(Game, when)
    with ExitStack() as stack:

        def turns_off(*args: Any, **kwargs: Any) -> Any:
            stack.enter_context(getattr(torch, mode)())
            return method(*args, **kwargs)

        monkeypatch.setattr(Game, when, turns_off)
        run = train(Game, within(config, tmp_path / "run"))
        assert not torch.is_grad_enabled()
    torch.set_grad_enabled(True)  # turned off within the collector's own `no_grad`, the context restores "off"
    assert (run.path / "metrics.csv").read_bytes() == (whole.path / "metrics.csv").read_bytes()


@pytest.mark.usefixtures("no_pictures")
def test_a_run_that_crashed_between_checkpoints_repeats_what_was_lost(whole: dict[str, Run], tmp_path: Path):
    config = within(CONFIG, tmp_path / "run")
    with pytest.raises(ZeroDivisionError):
        train("spread", config, callback=stop_after(5, ZeroDivisionError))
    assert checkpoint.load(tmp_path / "run").state["updates"] == 4
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 1 + 5
    train("spread", config, resume=True)
    assert_same(whole["team"].path, tmp_path / "run")


@pytest.mark.usefixtures("no_pictures")
def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before(whole: dict[str, Run], tmp_path: Path):
    config = within(CONFIG, tmp_path / "run")
    train("spread", config, callback=stop_after(5))
    file = checkpoint.load(tmp_path / "run").path / "trainer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert checkpoint.load(tmp_path / "run").state["updates"] == 4
    train("spread", config, resume=True)
    assert_same(whole["team"].path, tmp_path / "run")


@pytest.mark.usefixtures("no_pictures")
def test_numbers_are_the_same_for_the_same_seed_and_others_for_another(whole: dict[str, Run], tmp_path: Path):
    train("spread", within(CONFIG, tmp_path / "again", threads=1))
    assert_same(whole["team"].path, tmp_path / "again")
    other = train("spread", within(CONFIG, tmp_path / "other", seed=2)).metrics
    for name in ("return_sum", "eval_return", "policy_loss", "value_loss", "entropy", "grad_norm_actor", "value"):
        assert not np.array_equal(whole["team"].metrics[name], other[name], equal_nan=True), name


@pytest.mark.usefixtures("no_pictures")
def test_a_finished_run_that_is_resumed_stays_as_it_is(whole: dict[str, Run], tmp_path: Path):
    config = within(CONFIG, tmp_path / "run")
    train("spread", config)
    again = train("spread", config, resume=True)
    assert again.finished
    assert again.step == UPDATES * SIZE
    assert_same(whole["team"].path, again.path)


@pytest.mark.usefixtures("no_pictures")
def test_settings_that_change_no_number_may_change_on_resume(
    whole: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # more would change the last bits
    train("spread", within(CONFIG, tmp_path / "run"), callback=stop_after(3))
    train("spread", within(CONFIG, tmp_path / "run", threads=2, device="cpu", progress="plain"), resume=True)
    assert_same(whole["team"].path, tmp_path / "run")


def test_a_run_leaves_all_its_files(whole: dict[str, Run]):
    path = whole["team"].path
    assert {p.name for p in path.iterdir()} == {
        *("config.json", "metrics.csv", "timing.csv", "returns.csv", "checkpoints", "tensorboard"),
        *("curve.png", ".lock"),
    }
    assert {p.name for p in (path / "checkpoints").iterdir()} >= {f"{4 * SIZE:012d}", f"{6 * SIZE:012d}"}
    assert len(list((path / "tensorboard").glob("events.out.tfevents.*"))) == 1
    assert (path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert rundir.read_run(path)[:2] == ("spread", within(CONFIG, path))
    json.loads((path / "config.json").read_text())


def test_metrics_are_the_columns_of_the_file(whole: dict[str, Run]):
    metrics = whole["team"].metrics
    with open(whole["team"].path / "metrics.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(metrics) == list(rows[0])
    assert list(metrics)[:3] == ["seed", "update", "step"]
    assert metrics["seed"].tolist() == [1] * UPDATES
    assert metrics["update"].tolist() == [1, 2, 3, 4, 5, 6]
    assert metrics["step"].tolist() == [SIZE * n for n in range(1, 7)]
    assert np.isnan(metrics["eval_return"]).tolist() == [True, False] * 3
    # Games of 25 steps seen through rollouts of 10 end in the third and the fifth.
    assert metrics["episodes"].tolist() == [0, 0, 8, 0, 8, 0]
    assert metrics["episode_length"][[2, 4]].tolist() == [25, 25]
    assert np.isnan(metrics["return_sum"]).tolist() == [True, True, False, True, False, True]
    assert metrics["actor_lr"][0] == pytest.approx(5e-3)
    assert metrics["actor_lr"][-1] == pytest.approx(5e-3 * (1 - 0.9 * 5 / 6))
    for name in ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "explained_variance"):
        assert np.isfinite(metrics[name]).all(), name


def test_clock_times_are_kept_apart_from_the_numbers(whole: dict[str, Run]):
    with open(whole["team"].path / "timing.csv", newline="") as stream:
        names, *rows = list(csv.reader(stream))
    assert names == ["update", "step", "collect_s", "update_s", "cpu_s", "elapsed_s", "steps_per_second"]
    assert len(rows) == UPDATES
    assert all(float(x) > 0 for row in rows for x in row)
    assert not set(names[2:]) & set(whole["team"].metrics)


def test_the_saved_policy_plays_as_the_one_that_was_evaluated(whole: dict[str, Run]):
    for name, run in whole.items():
        sums = play_episodes(
            Spread(256), mappo.load_actor(run.path), range(SELECT_SEED, SELECT_SEED + 256)
        ).team_returns
        assert float(sums.mean()) == run.metrics["eval_return"][-1], name


def test_best_points_to_the_best_evaluation(whole: dict[str, Run]):
    for run in whole.values():
        best = checkpoint.load(run.path, "best").state
        column = run.metrics["eval_return"]
        assert best["eval_return"] == np.nanmax(column)
        assert best["step"] == run.metrics["step"][np.nanargmax(column)]


def test_a_run_evaluates_its_policy(whole: dict[str, Run]):
    run = whole["team"]
    result = run.evaluate(64)
    about = {"env": "spread", "policy": "greedy", "checkpoint": "last", "episodes": 64}
    assert {k: result[k] for k in about} == about
    assert result == evaluate.evaluate_run(run.path, EvaluateOptions(64))
    other = run.evaluate(64, env=Spread(10))
    assert other["return_sum"]["mean"] == pytest.approx(result["return_sum"]["mean"]), "whatever the batch"
    assert run.evaluate(64, checkpoint="best")["checkpoint"] == "best"
    assert run.evaluate(64, sampled=True)["return_sum"] != result["return_sum"]
    with pytest.raises(
        UserError, match=r"was trained in another environment: the agents are .*agent_2.* there and .* here"
    ):
        run.evaluate(4, env=Spread(4, num_agents=2))
    with pytest.raises(UserError, match="episodes must be at least 1, got 0"):
        run.evaluate(0)


@pytest.mark.usefixtures("no_pictures")
def test_the_callback_gets_each_update_in_order(tmp_path: Path):
    updates: list[Update] = []
    run = train("spread", within(CONFIG, tmp_path / "run"), callback=updates.append)
    assert [u.index for u in updates] == [1, 2, 3, 4, 5, 6]
    assert [u.step for u in updates] == [SIZE * n for n in range(1, 7)]
    assert {u.total_steps for u in updates} == {SIZE * UPDATES}
    for name, column in run.metrics.items():
        if name not in ("seed", "update", "step"):
            assert np.array_equal([u.metrics[name] for u in updates], column, equal_nan=True), name


@pytest.mark.usefixtures("no_pictures")
def test_a_checkpoint_is_there_when_the_callback_hears_of_its_update(tmp_path: Path):
    saved: list[int] = []

    def callback(update: Update) -> None:
        if not math.isnan(update.metrics["eval_return"]):
            saved.append(checkpoint.load(tmp_path / "run").state["step"])

    train("spread", within(CONFIG, tmp_path / "run"), callback=callback)
    assert saved == [2 * SIZE, 4 * SIZE, 6 * SIZE]


@pytest.mark.usefixtures("no_pictures")
def test_steps_are_rounded_up_to_whole_updates(tmp_path: Path):
    run = train("spread", within(CONFIG, tmp_path / "run", total_steps=SIZE + 1))
    assert run.step == 2 * SIZE
    assert run.finished
    assert np.isfinite(run.metrics["eval_return"]).tolist() == [False, True], "the last one is always evaluated"


@pytest.mark.usefixtures("no_pictures")
def test_with_progress_off_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    train("spread", within(CONFIG, tmp_path / "run", total_steps=SIZE))
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("error", [StopTraining, ZeroDivisionError])
def test_the_number_of_threads_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]):
    calls: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", calls.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    with suppress(ZeroDivisionError):
        train("spread", within(CONFIG, tmp_path / "run", threads=3), callback=stop_after(1, error))
    assert calls == [3, 5]


def small(path: Path, num_envs: int = 2, length: int = 4, **run: Any) -> Config:
    return replace(
        CONFIG,
        env=EnvConfig(num_envs=num_envs, workers=0),  # processes take seconds to start
        ppo=PPOConfig(rollout_length=length, epochs=1),
        run=replace(CONFIG.run, dir=str(path), eval_episodes=2, **{"total_steps": 2 * num_envs * length, **run}),
    )


def par() -> Any:
    return simple_spread_v3.parallel_env(max_cycles=3)


@pytest.mark.usefixtures("no_pictures")
def test_a_function_that_makes_an_environment_trains(tmp_path: Path):
    run = train(par, small(tmp_path / "run"))
    assert run.env == "custom/par"
    assert run.finished
    assert run.metrics["episode_length"].tolist() == [3, 3]
    assert np.isfinite(run.metrics["eval_return"][-1])
    actor = mappo.load_actor(run.path)
    obs, _ = par().reset(seed=1)
    assert actor(torch.as_tensor(obs["agent_0"]))[0].shape == (1,)


def test_a_function_called_as_an_environment_is_not_taken_for_it(tmp_path: Path):
    """Spread's planner could not read what this one shows, nor its preset fit."""

    def spread() -> Any:
        return simple_spread_v3.parallel_env(max_cycles=3, N=2)

    run = train(spread, small(tmp_path / "run"))
    assert run.env == "custom/spread"
    with pytest.raises(UserError, match="custom/spread has no name in mappo: give the environment"):
        run.evaluate(4)
    assert set(run.evaluate(4, env=from_factory(spread, 2))["baselines"]) == {"random"}


@pytest.mark.usefixtures("no_pictures")
def test_an_environment_that_cannot_be_saved_resumes_with_new_games(tmp_path: Path):
    config = small(tmp_path / "run", total_steps=32)
    train(par, config, callback=stop_after(2))
    run = train(par, config, resume=True)
    assert run.finished
    assert run.metrics["update"].tolist() == [1, 2, 3, 4]


def test_a_batched_environment_trains_in_its_own_size(tmp_path: Path):
    env = Signal(5)
    run = train(env, small(tmp_path / "run", num_envs=2, total_steps=60))
    assert run.config.env.num_envs == 5
    assert run.step == 60
    assert np.isnan(run.metrics["eval_return"]).all(), "there is no second one to evaluate in"
    assert run.evaluate(10, env=Signal(5))["episodes"] == 10
    again = train(Signal(5), small(tmp_path / "run", num_envs=2, total_steps=60), resume=True)
    assert again.finished


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("reward", ["team", "agent"])
def test_deaths_masks_and_states_train(tmp_path: Path, reward: Any):
    config = small(tmp_path / "run", total_steps=100)
    metrics = train(Chaos(5), replace(config, env=EnvConfig(reward=reward))).metrics
    for name in ("policy_loss", "value_loss", "entropy", "grad_norm_actor", "grad_norm_critic"):
        assert np.isfinite(metrics[name]).all(), name


@pytest.mark.usefixtures("no_pictures")
def test_a_single_environment_trains_with_a_warning(tmp_path: Path):
    env, closed = par(), list[int]()
    env.close = lambda: closed.append(1)
    with pytest.warns(UserWarning, match="trains alone: slowly, .* give a function that makes an environment") as told:
        run = train(env, small(tmp_path / "run"))
    assert run.config.env.num_envs == 1
    assert not closed, "what was given is the caller's to close"
    assert told[0].filename == __file__, "the warning points to the caller"


def test_what_is_no_environment_is_told(tmp_path: Path):
    with pytest.raises(UserError, match="list: this is not an environment of PettingZoo's Parallel API"):
        train(list, small(tmp_path / "run"))
    with pytest.raises(UserError, match="unknown environment 'spraed'; did you mean 'spread'"):
        train("spraed", small(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_an_existing_directory_is_refused_unless_resumed(whole: dict[str, Run], resume: bool):
    run = whole["team"]
    before = everything(run.path)[0]
    if resume:
        changed = replace(CONFIG, ppo=replace(CONFIG.ppo, gamma=0.5, epochs=3))
        with pytest.raises(UserError) as told:
            train("spread", within(changed, run.path, seed=4), resume=True)
        text = str(told.value)
        for name in (
            "ppo.gamma 0.99, not 0.5",
            "ppo.epochs 2, not 3",
            "run.seed 1, not 4",
            "to continue with the settings in its config.json",
        ):
            assert name in text
        assert "run.progress" not in text
    else:
        with pytest.raises(UserError, match=f"^{run.path} exists"):
            train("spread", within(CONFIG, run.path))
    assert everything(run.path)[0] == before


def test_a_run_of_another_environment_is_not_resumed(whole: dict[str, Run]):
    with pytest.raises(UserError, match="env spread, not probe/signal"):
        train("probe/signal", within(CONFIG, whole["team"].path), resume=True)


def test_to_resume_a_run_must_be_named_and_there(tmp_path: Path):
    with pytest.raises(UserError, match=r"to resume, name the run: --run\.name or --run\.dir"):
        train("spread", CONFIG, resume=True)
    with pytest.raises(UserError, match=r"is not a run directory: there is no config\.json in it"):
        train("spread", within(CONFIG, tmp_path / "nowhere"), resume=True)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.usefixtures("no_pictures")
def test_runs_without_a_name_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    config = replace(CONFIG, run=replace(CONFIG.run, total_steps=SIZE))
    assert [train("spread", config).path for _ in range(2)] == [tmp_path / "runs/spread-1", tmp_path / "runs/spread-2"]
    assert train("probe/signal", config).path == tmp_path / "runs/probe-signal-1"
    alone = replace(config, env=EnvConfig(num_envs=1, workers=0), ppo=replace(config.ppo, minibatches=1))
    assert train(lambda: par(), alone).path == tmp_path / "runs/custom-lambda-1"
    named = replace(config, run=replace(config.run, name="mine"))
    assert train("spread", named).path == tmp_path / "runs/mine"


class Broken(Spread):
    """The second agent's reward is NaN in environment 3, at the seventh step."""

    calls = 0

    def step(self, action: Tensor) -> TimeStep:
        step = super().step(action)
        self.calls += 1
        if self.calls == 7:
            step.reward[3, 1] = math.nan
        return step


def test_a_reward_that_is_not_finite_ends_the_run_naming_its_source(tmp_path: Path):
    env = Broken(8)
    assert isinstance(env, Environment)
    with pytest.raises(UserError) as told:
        train(env, within(CONFIG, tmp_path / "run"))
    text = str(told.value)
    assert "\n" not in text
    for part in ("reward of agent_1 is nan", "environment 3 of 8", "step 6 of the rollout", "after action ["):
        assert part in text


def test_seeds_of_each_purpose_are_independent():
    paths = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (1, 2, 3), (1, 2, 4)]
    assert len({derive_seed(*path) for path in paths}) == len(paths)
    assert derive_seed(1, 2, 3) == derive_seed(1, 2, 3)


def test_a_device_that_is_not_there_is_told():
    if torch.cuda.is_available():
        assert trainer.choose_device("cuda").type == trainer.choose_device("auto").type == "cuda"
    else:
        with pytest.raises(UserError, match=r"run\.device cuda: torch finds no CUDA device here"):
            trainer.choose_device("cuda")
        assert trainer.choose_device("auto").type == "cpu"
    assert trainer.choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("first", "second", "has_avx512"), [("onednn", "mkl", True), ("mkl", "onednn", True), ("onednn", "mkl", False)]
)
def test_a_run_resumed_on_another_processor_multiplies_as_before(
    first: str, second: str, has_avx512: bool, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
):
    config = within(replace(CONFIG, run=replace(CONFIG.run, progress="plain")), tmp_path / "run")
    used: list[Any] = []

    def stop(update: Update) -> None:
        used.append(matmul._library.get())  # pyright: ignore
        if update.index == 2:
            raise StopTraining

    monkeypatch.setattr(matmul, "best_library", lambda: first)
    train("spread", config, callback=stop)
    assert json.loads((checkpoint.load(tmp_path / "run").path / "state.json").read_text())["products"] == first
    monkeypatch.setattr(matmul, "best_library", lambda: second)
    monkeypatch.setattr(matmul, "has_onednn", lambda: has_avx512)
    train("spread", config, callback=stop, resume=True)
    assert set(used[:2]) == {first}
    assert set(used[2:]) == {first if has_avx512 else second}
    assert ("this processor lacks AVX-512" in capsys.readouterr().out) != has_avx512


def test_a_run_resumed_on_another_kind_of_device_goes_on_with_new_random_streams(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = within(replace(CONFIG, run=replace(CONFIG.run, progress="plain")), tmp_path / "run")

    def stop(update: Update) -> None:
        if update.index == 2:
            raise StopTraining

    train("spread", config, callback=stop)
    file = checkpoint.load(tmp_path / "run").path / "state.json"
    state = json.loads(file.read_text())
    assert state["device"] == "cpu"
    state["device"] = "cuda"
    state["sha256"]["state.json"] = checkpoint.digest_state(state)
    file.write_text(json.dumps(state))
    assert train("spread", config, resume=True).finished
    assert "resumed from cuda: random streams and episodes start anew" in capsys.readouterr().out
