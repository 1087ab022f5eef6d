"""The notebook runs offline, and holds what its cells print and draw."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from paths import ROOT

FILE = ROOT / "examples/first_steps.ipynb"
CELLS: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["cells"]


def lines_without_numbers(text: str) -> list[str]:
    """Return the lines of an output; numbers differ on other machines, and in shorter runs."""
    return [" ".join(re.sub(r"-?\d[\d.,]*", " # ", line).split()) for line in text.splitlines()]


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; return the value of its last line, as a notebook does."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, FILE.name, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), FILE.name, "eval"), names)


def test_every_cell_runs_and_has_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    names: dict[str, Any] = {}
    cells = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert len(cells) > 5
    for cell in cells:
        source = "".join(cell["source"]).replace("200_000", "3_200")
        value = run_cell(source, names)
        printed = "".join("".join(output.get("text", "")) for output in cell["outputs"])
        assert lines_without_numbers(capsys.readouterr().out) == lines_without_numbers(printed), source
        assert hasattr(value, "_repr_png_") == any("image/png" in output.get("data", {}) for output in cell["outputs"])


def test_the_file_is_small_and_names_no_folder_of_a_machine():
    text = FILE.read_text(encoding="utf-8")
    assert len(text) < 200_000
    outputs = json.dumps([cell.get("outputs") for cell in CELLS])
    assert not re.search(r"/(tmp|home|root|Users|work)/|Traceback", outputs)
