"""Readers of a run's CSV files."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from mappo.errors import UserError
from mappo.runs.csv_log import CsvLog
from mappo.runs.csv_table import read_table

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5))
def test_a_log_is_read_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float]]):
    file = tmp_path_factory.mktemp("log") / "metrics.csv"
    log = CsvLog(file, ["update", "step"], None)
    for update, values in enumerate(rows, start=1):
        log.append(log.row([update, 10 * update], dict(zip("ab", values, strict=True))))
    table = read_table(file, ["step", "b"], ["absent"])
    assert list(table) == ["step", "b", "absent"]
    assert table["step"].tolist() == [10 * update for update in range(1, len(rows) + 1)]
    assert np.array_equal(table["b"], [b for _, b in rows], equal_nan=True)
    assert np.isnan(table["absent"]).all()
    assert list(read_table(file)) == (["update", "step", "a", "b"] if rows else [])


def test_a_line_cut_short_at_the_end_is_left_out_and_an_empty_cell_is_nan(tmp_path: Path):
    file = tmp_path / "metrics.csv"
    file.write_text("step,a\n1,\n2,5\n3")
    table = read_table(file)
    assert table["step"].tolist() == [1, 2]
    assert math.isnan(table["a"][0])
    for text in ("", "step,"):
        file.write_text(text)
        assert read_table(file, ["a"])["a"].tolist() == []
        assert read_table(file) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,a\n1,2,3\n", "a line has 3 cells in place of 2"),
        ("step,a\n1\n", "a line has 1 cells in place of 2"),
        ("step,a\n1,x\n", "1,x holds something other than numbers"),
        ("step,b\n1,2\n", "it lacks the columns a"),
        (b"step,a\n\xff,1\n", "can't decode"),
    ],
)
def test_damage_is_named(text: str | bytes, message: str, tmp_path: Path):
    file = tmp_path / "metrics.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=rf"metrics\.csv is damaged: .*{message}"):
        read_table(file, ["step", "a"])


def test_a_table_without_steps_is_damaged(tmp_path: Path):
    file = tmp_path / "metrics.csv"
    file.write_text("seed,a\n1,2\n")
    with pytest.raises(UserError, match="it lacks the columns step"):
        read_table(file)
