"""metrics.csv and timing.csv in the hands of others: deleted, huge or damaged, read in bounded memory."""

import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import mappo
from mappo.errors import UserError
from mappo.runs import csv_log
from mappo.runs.csv_log import CsvLog
from mappo.runs.logger import RunLogger, Update
from mappo.training.session import Session
from training_runs import CONFIG, stop_after, within

FIXED = ["seed", "update", "step"]
HEADER = "seed,update,step,loss\n"


def row(index: int, value: float = 0.5) -> str:
    return f"7,{index},{100 * index},{value}\n"


def rows(*indices: int) -> str:
    return "".join(map(row, indices))


def resumed(path: Path, text: str, updates: int) -> CsvLog:
    path.write_text(text)
    return CsvLog(path, FIXED, (updates, 100 * updates))


def write(run: RunLogger, index: int) -> None:
    run.write(Update(index, 100 * index, 1000, {"loss": 0.5}, {"elapsed_s": 1.0}))


@pytest.mark.parametrize("how", ["deleted", "emptied", "moved"])
def test_the_header_is_written_again(how: str, tmp_path: Path):
    run = RunLogger(tmp_path, seed=7)
    file = tmp_path / "metrics.csv"
    write(run, 1)
    if how == "deleted":
        file.unlink()
    elif how == "moved":
        file.rename(tmp_path / "elsewhere")
    else:
        os.truncate(file, 0)
    write(run, 2)
    write(run, 3)
    run.close()
    assert file.read_text() == HEADER + rows(2, 3)
    again = RunLogger(tmp_path, seed=7, resume=(3, 300))
    assert again.notes == [f"{file} lacks the rows of updates 1: they are lost"]
    write(again, 4)
    again.close()
    assert file.read_text() == HEADER + rows(2, 3, 4)


def test_a_run_whose_table_is_deleted_while_it_trains_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Session, "finish", Session.close)  # without a curve

    def delete_and_stop(update: Any) -> None:
        if update.index == 2:
            (tmp_path / "run" / "metrics.csv").unlink()
            (tmp_path / "run" / "timing.csv").unlink()
        stop_after(3)(update)

    config = within(CONFIG, tmp_path / "run", eval_episodes=2)
    mappo.train("probe/signal", config, callback=delete_and_stop)
    run = mappo.train("probe/signal", config, resume=True)
    assert run.finished
    assert run.metrics["update"].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("text", ["", "\n", "seed,upd", rows(1, 2), "step,update,seed,loss\n" + rows(1), "\x1b[31m\n"])
def test_a_table_without_its_header_is_told_with_what_to_do(text: str, tmp_path: Path):
    """A header that was cut short is as none."""
    path = tmp_path / "metrics.csv"
    if "\n" not in text:
        assert resumed(path, text, 2).notes == [f"{path} lacks the rows of updates 1 to 2: they are lost"]
        return
    with pytest.raises(
        UserError, match=r"expected seed,update,step,…; move the file away, and the run goes on"
    ) as told:
        resumed(path, text, 2)
    assert "\x1b" not in str(told.value)
    assert path.read_text() == text
    path.unlink()
    CsvLog(path, FIXED, (2, 200))


ORDERS = {
    "as written": [1, 2, 3, 4, 5],
    "twice": [1, 1, 2, 3, 4, 5, 5],
    "a second copy behind": [1, 2, 3, 4, 5, 1, 2, 3, 4, 5],
    "backwards": [5, 4, 3, 2, 1],
    "mixed": [4, 2, 5, 2, 1, 3, 2],
    "gone back": [1, 2, 3, 2, 3, 4, 5],
    "later ones": [1, 2, 3, 4, 5, 6, 7],
}


@pytest.mark.parametrize("order", ORDERS)
def test_rows_in_any_order_are_put_in_theirs_and_the_last_of_an_update_counts(order: str, tmp_path: Path):
    path = tmp_path / "metrics.csv"
    indices = ORDERS[order]
    text = HEADER + "".join(row(index, place) for place, index in enumerate(indices))
    log = resumed(path, text, 5)
    last = {index: place for place, index in enumerate(indices)}
    assert path.read_text() == HEADER + "".join(row(index, last[index]) for index in range(1, 6))
    twice = sorted({index for index in indices if indices.count(index) > 1})
    assert len(log.notes) == bool(twice)
    if twice:
        assert "had the rows of updates" in log.notes[0]


@pytest.mark.parametrize(
    ("lines", "updates", "note"),
    [
        (rows(2), 4, "lacks the rows of updates 1, 3 to 4: they are lost"),
        ("", 10**15, f"lacks the rows of updates 1 to {10**15}: they are lost"),
        (rows(10**9), 10**9, f"lacks the rows of updates 1 to {10**9 - 1}: they are lost"),
        (rows(*range(2, 40, 2)), 39, "lacks the rows of updates 1, 3, 5, 7, 9 and 15 more: they are lost"),
        ("\n" * 3 + rows(1), 1, "is damaged at lines 2 to 4: they are left out"),
        ("x\n".join(["", *(row(n)[:-1] + "\n" for n in range(1, 9))]), 8, "is damaged at lines"),
    ],
)
def test_what_is_missing_or_damaged_is_told_in_ranges(lines: str, updates: int, note: str, tmp_path: Path):
    path = tmp_path / "metrics.csv"
    assert any(note in told for told in resumed(path, HEADER + lines, updates).notes)


def test_what_a_spreadsheet_adds_to_the_lines_is_taken_out(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    text = HEADER + rows(1, 2, 3)
    path.write_text("\ufeff" + text, newline="\r\n")
    assert b"\r\n" in path.read_bytes()
    log = CsvLog(path, FIXED, (3, 300))
    assert path.read_bytes() == text.encode()
    assert log.notes == []


def test_a_damaged_number_does_not_displace_the_rows_after_it(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    resumed(path, HEADER + "7,999999999,100,0.5\n" + rows(*range(1, 1001)), 1000)
    assert path.read_text() == HEADER + rows(*range(1, 1001))


def peak(action: Any) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_table_is_read_in_little_memory(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    text = HEADER + rows(*range(1, 10_001))
    path.write_text(text)
    assert peak(lambda: CsvLog(path, FIXED, (10_000, 1_000_000))) < 150_000 < len(text)
    assert path.read_text() == text


@pytest.mark.parametrize("what", ["newlines", "one line", "commas", "copies of a row"])
def test_a_table_of_nothing_is_refused_before_it_takes_memory(what: str, tmp_path: Path):
    """What is left out or out of order is bounded: a run without the file goes on."""
    path = tmp_path / "metrics.csv"
    unit = {"newlines": "\n", "one line": "x", "commas": ",", "copies of a row": row(1)[:-1] + "0" * 900 + "\n"}[what]
    path.write_text(HEADER + row(1) + unit * (10_000_000 // len(unit)))

    def refused() -> None:
        with pytest.raises(UserError, match=r"metrics\.csv: .*; move the file away, and the run goes on without it$"):
            CsvLog(path, FIXED, (1, 100))

    before = path.stat().st_mtime_ns
    assert peak(refused) < 9_500_000
    assert path.stat().st_mtime_ns == before


def test_tables_are_bounded_as_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And a run does not write what it could not read again."""
    path = tmp_path / "metrics.csv"
    path.touch()
    os.truncate(path, 2**28 + 1)
    with pytest.raises(UserError, match="268,435,457 bytes are more than the limit of 268,435,456 bytes"):
        CsvLog(path, FIXED, (1, 100))
    path.unlink()
    log = CsvLog(path, FIXED, None)
    monkeypatch.setattr(csv_log, "MAX_TABLE", 60)
    log.append(log.row([7, 1, 100], {"loss": 0.5}))

    def write_more() -> None:
        for index in range(2, 10):
            log.append(log.row([7, index, 100 * index], {"loss": 0.5}))

    with pytest.warns(UserWarning, match=r"metrics\.csv is full: beyond 60 bytes no row is written"):
        write_more()
    assert path.read_text() == HEADER + rows(1, 2, 3)


def test_seeds_of_different_versions_are_read_together(tmp_path: Path):
    config = within(CONFIG, tmp_path, seeds=2)
    for seed, text in ((1, HEADER + rows(1, 2)), (2, "seed,update,step,loss,more\n" + row(1)[:-1] + ",3\n7,2")):
        (tmp_path / f"seed-{seed}").mkdir()
        (tmp_path / f"seed-{seed}" / "metrics.csv").write_text(text)
    metrics = mappo.Run(tmp_path, "spread", config, 0).metrics
    assert list(metrics) == ["seed", "update", "step", "loss", "more"]
    assert metrics["update"].tolist() == [1, 2, 1]
    assert metrics["more"].tolist()[2] == 3
    assert metrics["more"].tolist()[:1] != [0]
