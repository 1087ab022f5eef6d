"""Comparisons of hostile run directories: numbers that are no returns, damaged tables, names with markup."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from mappo.cli.main import main
from mappo.experiments.compare.comparison import Comparison, Group, Panel, compare
from mappo.experiments.compare.figure import draw_comparison
from mappo.experiments.compare.finding import find_runs
from mappo.experiments.compare.record import read_record
from mappo.experiments.compare.tables import to_csv, to_latex, to_markdown
from recorded_runs import evaluated, record_run


def change_score(run: Path, returns: list[Any]) -> None:
    file = run / "score.json"
    data = json.loads(file.read_text())
    data["returns"]["greedy"] = returns
    file.write_text(json.dumps(data))


HUGE = "9" * 400


@pytest.mark.parametrize("returns", [[10**400], [1e308, 1e308], [], [True], ["1"]])
def test_a_score_that_holds_no_returns_is_left_out(
    returns: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    record_run(tmp_path / "good", evaluated(-20), [-20.0, -21.0])
    change_score(record_run(tmp_path / "bad", evaluated(-20), [-20.0, -21.0]), returns)
    assert main(["runs", str(tmp_path), "--json"]) == 2
    shown = capsys.readouterr()
    assert [Path(run["path"]).name for run in json.loads(shown.out)["runs"]] == ["good"]
    assert "'greedy' in 'returns' must be a list of numbers" in shown.err


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("metrics.csv", f"1,9,{HUGE},-50.0,-20.0"),
        ("metrics.csv", "1,9,-100,-50.0,-20.0"),
        ("returns.csv", f"1,9,{HUGE},1.0,2.0,3.0"),
        ("returns.csv", "1"),
        ("returns.csv", "1,9,900,1.0,2.0,3.0,4.0,5.0"),
    ],
)
def test_a_damaged_table_leaves_out_its_run_alone(table: str, line: str, tmp_path: Path):
    record_run(tmp_path / "good", evaluated(-20))
    with (record_run(tmp_path / "bad", evaluated(-20)) / table).open("a") as stream:
        stream.write(line + "\n")
    comparison = compare([tmp_path])
    assert [score.record.path.name for score in comparison.panels[0].groups[0].scores] == ["good"]
    assert [f"bad/{table} is damaged" in problem for problem in comparison.problems] == [True]


def test_numbers_that_are_not_finite_count_for_nothing(tmp_path: Path):
    run = record_run(tmp_path / "run", evaluated(-20))
    (run / "returns.csv").write_text("seed,update,step,2000000,2000001\n1,2,200,-5.0,-6.0\n1,4,400,nan,1e308\n")
    record = read_record(find_runs([run]).runs[0], 1, run)
    assert record.eval_games == {200: {2000000: -5.0, 2000001: -6.0}, 400: {}}


@pytest.mark.parametrize(
    "name", [r"$\frac$", "_" * 80, "a|b\nc", "<b>*x*</b>", "\x1b[31m" + "x" * 80, r"\input{y}", "=1+1", "-x", "@y"]
)
def test_names_take_no_effect_in_tables_and_figures(name: str, tmp_path: Path):
    record_run(tmp_path / "run", evaluated(-20), [-20.0])
    found = compare([tmp_path]).panels[0]
    groups = [Group(f"{name}{k}", found.groups[0].scores, found.groups[0].summary, None) for k in range(12)]
    comparison = Comparison([Panel(name, "score", 1000, groups, {}, ())], (), ())
    draw_comparison(comparison, tmp_path / "figure.svg")
    markdown = to_markdown(comparison).splitlines()
    assert len(markdown) == 16
    for line in markdown[4:]:
        assert line.isprintable()
        assert line.replace(r"\|", "").count("|") == 7
        assert not any(letter in line.replace(rf"\{letter}", "") for letter in "<>*$")
    cells = [row["group"] for row in csv.DictReader(io.StringIO(to_csv(comparison), newline=""))]
    assert [cell.removeprefix("'") for cell in cells] == [group.name for group in groups]
    assert not any(cell[0] in "=+-@" for cell in cells), "a spreadsheet would take it for a formula"
    latex = to_latex(comparison)
    assert len(latex.splitlines()) == 26
    assert r"\input" not in latex
    assert "\x1b" not in latex
