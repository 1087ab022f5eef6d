"""The benchmark scripts: that they do the work they say, reckon right and write what they found."""

import csv
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mappo.workload import Spent, reference

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script, as `python benchmarks/NAME.py` finds its neighbours."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)

    def loaded(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield loaded
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_are_added_to_a_table_of_the_same_columns(load: Any, tmp_path: Path):
    append = load("record").append
    path = tmp_path / "new" / "table.csv"
    append(path, [{"a": 1, "b": "x, y"}])
    append(path, [{"a": 2, "b": None}, {"a": 3, "b": 4.5}])
    assert path.read_text() == 'a,b\n1,"x, y"\n2,\n3,4.5\n'
    with pytest.raises(SystemExit, match="has other columns than these rows: move it away, or give another --out"):
        append(path, [{"b": 1, "a": 2}])
    assert len(table(path)) == 3


def test_numbers_are_recorded_with_where_and_how_they_arose(load: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", [str(FOLDER / "speed.py"), "--out", "a b"])
    found = load("record").circumstances()
    assert found["command"] == "python benchmarks/speed.py --out 'a b'"
    assert {"date", "commit", "dirty", "cpu", "cores", "load", "torch", "python"} <= set(found)
    with (FOLDER / "results" / "speed.csv").open() as file:
        assert file.readline().startswith(",".join(found))  # older rows stay comparable


def test_both_learners_of_the_speed_benchmark_have_the_same_settings(load: Any):
    speed = load("speed")
    for recipe in speed.RECIPES:
        config = reference(recipe, speed.ENVS)
        ppo, full = config.ppo, recipe == "full"
        assert (ppo.rollout_length, ppo.epochs, ppo.minibatches) == (speed.STEPS, speed.EPOCHS, speed.MINIBATCHES)
        assert config.network.hidden == (speed.HIDDEN, speed.HIDDEN)
        assert (ppo.gamma, ppo.gae_lambda, ppo.clip_ratio) == (speed.GAMMA, speed.LAMBDA, speed.CLIP)
        assert (ppo.entropy_weight, ppo.max_grad_norm, ppo.adam_eps) == (speed.ENTROPY, speed.GRAD_NORM, speed.ADAM_EPS)
        assert ppo.actor_lr == ppo.critic_lr == speed.LR
        assert (ppo.value_clip, ppo.huber_delta) == ((speed.VALUE_CLIP, speed.HUBER) if full else (None, None))
        assert (ppo.value_norm, config.network.layer_norm) == (full, full)


def test_ratios_of_the_speed_benchmark_are_taken_within_each_round(load: Any):
    slow = [Spent(2, 3), Spent(20, 30), Spent(6, 9)]
    quick = [Spent(1, 3), Spent(4, 4), Spent(2, 5)]
    base, own = load("speed").summary({"straightforward": slow, "mappo": quick})
    assert (base["ratio"], base["cpu_s_per_1k"]) == (1, 6)
    assert (own["ratio"], own["ratio_min"], own["ratio_max"]) == (3, 2, 5)
    assert (own["cpu_s_per_1k"], own["cpu_s_min"], own["cpu_s_max"], own["wall_s_per_1k"]) == (2, 1, 4, 4)


@pytest.mark.parametrize("system", ["straightforward", "mappo", "bare products"])
def test_each_system_of_the_speed_benchmark_plays_the_same_game(
    load: Any, system: str, monkeypatch: pytest.MonkeyPatch
):
    speed = load("speed")
    monkeypatch.setattr(speed, "EPOCHS", 1)
    result = speed.SYSTEMS[system]("plain", 1)()
    assert result == 0 if system == "bare products" else -100 < result < -60  # random play, before it learns
