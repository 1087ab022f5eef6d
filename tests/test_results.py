"""docs/results.md, its files and the table of tasks say what the rows in results/ hold."""

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mappo.config.tasks import TASKS
from mappo.experiments.reproduce.row import MAX_EVALUATIONS, published_returns, read_row
from paths import ROOT

FILES = sorted(file for file in ROOT.glob("results/*.json") if file.name != "marl_eval.json")


@pytest.fixture(scope="module")
def build() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs/build_results.py"))


def test_the_page_and_its_files_are_built_from_the_rows(build: dict[str, Any], capsys: pytest.CaptureFixture[str]):
    assert build["main"](["--check"]) == 0, capsys.readouterr().out


def test_a_changed_row_makes_the_page_stale(
    build: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    copy = shutil.copytree(ROOT / "results", tmp_path / "results")
    row = json.loads((copy / FILES[0].name).read_text())
    row["seeds"][0]["returns"]["greedy"] = [value + 5 for value in row["seeds"][0]["returns"]["greedy"]]
    (copy / FILES[0].name).write_text(json.dumps(row))
    monkeypatch.setitem(build["main"].__globals__, "ROWS", copy)
    assert build["main"](["--check"]) == 1
    assert "docs/results.md is stale: make results" in capsys.readouterr().out


def test_a_single_seed_has_no_interval(build: dict[str, Any]):
    assert build["with_interval"](np.array([47.13])) == "47.1"
    assert build["with_interval"](np.array([47.0, 47.2]), "+").startswith("+47.1 (+")


def test_the_results_stay_small():
    assert sum(file.stat().st_size for file in (ROOT / "results").iterdir()) < 20e6


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_row_is_the_task_of_its_name_and_the_table_has_its_returns(file: Path):
    row = read_row(file)
    task = TASKS[file.stem]
    assert row.task == task.name
    assert published_returns(row) == list(task.returns)
    for record in row.records:
        assert record.score is not None
        assert record.score.num_episodes == task.episodes
        assert record.config.end_step == task.config.end_step == record.step
        assert 1 <= len(record.eval_steps) <= MAX_EVALUATIONS
        for section in ("env", "network", "ppo"):
            assert getattr(record.config, section) == getattr(task.config, section), section
    means = {name: sum(games) / len(games) for name, games in row.records[0].score.baselines.items()}
    assert means == pytest.approx(dict(task.baselines), abs=0.051)
    for cost in row.costs:
        assert cost["trained_by"]
