"""A run that is loaded from its directory is the run that was trained."""

import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

import mappo
from mappo.config import RunConfig
from mappo.errors import UserError
from mappo.training.run import Run, load_run
from mappo.training.train import train
from training_runs import CONFIG, SIZE, UPDATES, stop_after, within


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "run"
    return train("spread", within(CONFIG, path, keep_every=SIZE))


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "seeds"
    return train("spread", within(CONFIG, path, seeds=2, seed=5), callback=stop_after(4))


@pytest.mark.parametrize("kind", ["trained", "seeds"])
def test_a_loaded_run_is_the_run_that_was_trained(kind: str, request: pytest.FixtureRequest):
    run: Run = request.getfixturevalue(kind)
    loaded = mappo.load_run(str(run.path))
    assert replace(loaded, allow_code=True) == run
    assert loaded.finished == run.finished == (kind == "trained")
    for name, values in run.metrics.items():
        np.testing.assert_array_equal(values, loaded.metrics[name])
    assert loaded.evaluate(3) == run.evaluate(3)
    assert len(fields(Run)) == 5  # each is compared above


def test_a_dict_changes_the_preset(tmp_path: Path):
    settings = {"run.dir": tmp_path / "run", "run.total-steps": 3200, "run": {"progress": "off"}, "ppo.epochs": 2}
    run = train("spread", settings)
    preset = mappo.preset("spread")
    changed = RunConfig(dir=str(tmp_path / "run"), total_steps=3200, progress="off")
    assert run.config == replace(preset, ppo=replace(preset.ppo, epochs=2), run=changed)
    assert load_run(run.path) == replace(run, allow_code=False)
    for wrong, message in (
        ({"ppo.epoch": 3}, r"^unknown option ppo\.epoch; did you mean 'ppo\.epochs'\?$"),
        ({"ppo.epochs": 3.5}, r"^ppo\.epochs must be of type int, got 3\.5$"),
        (["ppo.epochs"], r'or a dict such as {"ppo\.epochs": 10}; got list$'),
    ):
        with pytest.raises(UserError, match=message):
            train("spread", wrong)


def test_a_loaded_run_is_scored_by_any_checkpoint_that_is_there(trained: Run):
    run = load_run(trained.path)
    assert run.checkpoints == [2 * SIZE, 4 * SIZE, UPDATES * SIZE]
    result = run.evaluate(3, checkpoint=2 * SIZE)
    assert (result["step"], result["checkpoint"]) == (2 * SIZE, str(2 * SIZE))
    assert result["scores"] != run.evaluate(3)["scores"]
    with pytest.raises(
        UserError, match=f"no checkpoint of step 7; there are {2 * SIZE}, {4 * SIZE}, {UPDATES * SIZE}$"
    ):
        run.evaluate(3, checkpoint=7)
    early, late = (mappo.load_actor(run.path, checkpoint=step) for step in (2 * SIZE, "last"))
    weights = [actor.policy.network.state_dict()["head.weight"] for actor in (early, late)]
    assert not weights[0].equal(weights[1])


def test_of_several_seeds_one_is_named(seeds: Run):
    run = load_run(seeds.path)
    assert [path.name for path in run.seed_paths] == ["seed-5", "seed-6"]
    assert run.seed(6) == load_run(run.path / "seed-6")
    assert set(run.seed(6).metrics["seed"]) == {6}
    assert run.checkpoints == run.seed(5).checkpoints == [2 * SIZE, 4 * SIZE]
    mappo.load_actor(run.seed(5).path)
    with pytest.raises(UserError, match=r"has no seed 7; it has 5, 6$"):
        run.seed(7)
    with pytest.raises(UserError, match=r"holds 2 seeds: name one, such as .*seed-5"):
        mappo.load_actor(run.path)


def test_a_run_without_a_checkpoint_and_a_folder_that_is_no_run(trained: Run, tmp_path: Path):
    (tmp_path / "config.json").write_bytes((trained.path / "config.json").read_bytes())
    run = load_run(tmp_path)
    assert (run.step, run.finished, run.checkpoints, run.metrics) == (0, False, [], {})
    with pytest.raises(UserError, match="is not a run directory"):
        load_run(tmp_path / "other")
    for load in (load_run, mappo.load_actor):
        with pytest.raises(UserError, match="expected the path of a directory, got 5"):
            load(5)  # type: ignore[arg-type]


def test_a_file_does_not_choose_the_code_that_is_imported(trained: Run, tmp_path: Path):
    run = load_run(shutil.copytree(trained.path, tmp_path / "run"))
    file = run.path / "config.json"
    file.write_text(file.read_text().replace('"env": "spread"', '"env": "antigravity:fly"'))
    with pytest.raises(UserError, match=r"names code to import, antigravity:fly.*allow_code=True"):
        run.evaluate(1)


def test_the_package_has_no_evaluate_and_says_what_has():
    with pytest.raises(AttributeError, match=r"has no attribute 'evaluate'; .*load_run\(path\)\.evaluate\(\)"):
        _ = mappo.evaluate
    assert not hasattr(mappo, "evaluate")
