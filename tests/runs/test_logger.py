import errno
import io
import math
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import record_writer

from mappo.errors import UserError
from mappo.runs import csv_log as table, tensorboard as events
from mappo.runs.logger import RunLogger, Update
from mappo.training import live_view as live, views
from mappo.training.views import LiveView, PlainView, make_view

TIMING = {"collect_s": 0.25, "elapsed_s": 1.5}


def update(index: int, *, total: int = 1000, timing: dict[str, float] = TIMING, **metrics: float) -> Update:
    return Update(index, 100 * index, total, {"return_sum": -index / 3, "eval_return": math.nan, **metrics}, timing)


def record(path: Path, indices: range, *, resume: int | None = None) -> list[str]:
    """`resume`: updates done. Gives the notes."""
    run = RunLogger(path, seed=7, resume=None if resume is None else (resume, 100 * resume))
    for index in indices:
        run.write(update(index))
    run.close()
    return run.notes


def test_rows_are_written_byte_for_byte(tmp_path: Path) -> None:
    run = RunLogger(tmp_path, seed=7)
    run.write(update(1, value_loss=0.1 + 0.2))
    run.write(update(2, value_loss=1e-9, eval_return=-2))
    # Not closed yet: what a killed run leaves behind.
    assert (tmp_path / "metrics.csv").read_bytes() == (
        b"seed,update,step,return_sum,eval_return,value_loss\n"
        b"7,1,100,-0.3333333333333333,,0.30000000000000004\n"
        b"7,2,200,-0.6666666666666666,-2.0,1e-09\n"
    )
    assert (tmp_path / "timing.csv").read_bytes() == (
        b"update,step,collect_s,elapsed_s\n1,100,0.25,1.5\n2,200,0.25,1.5\n"
    )
    run.close()
    run.close()


def test_names_may_come_in_another_order(tmp_path: Path) -> None:
    run = RunLogger(tmp_path, seed=0)
    run.write(Update(1, 10, 20, {"b": 1.0, "a": 2.0}, {}))
    run.write(Update(2, 20, 20, {"a": 4.0, "b": 3.0}, {}))
    run.close()
    assert (tmp_path / "metrics.csv").read_text() == "seed,update,step,b,a\n0,1,10,1.0,2.0\n0,2,20,3.0,4.0\n"


@pytest.mark.parametrize("half", ["", "7,6,6", "7,5,500,-1.66", "7,2,2"])
def test_resume_drops_later_rows_and_a_half_written_one(tmp_path: Path, half: str) -> None:
    record(tmp_path / "whole", range(1, 6))
    record(tmp_path / "cut", range(1, 5))
    with (tmp_path / "cut/metrics.csv").open("a") as file:
        file.write(half)
    record(tmp_path / "cut", range(3, 6), resume=2)
    for name in ("metrics.csv", "timing.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == [
        "metrics.csv",
        "tensorboard",
        "timing.csv",
    ]


def test_rows_that_are_missing_or_double_are_told_and_what_is_there_is_kept(tmp_path: Path) -> None:
    record(tmp_path, range(1, 10))
    assert record(tmp_path, range(10, 10), resume=9) == []
    for name, delete in (("metrics.csv", {2, 3, 4, 7}), ("timing.csv", set[int]())):
        header, *rows = (tmp_path / name).read_text().splitlines()
        kept = [row for n, row in enumerate(rows, 1) if n not in delete]
        (tmp_path / name).write_text("\n".join([header, *kept[:1], *kept, *kept[-2:]]) + "\n")
    assert record(tmp_path, range(9, 10), resume=8) == [
        f"{tmp_path / 'metrics.csv'} lacks the rows of updates 2 to 4, 7: they are lost",
        f"{tmp_path / 'metrics.csv'} had the rows of updates 1, 8 twice: the last ones are kept",
        f"{tmp_path / 'timing.csv'} had the rows of updates 1, 8 twice: the last ones are kept",
    ]
    updates = [row.split(",")[1] for row in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]
    assert updates == ["1", "5", "6", "8", "9"]


@pytest.mark.parametrize("half", ["", "7,6,6", "7,4,400,0.5", "7,2,2"])
def test_returns_of_evaluations_resume_byte_for_byte_and_updates_between_are_not_missed(tmp_path: Path, half: str):
    def evaluate(path: Path, indices: tuple[int, ...], resume: int | None = None) -> list[str]:
        run = RunLogger(path, seed=7, resume=None if resume is None else (resume, 100 * resume))
        for index in indices:
            run.write(update(index))
            if index % 2 == 0:
                run.write_returns(index, 100 * index, {2_000_000: index / 3, 2_000_001: math.nan, 2_000_002: -1.0})
        run.flush()
        run.close()
        return run.notes

    evaluate(tmp_path / "whole", (1, 2, 3, 4, 5, 6))
    evaluate(tmp_path / "cut", (1, 2, 3, 4))
    with (tmp_path / "cut/returns.csv").open("a") as file:
        file.write(half)
    assert evaluate(tmp_path / "cut", (4, 5, 6), resume=3) == []
    whole = (tmp_path / "whole/returns.csv").read_text()
    assert whole.splitlines()[:2] == [
        "seed,update,step,2000000,2000001,2000002",
        "7,2,200,0.6666666666666666,,-1.0",
    ]
    assert (tmp_path / "cut/returns.csv").read_text() == whole
    (tmp_path / "cut/returns.csv").unlink()  # as in a run of an earlier version
    assert evaluate(tmp_path / "cut", (), resume=6) == []
    evaluate(tmp_path / "cut", (7, 8), resume=6)
    assert (tmp_path / "cut/returns.csv").read_text().splitlines()[1].startswith("7,8,800,")


def test_tables_that_are_gone_are_told(tmp_path: Path) -> None:
    assert record(tmp_path, range(3, 4), resume=2) == [
        f"{tmp_path / name} lacks the rows of updates 1 to 2: they are lost" for name in ("metrics.csv", "timing.csv")
    ]


def test_a_clock_that_was_set_back_does_not_hide_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = RunLogger(tmp_path, seed=7)
    for index in (1, 2):
        first.write(update(index, value_loss=1.0))
    first.close()
    monkeypatch.setattr(events, "time", SimpleNamespace(time_ns=lambda: 5, time=lambda: -5.0))
    for _ in range(2):
        second = RunLogger(tmp_path, seed=7, resume=(1, 100))
        second.write(update(2, value_loss=2.0))
        second.close()
    read: Any = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(point.step, point.value) for point in read.Scalars("critic/value_loss")] == [(100, 1.0), (200, 2.0)]


@pytest.mark.parametrize("when", ["at once", "later", "at the end"])
def test_events_that_cannot_be_written_are_told_once_and_cost_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def record_with_faults() -> None:
        if when == "at once":
            monkeypatch.setattr(Path, "mkdir", lambda path, **_: full() if path.name == "tensorboard" else None)
        run = RunLogger(tmp_path, seed=7)
        run.write(update(1))
        if when == "later":
            monkeypatch.setattr(record_writer.RecordWriter, "write", full)
        run.write(update(2))
        run.write(update(3))
        if when == "at the end":
            monkeypatch.setattr(record_writer.RecordWriter, "close", full)
        run.close()

    with pytest.warns(UserWarning, match="^TensorBoard's file ends here: .*No space left") as told:
        record_with_faults()
    assert len(told) == 1
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 4


def test_a_row_that_cannot_be_written_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunLogger(tmp_path, seed=7)
    run.write(update(1))
    monkeypatch.setattr(table.Path, "open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "No")))
    with pytest.raises(UserError, match=rf"^could not write {tmp_path}/metrics\.csv: No; fix the perm"):
        run.write(update(2))
    run.close()


@pytest.mark.parametrize("left", [None, "", "seed,upd"])
def test_resume_starts_anew_where_no_header_was_written(tmp_path: Path, left: str | None) -> None:
    if left is not None:
        (tmp_path / "metrics.csv").write_text(left)
    record(tmp_path, range(3, 4), resume=2)
    assert (tmp_path / "metrics.csv").read_text().startswith("seed,update,step,return_sum,eval_return\n7,3,300,")


def test_a_folder_with_records_is_not_overwritten(tmp_path: Path) -> None:
    record(tmp_path, range(1, 3))
    before = (tmp_path / "metrics.csv").read_bytes()
    with pytest.raises(FileExistsError, match=r"metrics\.csv exists"):
        RunLogger(tmp_path, seed=7)
    assert (tmp_path / "metrics.csv").read_bytes() == before


def test_resume_refuses_a_file_it_does_not_understand(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,update,seed,loss\n1,2,3,4\n")
    with pytest.raises(ValueError, match="expected seed,update,step"):
        RunLogger(tmp_path, seed=7, resume=(1, 100))
    assert (tmp_path / "metrics.csv").read_text() == "step,update,seed,loss\n1,2,3,4\n"


@pytest.mark.parametrize("line", ["7,1,100", "garbage", "7,one,100,0.5", "7,1,1e2,0.5"])
def test_a_damaged_row_is_left_out_and_told(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.csv").write_text(f"seed,update,step,loss\n{line}\n7,2,200,0.5\n")
    run = RunLogger(tmp_path, seed=7, resume=(2, 200))
    run.close()
    assert (tmp_path / "metrics.csv").read_text() == "seed,update,step,loss\n7,2,200,0.5\n"
    assert any("is damaged at lines 2: they are left out" in note for note in run.notes)
    assert any("lacks the rows of updates 1: they are lost" in note for note in run.notes)


@pytest.mark.parametrize("resumed", [False, True])
def test_changed_names_are_named_and_nothing_is_written(tmp_path: Path, resumed: bool) -> None:
    run = RunLogger(tmp_path, seed=7)
    run.write(update(1, entropy=1.0))
    if resumed:
        run.close()
        run = RunLogger(tmp_path, seed=7, resume=(1, 100))
    before = {name: (tmp_path / name).read_bytes() for name in ("metrics.csv", "timing.csv")}
    with pytest.raises(ValueError, match="no value for column entropy"):
        run.write(update(2))
    if not resumed:
        with pytest.raises(ValueError, match="no column for surprise"):
            run.write(update(2, entropy=1.0, surprise=1.0))
    with pytest.raises(ValueError, match="no value for column collect_s"):
        run.write(update(2, entropy=1.0, timing={"elapsed_s": 1.0}))
    assert before == {name: (tmp_path / name).read_bytes() for name in before}
    run.close()


def test_a_resumed_run_of_an_earlier_version_gets_the_new_columns_and_no_others_later(tmp_path: Path) -> None:
    record(tmp_path, range(1, 4))
    run = RunLogger(tmp_path, seed=7, resume=(2, 200))
    run.write(update(3, entropy=0.5, value=2.0))
    with pytest.raises(ValueError, match="no column for surprise"):
        run.write(update(4, entropy=0.5, value=2.0, surprise=1.0))
    with pytest.raises(ValueError, match="no value for column value"):
        run.write(update(4, entropy=0.5))
    run.write(update(4, entropy=0.5, value=2.0))
    run.close()
    assert (tmp_path / "metrics.csv").read_text() == (
        "seed,update,step,return_sum,eval_return,entropy,value\n"
        "7,1,100,-0.3333333333333333,,,\n"
        "7,2,200,-0.6666666666666666,,,\n"
        "7,3,300,-1.0,,0.5,2.0\n"
        "7,4,400,-1.3333333333333333,,0.5,2.0\n"
    )
    assert record(tmp_path, range(5, 5), resume=4) == []


def test_tensorboard_reads_the_events_and_forgets_dropped_ones(tmp_path: Path) -> None:
    first = RunLogger(tmp_path, seed=7)
    for index in (1, 2, 3):
        first.write(update(index, value_loss=1.0, entropy=0.5, grad_norm_actor=0.1))
    first.close()
    second = RunLogger(tmp_path, seed=7, resume=(1, 100))
    second.write(update(2, value_loss=2.0, entropy=0.5, grad_norm_actor=0.1, eval_return=-5.0))
    second.close()
    events: Any = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert sorted(events.Tags()["scalars"]) == [
        "critic/value_loss",
        "eval/return",
        "policy/entropy",
        "policy/grad_norm_actor",
        "return/sum",
        "time/collect_s",
        "time/elapsed_s",
    ]
    assert [(point.step, point.value) for point in events.Scalars("critic/value_loss")] == [
        (100, 1.0),
        (200, 2.0),
    ]
    assert [(point.step, point.value) for point in events.Scalars("eval/return")] == [(200, -5.0)]


def shown(index: int, elapsed: float, **metrics: float) -> Update:
    timing = {"elapsed_s": elapsed, "steps_per_second": 5.0}
    values = {"approx_kl": 0.0103, "entropy": 0.914, "clip_fraction": 0.124, "explained_variance": 0.83}
    return Update(index, 64_000 * index, 1_920_000, {"return_sum": -45.2, **values, **metrics}, timing)


def test_plain_lines_come_first_last_and_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(views, "time", SimpleNamespace(monotonic=lambda: now))
    out = io.StringIO()
    with PlainView(1_920_000, "spread [x]", Console(file=out, width=40)) as view:
        view.update(shown(1, 5.0, return_sum=math.nan))
        now = 9.9
        view.update(shown(2, 10.0, eval_return=-41.04))
        now = 10.1
        view.update(shown(5, 25.0, eval_return=math.nan))
        view.note("saved [/tmp/x]")
        view.update(shown(6, 30.0))
    tail = "kl 0.0103  entropy 0.91  clip 0.12  ev 0.83"
    assert out.getvalue().splitlines() == [
        "spread [x]",
        f"step 64,000/1,920,000  3 %  return n/a  eval n/a  {tail}  5 steps/s  103:06:40 left",
        f"step 320,000/1,920,000  16 %  return -45.2  eval -41.0  {tail}  12,800 steps/s  2:05 left",
        "saved [/tmp/x]",
        f"step 384,000/1,920,000  20 %  return -45.2  eval -41.0  {tail}  12,800 steps/s  2:00 left",
    ]


def test_an_update_without_the_end_of_an_episode_shows_the_latest_returns() -> None:
    out = io.StringIO()
    console = terminal()
    with PlainView(1_920_000, "spread", Console(file=out)) as plain, LiveView(1_920_000, "spread", console) as live:
        for view in (plain, live):
            view.update(shown(1, 1.0, return_sum=math.nan, return_latest=-77.5))
    assert "return -77.5" in out.getvalue()
    assert "▁" in written(console)
    assert "-77.5" in written(console)


def test_plain_view_prints_the_last_update_once() -> None:
    out = io.StringIO()
    with PlainView(1_920_000, "spread", Console(file=out)) as view:
        view.update(shown(1, 1.0))
        view.update(shown(30, 30.0))
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "100 %" in lines[2]
    assert lines[2].endswith(" 0:00 left")


def terminal(width: int = 80, **environment: str) -> Console:
    out = io.StringIO()
    return Console(file=out, force_terminal=True, width=width, height=40, _environ={"TERM": "xterm", **environment})


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def last_panel(console: Console) -> list[str]:
    """Lines of the panel drawn last, without control sequences."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written(console))
    return text[text.rindex("╭") :].strip().splitlines()


def test_live_panel_shows_the_run_in_eighty_columns() -> None:
    console = terminal()
    with LiveView(1_920_000, "spread [3 agents]", console) as view:
        for index in range(1, 16):
            evaluation = -41.0 if index == 9 else -50.0
            view.update(shown(index, 6.4 * index, return_sum=5 * index - 120, eval_return=evaluation, value_loss=0.08))
        view.note("saved [here]")
    panel = last_panel(console)
    text = "\n".join(panel)
    assert len(panel) <= 14
    assert {len(line) for line in panel} == {80}
    for expected in (
        "spread [3 agents]",
        "50 %",
        "960,000 / 1,920,000 steps",
        "10,000 steps/s",
        "1:36 elapsed",
        "1:36 left",
    ):
        assert expected in text
    for label, value in {
        "Evaluation": "-50.0",
        "Best evaluation": "-41.0",
        "Value loss": "0.0800",
    }.items():
        assert re.search(rf"{label} +{value} ", text)
    # The curve rises from the lowest return (bottom row) to the highest (top row), half way through the run.
    top, _, bottom = (line[2:69] for line in panel[2:5])
    assert (top.rstrip()[-1], bottom.strip()[0]) == ("█", "▁")
    assert len(top.rstrip()) == 34
    assert (panel[2].split()[-2], panel[4].split()[-2]) == ("-45.0", "-115.0")
    assert "saved [here]" in written(console)


def test_live_panel_before_the_first_update_and_in_a_narrow_terminal() -> None:
    console = terminal(40)
    with LiveView(1000, "spread", console):
        pass
    panel = last_panel(console)
    assert {len(line) for line in panel} == {40}
    assert "0 %" in panel[1]
    assert any(re.search(r"Team return +n/a", line) for line in panel)


def test_a_narrow_terminal_still_shows_speed_and_time_left() -> None:
    console = terminal(40)
    with LiveView(1_920_000, "spread", console) as view:
        view.update(shown(10, 100.0))
    assert any("steps/s" in line and "left" in line for line in last_panel(console))


def test_live_view_is_redrawn_at_most_four_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: now))
    console = terminal()
    with LiveView(1_920_000, "spread", console) as view:
        for index in range(1, 31):
            now = 100 + index / 10  # ten updates a second for three seconds
            view.update(shown(index, index / 10))
    panels = written(console).count("╭")
    assert 10 <= panels <= 14  # four a second, one before the first update and one at the end
    assert "100 %" in last_panel(console)[1]


def test_interrupt_gives_the_cursor_back() -> None:
    console = terminal()

    def interrupted() -> None:
        with LiveView(1_920_000, "spread", console) as view:
            view.update(shown(1, 1.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    text = written(console)
    assert text.index("\x1b[?25l") < text.rindex("\x1b[?25h")
    assert text.endswith("\x1b[?25h")


def test_view_fits_the_console() -> None:
    assert isinstance(make_view(10, "spread", terminal()), LiveView)
    assert isinstance(make_view(10, "spread", terminal(TERM="dumb")), PlainView)
    assert isinstance(make_view(10, "spread", Console(file=io.StringIO())), PlainView)
