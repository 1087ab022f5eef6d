"""The benchmark scripts: that they do the work they say, reckon right and write what they found."""

import csv
import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mappo
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


def test_rows_are_added_to_a_table_of_the_same_columns(load: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    append = load("record").append
    path = tmp_path / "new" / "table.csv"
    append(path, [{"a": 1, "b": "x, y"}])
    append(path, [{"a": 2, "b": None}, {"a": 3, "b": 4.5}])
    assert path.read_text() == 'a,b\n1,"x, y"\n2,\n3,4.5\n'
    with pytest.raises(SystemExit, match="2"):
        append(path, [{"b": 1, "a": 2}])
    assert "has other columns than these rows: move it away, or give another --out" in capsys.readouterr().err
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


def test_steps_of_the_burn_in_do_not_count(load: Any):
    module = load("benchmarl_vmas")
    setting = module.Setting(10, 5, 1, 1, (4,), burn_in=2, updates=3)
    marks = [[100.0, 50.0], [200.0, 80.0], [203.0, 82.0], [205.0, 83.0], [230.0, 95.0]]
    assert module.per_thousand(marks, setting) == (200, 100)  # 30 and 15 seconds for 150 steps


def test_ratios_to_the_peer_are_taken_within_each_round(load: Any):
    module = load("benchmarl_vmas")
    setting = module.Setting(10, 100, 1, 1, (4,), burn_in=1, updates=1)

    def runs(*seconds: tuple[float, float]) -> list[dict[str, Any]]:
        return [
            {"marks": [(5.0, 5.0), (5 + w, 5 + c)], "whole": (w, c), "return": 1.0, "versions": "x"} for w, c in seconds
        ]

    found = {"mappo": runs((1, 2), (4, 2), (2, 1)), "benchmarl": runs((2, 8), (8, 6), (6, 2))}
    own, theirs = module.summary(found, setting)
    assert (own["cpu_ratio"], own["wall_ratio"], own["cpu_s_per_1k"], own["wall_s_per_1k"]) == (3, 2, 2, 2)
    assert (theirs["cpu_ratio"], theirs["cpu_s_min"], theirs["cpu_s_max"], theirs["whole_cpu_s"]) == (1, 2, 8, 6)
    assert own["whole_steps"] == 2000


def test_the_processes_are_told_what_to_do_and_their_failures_are_shown(load: Any, tmp_path: Path, capsys: Any):
    module = load("benchmarl_vmas")
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$@" > "$8.told"\nprintf \'{"marks": [], "return": 2.5}\' > "$8"\n')
    fake.chmod(0o755)
    setting = module.Setting(10, 5, 1, 1, (4,), burn_in=2, updates=3)
    result = module.run_once(str(fake), "benchmarl", "paper", setting, 7, tmp_path)
    assert result["return"] == 2.5
    wall, cpu = result["whole"]
    assert 0 <= cpu < wall + 1
    assert wall > 0
    told = (tmp_path / "marks.json.told").read_text().split()
    assert told[1:] == ["--work", "benchmarl", "paper", "2", "3", "7", str(tmp_path / "marks.json")]
    fake.write_text("#!/bin/sh\necho working\necho 'ModuleNotFoundError: no benchmarl' >&2\nexit 1\n")
    with pytest.raises(SystemExit, match="2"):
        module.run_once(str(fake), "benchmarl", "paper", setting, 7, tmp_path)
    assert "failed: ModuleNotFoundError: no benchmarl" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args", [[], ["--peer-python", "/no/such"], ["--peer-python", sys.executable, "--rounds", "0"]]
)
def test_a_peer_that_is_not_there_is_one_message(load: Any, args: list[str], monkeypatch: Any, capsys: Any):
    module = load("benchmarl_vmas")
    monkeypatch.setattr(sys, "argv", ["benchmarl_vmas.py", *args])
    with pytest.raises(SystemExit, match="2"):
        module.main()
    assert capsys.readouterr().err.count("error: --") == 1


def test_our_run_has_the_settings_of_the_peer_and_stops_in_time(load: Any, monkeypatch: Any, tmp_path: Path):
    module, seen = load("benchmarl_vmas"), list[Any]()

    def train(env: str, config: Any, callback: Any) -> None:
        seen.extend((env, config))
        for index in range(9):
            try:
                callback(SimpleNamespace(metrics={"return_sum": float(index)}))
            except mappo.StopTraining:
                return

    monkeypatch.setattr(mappo, "train", train)
    setting = module.Setting(12, 10, 4, 3, (8, 9), burn_in=1, updates=2)
    marks, result = module.ours(setting, 5, tmp_path)
    env, config = seen
    assert (env, len(marks.times), result) == ("vmas/balance", 3, 2.0)
    assert config.env.own_options == module.BALANCE
    assert (config.env.num_envs, config.ppo.rollout_length, config.ppo.minibatches, config.ppo.epochs) == (12, 10, 4, 3)
    assert (config.network.hidden, config.network.activation, config.network.layer_norm) == ((8, 9), "tanh", False)
    assert (config.run.threads, config.run.device, config.run.seed) == (1, "cpu", 5)
    assert config.run.total_steps == 4 * 120  # one update more, which is not reached: it would be evaluated
    assert (config.ppo.value_norm, config.ppo.advantage_norm) == (False, False)
