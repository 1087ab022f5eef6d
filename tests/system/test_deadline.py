"""Time limits: a pause passes as a single wait, and a busy machine stretches them."""

import os
import time
from pathlib import Path

import pytest

from mappo.system import deadline
from mappo.system.deadline import TICK, Deadline


def waits(seconds: float) -> list[float]:
    found: list[float] = []
    assert not Deadline(seconds).wait(found.append)
    return found


@pytest.mark.parametrize("load", [1.0, 1.5, 4.0, 40.0])
def test_a_limit_is_as_much_longer_as_there_are_processes_for_a_core(load: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(deadline, "processes_per_core", lambda: load)
    found = waits(5.0)
    assert 5.0 * load <= sum(found) < 5.0 * load + TICK + 1e-9
    assert max(found) == TICK


def test_load_that_passes_stretches_as_long_as_it_lasts(monkeypatch: pytest.MonkeyPatch):
    loads = iter([9.0, 9.0, 9.0, 9.0])
    monkeypatch.setattr(deadline, "processes_per_core", lambda: next(loads, 1.0))
    assert 2.0 + 4 * TICK * (1 - 1 / 9) <= sum(waits(2.0)) <= 2.0 + 4 * TICK


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.3])
def test_a_limit_below_a_wait_is_kept(seconds: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(deadline, "processes_per_core", lambda: 1.0)
    assert sum(waits(seconds)) == pytest.approx(seconds)


def test_what_holds_is_not_waited_for_and_is_asked_for_even_without_time():
    assert Deadline(0).wait(lambda _: True)
    answers = iter([False, False, True])
    assert Deadline(1.0).wait(lambda _: next(answers))


def test_no_clock_is_read(monkeypatch: pytest.MonkeyPatch):
    """However late a wait returns: the process was stopped, or the machine was suspended."""
    for name in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: pytest.fail("it read a clock"))
    waits(1.0)


def test_the_load_counts_processes_at_work_and_at_the_disk(monkeypatch: pytest.MonkeyPatch):
    def machine(text: str) -> None:
        monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    machine("cpu 1 2 3\nprocs_running 9\nprocs_blocked 3\n")
    assert deadline.processes_per_core() == 6.0
    machine("procs_running 1\nprocs_blocked 0\n")
    assert deadline.processes_per_core() == 1.0
    machine("procs_running\n".replace("\n", " x\n"))
    monkeypatch.setattr(os, "getloadavg", lambda: (8.0, 0.0, 0.0))
    assert deadline.processes_per_core() == 4.0, "the system's mean of the last minute"
