"""Runs of several seeds: their directories, records, checkpoints and scores."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mappo
from games import Game
from mappo.cli.main import main
from mappo.config import Config, presets
from mappo.envs.batched.battle import Battle
from mappo.errors import UserError
from mappo.evaluation.options import SCORE_SEED, EvaluateOptions
from mappo.evaluation.score_run import evaluate_run
from mappo.evaluation.statistics import summarize
from mappo.networks import encoders
from mappo.networks.layers import Linear
from mappo.runs import checkpoint
from mappo.runs.scores import read_score
from mappo.training.diagnostics import SeedDiagnostics
from mappo.training.run import Run
from mappo.training.session import Session
from mappo.training.train import train
from training_runs import CONFIG, SETTINGS, SIZE, StopAtCheck, assert_same, stop_after, within

SEEDS = (1, 2, 3)


def seeds(config: Config, path: Path) -> Config:
    return within(config, path, seeds=len(SEEDS))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three seeds that nothing interrupted."""
    return train("spread", seeds(SETTINGS["memory"], tmp_path_factory.mktemp("whole") / "run"))


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch, whole: Run) -> None:
    """Drawing a curve and the baselines beside it takes longer than these runs."""
    monkeypatch.setattr(Session, "finish", Session.close)


def children(path: Path) -> list[Path]:
    return [path / f"seed-{k}" for k in SEEDS]


@pytest.mark.parametrize("number", [10 * 3 + 4 + 2, 43 + 10 * 3 + 4 + 2])
def test_seeds_stopped_when_some_have_learned_and_others_have_not_go_on_together(
    number: int, whole: Run, tmp_path: Path
):
    """Within the update of the second seed, in the first and in the second update of the run."""
    config = seeds(SETTINGS["memory"], tmp_path / "run")
    half = train("spread", config, stop=StopAtCheck(number))
    assert half.step == number // 43 * SIZE
    train("spread", config, resume=True)
    for own, other in zip(children(half.path), children(whole.path), strict=True):
        assert_same(own, other)


def test_each_seed_is_a_run_like_one_alone(whole: Run, tmp_path: Path):
    for seed, own in zip(SEEDS, children(whole.path), strict=True):
        alone = train("spread", within(SETTINGS["memory"], tmp_path / str(seed), seed=seed))
        mine = Run(own, "spread", alone.config, whole.step).metrics
        assert list(mine) == list(alone.metrics)
        for name, x in alone.metrics.items():
            np.testing.assert_allclose(mine[name], x, rtol=2e-3, atol=2e-3, err_msg=name)
        assert json.loads((own / "config.json").read_text())["config"]["run"]["seed"] == seed
        assert mappo.load_actor(own)


def test_the_runs_numbers_are_those_of_all_seeds(whole: Run):
    metrics = whole.metrics
    assert metrics["seed"].tolist() == [seed for seed in SEEDS for _ in range(6)]
    assert len(set(metrics["total_loss"].tolist())) == 18
    places = [checkpoint.load(own).trainer["collector.env.place"] for own in children(whole.path)]
    landmarks = {str(x[:, 3:].tolist()) for x in places}  # drawn, and not moved
    assert len(landmarks) == 3
    assert (whole.path / "curve.png").stat().st_size > 10_000
    assert whole.finished
    assert whole.step == 6 * SIZE


@pytest.mark.parametrize("count", [1, 3])
def test_stopped_and_resumed_all_seeds_are_what_they_would_have_been(whole: Run, tmp_path: Path, count: int):
    config = seeds(SETTINGS["memory"], tmp_path / "run")
    half = train("spread", config, callback=stop_after(count))
    assert not half.finished
    assert train("spread", config, resume=True).finished
    for a, b in zip(children(whole.path), children(tmp_path / "run"), strict=True):
        assert_same(a, b)


def test_where_the_process_died_between_two_saves_all_go_back_to_the_step_that_all_have(whole: Run, tmp_path: Path):
    config = seeds(SETTINGS["memory"], tmp_path / "run")
    train("spread", config, callback=stop_after(4))
    last = checkpoint.load(children(tmp_path / "run")[1]).path
    assert last.name == f"{4 * SIZE:012d}"
    shutil.rmtree(last)  # seeds 1 and 3 are ahead
    rest = train("spread", config, resume=True)
    assert rest.finished
    for a, b in zip(children(whole.path), children(tmp_path / "run"), strict=True):
        assert_same(a, b)
    shutil.rmtree(children(tmp_path / "run")[1] / "checkpoints")
    with pytest.raises(
        UserError, match=r"no checkpoint of seed-2, .* delete it and start it again; .* mappo resume .*seed-1$"
    ):
        train("spread", config, resume=True)
    with pytest.raises(UserError, match=r"exists: choose another .*, or go on with it: mappo resume .*seed-1$"):
        train("spread", config)


def test_a_damaged_checkpoint_takes_all_seeds_back(whole: Run, tmp_path: Path):
    config = seeds(SETTINGS["memory"], tmp_path / "run")
    train("spread", config, callback=stop_after(4))
    file = checkpoint.load(children(tmp_path / "run")[2]).path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    train("spread", config, resume=True)
    for a, b in zip(children(whole.path), children(tmp_path / "run"), strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("workers", [0, 2])
def test_python_environments_of_all_seeds_share_the_workers_and_no_episode(tmp_path: Path, workers: int):
    small = replace(CONFIG, env=replace(CONFIG.env, num_envs=4, workers=workers), network=replace(CONFIG.network))
    run = replace(small.run, total_steps=160, eval_interval=160, eval_episodes=4)
    small = replace(small, run=run)
    together = train(partial(Game, 5), seeds(small, tmp_path / "run"))
    for seed, own in zip(SEEDS, children(together.path), strict=True):
        alone = train(partial(Game, 5), within(small, tmp_path / str(seed), seed=seed))
        mine = Run(own, "custom/Game", alone.config, together.step).metrics
        for name, x in alone.metrics.items():
            np.testing.assert_allclose(mine[name], x, rtol=2e-3, atol=2e-3, err_msg=name)


def test_a_function_that_takes_num_envs_is_called_for_each_seed(tmp_path: Path):
    def make_env(num_envs: int) -> Any:
        made.append(num_envs)
        return Battle(num_envs, 2)

    made: list[int] = []
    train(make_env, seeds(replace(CONFIG, run=replace(CONFIG.run, eval_episodes=8)), tmp_path / "run"))
    assert made[:3] == [8, 8, 8]


def test_a_score_is_that_of_the_seeds_and_its_interval_is_over_them(whole: Run):
    result = whole.evaluate(64)
    kept = [read_score(own) for own in children(whole.path)]
    for k, score in enumerate(kept):
        assert score is not None
        assert (score.env, score.step, score.seed) == ("spread", whole.step, SCORE_SEED)
        assert score.returns == {name: result["scores"][name]["returns"][k] for name in ("greedy", "sampled")}
        assert score.baselines["random"] == result["baselines"]["random"]["returns"]
        assert len(score.baselines["random"]) == 64
        assert np.mean(score.returns["greedy"]) == pytest.approx(result["by_policy"][k])
    each = [evaluate_run(own, EvaluateOptions(64)) for own in children(whole.path)]
    means = [x["return_sum"]["mean"] for x in each]
    np.testing.assert_allclose(result["by_policy"], means, rtol=1e-9)
    assert result["return_sum"]["mean"] == pytest.approx(np.mean(means))
    assert result["return_sum"]["ci95"] == pytest.approx(summarize(np.array(means))["ci95"])
    assert result["baselines"]["random"]["mean"] == each[0]["baselines"]["random"]["mean"]
    difference = result["baselines"]["random"]["difference"]["mean"]
    assert difference == pytest.approx(np.mean([x["baselines"]["random"]["difference"]["mean"] for x in each]))
    assert "by_policy" not in each[0]


def test_the_command_line_resumes_scores_and_draws_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    # The original package takes 15 seconds for a score.
    monkeypatch.delitem(presets.TWINS, "spread")
    path = tmp_path / "run"
    train("spread", seeds(CONFIG, path), callback=stop_after(2))
    assert main(["resume", str(path), "--progress", "plain"]) == 0
    told = capfd.readouterr().out
    assert "seeds 1 to 3, mean" in told
    assert "intervals of the run are over its 3 seeds, those of the baselines over episodes" in told
    assert main(["evaluate", str(path), "--episodes", "8", "--json"]) == 0
    assert len(json.loads(capfd.readouterr().out)["by_policy"]) == 3
    assert main(["play", str(path), "--episodes", "1"]) == 0
    assert (path / "replay.gif").exists()
    assert main(["evaluate", str(path / "seed-2"), "--episodes", "8"]) == 0


def test_what_cannot_be_is_told(tmp_path: Path, whole: Run, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(UserError, match="give a name, or a function"):
        train(Battle(8, 2), seeds(CONFIG, tmp_path / "batched"))
    with pytest.raises(UserError, match="give a name, or a function"):
        train(Game(5), seeds(CONFIG, tmp_path / "single"))
    with pytest.raises(UserError, match=r"holds 3 seeds: name one, such as .*seed-1"):
        mappo.load_actor(whole.path)
    with pytest.raises(UserError, match=r"run.seeds 3, not 1"):
        train("spread", within(SETTINGS["memory"], whole.path), resume=True)
    assert main(["train", "spread", "--run.seeds", "0"]) == 2
    assert "run.seeds must be at least 1" in capfd.readouterr().err.replace("\n", " ")


def test_a_run_that_is_there_is_not_to_be_deleted(whole: Run):
    with pytest.raises(UserError, match="go on with it: mappo resume"):
        train("spread", seeds(SETTINGS["memory"], whole.path))


def test_a_seed_gone_on_with_by_itself_goes_back_with_the_others_or_says_that_it_cannot(whole: Run, tmp_path: Path):
    path = tmp_path / "run"
    config = seeds(SETTINGS["memory"], path)
    train("spread", config, callback=stop_after(2))
    own = within(SETTINGS["memory"], path / "seed-2", seed=2)
    train("spread", own, resume=True, callback=stop_after(4))
    train("spread", replace(config, run=replace(config.run, progress="plain")), resume=True)
    for a, b in zip(children(whole.path), children(path), strict=True):
        assert_same(a, b)
    shutil.rmtree(path)
    train("spread", config, callback=stop_after(2))
    assert train("spread", own, resume=True).finished
    shutil.rmtree(path / "seed-2" / "checkpoints" / "000000000160", ignore_errors=True)  # kept if it is the best
    with pytest.raises(
        UserError, match=r"no step in common any more \(seed-1 160, seed-2 480, seed-3 160\): go on with"
    ):
        train("spread", config, resume=True)


def test_a_run_that_was_never_begun_whole_says_so(tmp_path: Path):
    config = seeds(CONFIG, tmp_path / "run")
    train("spread", config, callback=stop_after(1))
    shutil.rmtree(tmp_path / "run" / "seed-3")
    with pytest.raises(UserError, match="seed-3 is missing"):
        train("spread", config, resume=True)


class Frozen(torch.nn.Module):
    """A layer that learns behind one that does not."""

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fixed, self.free = Linear(groups, inputs, outputs), Linear(groups, outputs, outputs)
        self.fixed.requires_grad_(False)

    def forward(self, x: Any) -> Any:
        return self.free(torch.tanh(self.fixed(x)))


def test_what_an_encoder_does_not_learn_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(
        encoders.ENCODERS, "frozen", lambda groups, shape, net: Frozen(groups, shape[0], net.hidden[-1])
    )
    ppo = replace(CONFIG.ppo, weight_decay=0.1)
    config = replace(CONFIG, network=replace(CONFIG.network, encoder="frozen"), ppo=ppo)
    together = train("spread", seeds(config, tmp_path / "run"))
    for seed, own in zip(SEEDS, children(together.path), strict=True):
        alone = train("spread", within(config, tmp_path / str(seed), seed=seed))
        mine, other = checkpoint.load(own).model, checkpoint.load(alone.path).model
        assert mine.keys() == other.keys()
        fixed = "network.actor.encoder.fixed.weight"
        assert torch.equal(mine[fixed], other[fixed])
        for name, x in other.items():
            torch.testing.assert_close(mine[name], x, rtol=1e-2, atol=1e-2)


def test_an_encoder_that_cannot_be_computed_for_many_trains_in_turn_and_is_refused_where_all_learn_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Asks(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x if x.sum() > 0 else -x)

    monkeypatch.setitem(encoders.ENCODERS, "asks", lambda groups, shape, net: Asks(shape[0], net.hidden[-1]))
    config = replace(CONFIG, network=replace(CONFIG.network, encoder="asks"))
    assert train("spread", seeds(config, tmp_path / "in turn")).finished
    monkeypatch.setattr("mappo.algorithms.mappo.supports_cuda_graphs", lambda _device: True)  # as on a GPU
    with pytest.raises(UserError, match=r"network.encoder asks cannot be computed for several seeds at once \("):
        train("spread", replace(whole := seeds(config, tmp_path / "run"), run=replace(whole.run, graphs=False)))
    assert not (tmp_path / "run").exists(), "refused before the directory is made"


def test_one_seed_that_learns_nothing_any_more_does_not_end_the_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    class Lost(SeedDiagnostics):
        def check(self, rollout: Any, metrics: Any, spoilt: str = "") -> str:
            assert rollout.reward.shape[1] == 8, "of one seed alone"
            return "nothing was learned" if metrics["actor_lr"] and self in lost else ""

    lost: list[SeedDiagnostics] = []

    def make(config: Config, readers: Any) -> SeedDiagnostics:
        watch = Lost(config, readers)
        if len(made) in which:
            lost.append(watch)
        made.append(watch)
        return watch

    made: list[SeedDiagnostics] = []
    which = {1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mappo.training.diagnostics.SeedDiagnostics", make)
        config = seeds(CONFIG, tmp_path / "run")
        run = train("spread", replace(config, run=replace(config.run, progress="plain")))
        assert run.finished
        assert capfd.readouterr().out.count("seed 2: nothing was learned. The other seeds go on") == 1
        made.clear()
        which.update((0, 2))
        with pytest.raises(UserError, match="nothing was learned"):
            train("spread", seeds(CONFIG, tmp_path / "all"))
    assert checkpoint.load(tmp_path / "all" / "seed-1").state["updates"] == 1


def test_seeds_have_an_end(tmp_path: Path):
    with pytest.raises(UserError, match=r"go beyond 2\^63"):
        replace(CONFIG.run, seed=2**63 - 1, seeds=2)
    with pytest.raises(UserError, match=r"run\.seeds must be at most 100"):
        replace(CONFIG.run, seeds=101)
