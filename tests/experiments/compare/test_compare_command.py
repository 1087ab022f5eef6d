"""`mappo compare` and `mappo runs`: tables, files, figure and exit codes."""

import csv
import json
import math
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import mappo
from mappo.cli.main import main
from mappo.errors import UserError
from mappo.experiments.compare.comparison import Comparison, compare
from mappo.experiments.compare.marl_eval import to_marl_eval
from mappo.runs.lock import lock_directory
from recorded_runs import changed, evaluated, record_run, record_study


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return record_study(tmp_path / "runs")


@pytest.fixture
def no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mappo.experiments.compare.figure.draw_comparison", lambda *_: None)


def told(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.usefixtures("no_figure")
def test_damaged_runs_are_named_and_left_out_and_the_exit_code_says_so(
    runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    (runs / "mappo-spread-1" / "config.json").write_text("{")
    (runs / "mappo-spread-2" / "metrics.csv").write_text("seed,update,step,eval_return\n1,2\n")
    (runs / "ippo-spread-1" / "score.json").write_text("[]")
    out = tmp_path / "figure.png"
    code, text, err = told(capsys, "compare", runs, "--out", out, "--json")
    assert code == 2
    data = json.loads(text)
    assert len(data["left_out"]) == 3
    assert err.count("mappo: left out: ") == 3
    assert all(name in err for name in ("mappo-spread-1", "mappo-spread-2/metrics.csv is damaged", "ippo-spread-1"))
    spread = next(panel for panel in data["panels"] if panel["env"] == "spread")
    assert sorted(len(group["runs"]) for group in spread["groups"]) == [1, 2]
    assert told(capsys, "runs", runs)[0] == 2


@pytest.mark.usefixtures("no_figure")
def test_what_names_no_run_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "empty").mkdir()
    record_run(tmp_path / "begun", {100: []})
    for words, message in (
        ((), "name the runs to compare"),
        ((tmp_path / "empty",), "is not a run directory, and holds none"),
        ((tmp_path / "none-*",), "there is no "),
        ((tmp_path / "begun",), "there is no run to compare; left out, without an evaluation yet: "),
    ):
        code, out, err = told(capsys, "compare", *words, "--out", tmp_path / "x.png")
        assert (code, out) == (2, "")
        assert message in err
        assert "a single evaluation" not in err
    assert told(capsys, "runs", tmp_path / "empty")[0] == 2


@pytest.mark.usefixtures("no_figure")
def test_the_files_hold_the_same_numbers(runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    files = {name: tmp_path / "out" / f"table.{name}" for name in ("csv", "latex", "markdown")}
    words = [word for name, path in files.items() for word in (f"--{name}", path)]
    code, text, err = told(capsys, "compare", runs, "--out", tmp_path / "out" / "figure.svg", *words, "--json")
    assert (code, err) == (0, "")
    data = json.loads(text)
    assert data["files"][0].endswith("figure.svg")
    with open(files["csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    flat = [(panel["env"], group) for panel in data["panels"] for group in panel["groups"]]
    assert len(rows) == len(flat) + 2, "two groups over both environments"
    for row, (env, group) in zip(rows, flat, strict=False):
        assert (row["env"], row["group"], int(row["seeds"])) == (env, group["name"], 3)
        assert [float(row[name]) for name in ("mean_low", "mean_high")] == group["ci95"]
        assert float(row["iqm"]) == group["iqm"]
        versus = group["versus_best"]
        assert row["difference"] == ("" if versus is None else str(versus["difference"]))
    latex = files["latex"].read_text()
    assert r"critic-input auto & $\mathbf{-13.0}\ [-15.5, -10.5]$ & $\mathbf{-18.0}\ [-20.5, -15.5]$ \\" in latex
    assert r"environment steps & 1,000 & 1,000 \\" in latex
    assert r"policy & greedy & greedy \\" in latex
    assert r"seeds & 3 & 3 \\" in latex
    assert r"\caption{Mean return over seeds, with its 95 \% interval" in latex
    markdown = files["markdown"].read_text()
    assert "| critic-input own | 3 | -21.0 (-23.5 to -18.5) |" in markdown
    assert "**spread, step 1,000, episodes after the training, greedy policy**" in markdown
    assert {(row["policy"], row["source"]) for row in rows} == {("greedy", "score"), ("greedy", "scaled")}
    assert [panel["policy"] for panel in data["panels"]] == ["greedy", "greedy"]


@pytest.mark.usefixtures("no_figure")
@pytest.mark.parametrize("width", [80, 200])
def test_tables_fit_the_terminal(
    width: int, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("COLUMNS", str(width))
    code, text, _ = told(capsys, "compare", runs, "--out", tmp_path / "figure.png")
    assert code == 0
    listing = told(capsys, "runs", runs)[1]
    for page in (text, listing):
        assert max(map(len, page.splitlines())) <= width
    assert "critic-input" in text
    assert "-20.5 to -15.5" in text
    assert len(re.findall(r" 1,000 +complete", listing)) == 12
    assert "critic-input own" in listing


def test_the_list_of_runs_shows_states_scores_and_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    record_run(tmp_path / "sweep" / "trial-0000", evaluated(-20), [-20.0, -22.0])
    record_run(tmp_path / "half", evaluated(-30, 600))
    record_run(tmp_path / "now", evaluated(-30, 400))
    (tmp_path / "other").mkdir()
    with lock_directory(tmp_path / "now"):
        infos, problems = mappo.list_runs(tmp_path)
    assert problems == []
    by_name = {info.path.name: info for info in infos}
    assert {name: (info.state, info.step, info.source) for name, info in by_name.items()} == {
        "half": ("stopped", 600, "evaluation"),
        "now": ("running", 400, "evaluation"),
        "trial-0000": ("complete", 1000, "score"),
    }
    score = by_name["trial-0000"].score
    assert score is not None
    assert score["mean"] == -21
    assert "num-envs 10" in by_name["half"].changes
    text = told(capsys, "runs", tmp_path)[1]
    assert "600/1,000" in text
    assert "~-30.0" in text
    data = json.loads(told(capsys, "runs", tmp_path, "--json")[1])
    assert [run["step"] for run in data["runs"]] == [info.step for info in infos]


def test_a_long_name_of_an_environment_keeps_the_list_within_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    long = "lbf/Foraging-15x15-2p-2f-coop-v3"
    record_run(tmp_path / "a-run-of-foraging", evaluated(-30), [-30.0, -31.0], env=long)
    for width in (80, 240):
        monkeypatch.setenv("COLUMNS", str(width))
        page = told(capsys, "runs", tmp_path)[1]
        header, row, *_ = page.splitlines()
        assert max(map(len, page.splitlines())) <= width
        assert page.count(long) == 1
        assert "complete" in row
        assert (long in row, "environment" in header) == (width == 240, width == 240)


def test_runs_with_a_single_evaluation_are_points_and_a_note_says_how_to_get_lines(tmp_path: Path):
    point = {1000: [-20.0, -22.0]}
    record_run(tmp_path / "a", point, [-20.0])
    record_run(tmp_path / "b", point, [-22.0], seed=2)
    notes = compare([tmp_path], out=tmp_path / "point.svg").panels[0].notes
    assert any("--run.eval-interval" in note for note in notes)
    record_run(tmp_path / "b", evaluated(-20), [-20.0], seed=2)
    assert not any("--run.eval-interval" in note for note in compare([tmp_path]).panels[0].notes)


@pytest.mark.parametrize(("count", "suffix"), [(1, "png"), (12, "svg")])
def test_a_figure_is_drawn_for_any_number_of_groups(count: int, suffix: str, tmp_path: Path):
    for k in range(count):
        record_run(
            tmp_path / f"r{k}", evaluated(-20 + k), [-20.0 + k], config=changed(ppo={"actor_lr": (k + 1) / 1000})
        )
    out = tmp_path / "new" / f"figure.{suffix}"
    compare([tmp_path], out=out)
    assert out.stat().st_size > 5000
    with pytest.raises(UserError, match="must end in"):
        compare([tmp_path], out=tmp_path / "figure.txt")


def test_marl_eval_gets_the_returns_of_each_game(runs: Path):
    data = to_marl_eval(compare([runs, f"{runs}/mappo-spread-1"]))
    assert set(data["mappo"]) == {"spread", "battle"}
    run = data["mappo"]["spread"]["critic-input auto"]["run_2"]
    assert list(run) == [*(f"step_{k}" for k in range(5)), "absolute_metrics"]
    assert run["step_4"] == {"step_count": 1000, "return": [-19.0, -18.0, -17.0]}
    assert run["absolute_metrics"] == {"return": [-24.0, -17.0, -16.0, -15.0]}
    check_marl_eval(data)


def check_marl_eval(data: dict[str, Any]) -> None:
    """The demands of marl-eval's page on raw data: equal algorithms, runs and steps, and lists of numbers."""
    for tasks in data.values():
        algorithms = [list(found) for found in tasks.values()]
        assert all(names == algorithms[0] or set(names) == set(algorithms[0]) for names in algorithms)
        every_run = [run for task in tasks.values() for algorithm in task.values() for run in algorithm.values()]
        for task in tasks.values():
            assert len({tuple(algorithm) for algorithm in task.values()}) == 1
            assert not any("," in name for name in task)
        assert len({tuple(run) for run in every_run}) == 1
        for run in every_run:
            for name, step in run.items():
                assert all(isinstance(x, float) and math.isfinite(x) for x in step["return"])
                assert isinstance(step.get("step_count", 0), int)
                assert ("step_count" in step) == (name != "absolute_metrics")


@pytest.mark.usefixtures("no_figure")
def test_what_marl_eval_would_refuse_is_said(runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    shutil.rmtree(runs / "ippo-spread-3")
    words = ["--out", tmp_path / "x.png", "--marl-eval", tmp_path / "x.json"]
    code, _, err = told(capsys, "compare", runs, *words)
    assert code == 0
    assert "marl-eval needs equally many runs in each group, and here are groups of 2 and 3" in err


@pytest.mark.slow
def test_200_runs_are_compared_within_seconds(tmp_path: Path):
    lines = "".join(
        f"1,{k},{100 * k},{'0.1234567890123456,' * 20}{'-1.5' if k % 30 == 0 else ''}\n" for k in range(1, 601)
    )
    header = "seed,update,step," + "".join(f"c{k}," for k in range(20)) + "eval_return\n"
    for k in range(200):
        path = tmp_path / f"r{k}"
        config = changed(ppo={"actor_lr": (1 + k // 5) / 1000}, run={"total_steps": 60_000, "seed": k})
        record_run(path, {60_000: [float(k), 1.0]}, [float(k)] * 320, config=config, seed=k)
        (path / "metrics.csv").write_text(header + lines)
    began = time.process_time()
    found: Comparison = compare([tmp_path])
    assert time.process_time() - began < 3.0
    assert [len(group.scores) for group in found.panels[0].groups] == [5] * 40
