"""What `make faults` does to runs, in small: kills, disks that refuse, damage, rows that are gone, clocks that jump."""

import itertools
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import memory
from faults import damage, kills, operations
from faults.runs import Violation, command, forked, outcome, resuming, words

UPDATES, EVERY = operations.UPDATES, operations.EVERY


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str], Path]:
    """What a run comes to that nothing disturbs, what it did to files, and where it is."""
    place = tmp_path_factory.mktemp("whole")
    counting = operations.Faults(place)
    with operations.unscored():
        assert operations.train(place, counting).code == 0
    return outcome(place / "run"), counting.done, place / "run"


@pytest.fixture(autouse=True)
def unscored() -> Any:
    with operations.unscored():
        yield


def test_each_operation_on_files_is_met(whole: Any):
    done = {what.split()[0] for what in whole[1]}
    assert done >= {"mkdir", "open", "write", "close", "fsync", "replace", "save_file", "copymode", "unlink"}


@pytest.mark.parametrize("first", [2, 6])
def test_whatever_fails_is_told_once_and_the_run_goes_on_as_it_was(whole: Any, tmp_path: Path, first: int):
    numbers = range(first, len(whole[1]) + 1, 8)
    ended: list[bool] = []
    for n, error in zip(numbers, itertools.cycle(operations.ERRORS), strict=False):
        faults = operations.Faults(make(tmp_path / str(n)), n, error, lasting=bool(n & 8))
        ended.append(operations.one_fault(tmp_path / str(n), faults, whole[0]))
    assert 0 < sum(ended) < len(ended), "some end it, some do not"


def test_a_run_killed_at_any_operation_is_the_run_that_was_not(whole: Any, tmp_path: Path):
    operations.killed_at(tmp_path, whole[0], range(4, len(whole[1]) + 1, 12))


def test_a_run_killed_behind_the_rename_keeps_the_best(tmp_path: Path, whole: Any):
    """What was the best is known with the checkpoint, not behind it."""
    rename = whole[1].index(f"replace /run/checkpoints/.{EVERY * kills.SIZE:012d}.tmp") + 1
    operations.killed_at(tmp_path, whole[0], [rename + 1, rename + 2])


def test_rows_are_on_the_disk_before_the_checkpoint_that_counts_them(whole: Any):
    done = whole[1]
    flushes = [
        max(n for n, what in enumerate(done) if what == f"fsync /run/{name}.csv") for name in ("metrics", "timing")
    ]
    rows = max(n for n, what in enumerate(done) if what == "write /run/timing.csv")
    rename = max(n for n, what in enumerate(done) if what.startswith("replace /run/checkpoints/"))
    assert rows < min(flushes) < max(flushes) < rename


@pytest.mark.parametrize("kind", ["memory", "seeds"])
def test_kills_at_random_moments_change_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kills, "UPDATES", 6)
    for name in ("whole", "chain"):
        (tmp_path / name).mkdir()
    chain = kills.Chain(tmp_path / "chain", kind, kills.uninterrupted(tmp_path / "whole", kind), random.Random())
    chain.go(2)
    assert sum(chain.fell.values()) == 2


def test_a_run_killed_between_the_first_checkpoints_of_two_seeds_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kills, "UPDATES", 2)
    chain = kills.Chain(tmp_path, "seeds", {}, random.Random())
    forked(words("seeds", chain.run, 2), chain.log)
    for seed in (2, 3):
        shutil.rmtree(chain.run / f"seed-{seed}" / "checkpoints")
    assert chain.arguments()[0] == "train"
    assert not chain.run.exists()


def test_every_damage_to_a_checkpoint_is_noticed_and_the_one_before_used(tmp_path: Path):
    assert damage.run(tmp_path, 2 * len(damage.HARMS), 0)


def test_a_change_is_seen(whole: Any, tmp_path: Path):
    """The comparison itself can fail."""
    shutil.copytree(whole[2], tmp_path / "run")
    operations.assert_same(whole[0], outcome(tmp_path / "run"), "a copy")
    file = tmp_path / "run" / "metrics.csv"
    file.write_bytes(file.read_bytes().replace(b"1,4,80,", b"1,4,80,0"))
    with pytest.raises(Violation, match=r"not as in the run that nothing interrupted: metrics\.csv"):
        operations.assert_same(whole[0], outcome(tmp_path / "run"), "a copy")


def cut(whole: Any, to: Path) -> Path:
    """A copy whose last checkpoint is gone, to be resumed."""
    shutil.copytree(whole[2], to)
    shutil.rmtree(to / "checkpoints" / f"{UPDATES * kills.SIZE:012d}")
    return to


def test_rows_that_are_gone_are_told_and_the_run_goes_on(whole: Any, tmp_path: Path):
    run = cut(whole, tmp_path / "run")
    for name in ("metrics.csv", "timing.csv"):
        rows = (run / name).read_text().splitlines(keepends=True)
        (run / name).write_text("".join([*rows[:1], *rows[2:], rows[2]]))
    told = command(resuming(run))
    assert told.code == 0
    for name in ("metrics.csv", "timing.csv"):
        assert f"{run / name} lacks the rows of updates 1: they are lost" in told.out
        assert f"{run / name} had the rows of updates 2 twice: the last ones are kept" in told.out
        assert len((run / name).read_text().splitlines()) == UPDATES


@pytest.mark.parametrize("clock", ["backwards", "still", "wild"])
def test_clocks_that_jump_change_nothing_but_the_times(
    clock: str, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rng, now = random.Random(0), itertools.count(10**9, -1000)
    read = {"backwards": lambda: next(now), "still": lambda: 10**9, "wild": lambda: rng.randrange(2 * 10**9)}[clock]
    for name in ("time", "perf_counter", "process_time", "monotonic"):
        monkeypatch.setattr(time, name, lambda: float(read()))
    monkeypatch.setattr(time, "time_ns", lambda: read() * 10**9)
    told = command(words("plain", tmp_path / "run", UPDATES, EVERY))
    assert told.code == 0, told.err
    operations.assert_same(whole[0], outcome(tmp_path / "run"), clock)
    run = cut(whole, tmp_path / "resumed")
    for path in run.rglob("*"):
        os.utime(path, (2**33, 2**33))  # in the year 2242
    told = command(resuming(run))
    assert told.code == 0, told.err
    operations.assert_same(whole[0], outcome(run), f"{clock}, resumed")


def test_what_grows_is_told():
    def samples(**growth: float) -> list[memory.Sample]:
        now = {"memory_mib": 300.0, "shared_mib": 1.0, "files": 5, "threads": 2, "processes": 1}
        return [memory.Sample(n, **{k: v + growth.get(k, 0) * n + (n % 7) for k, v in now.items()}) for n in range(80)]

    assert memory.growth(samples()) == ""
    assert memory.growth(samples(memory_mib=0.1)) == "", "which may be the allocator"
    assert memory.growth(samples(memory_mib=0.3)).startswith("memory_mib from 3")
    assert memory.growth(samples(files=0.1, threads=0.1)).startswith("files from 7.1 to 11.3, threads")


def make(place: Path) -> Path:
    place.mkdir()
    return place
