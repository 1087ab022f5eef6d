"""Processes that do not find each other leave in time."""

import os
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
import torch

from mappo.backend import process_group, store
from mappo.errors import LostError
from mappo.system.launched import START_AGAIN, Place
from paths import PYTHONPATH


def test_another_program_at_the_port_holds_nobody_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "NOTICE_S", 0.1)
    store.first_store.cache_clear()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(silent.getsockname()[1]))
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        began = time.monotonic()
        with (
            pytest.raises(LostError, match=r"at 127.0.0.1:\d+ \(whoever answers there does not speak"),
            process_group.joined(Place(1, 2), False, 0.5),
        ):
            pass
        assert time.monotonic() - began < 300


ENDS = """
import time
from datetime import timedelta
import torch.distributed
from mappo.backend.store import within
from mappo.cli import main

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(2)

slow = Slow()  # Python's end takes longer than the call
store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=1))

def lose(*_):
    try:
        within(0.1, lambda: store.get("never"))
    except RuntimeError:
        return 4

main.main = lose
main.entry()
"""


def test_a_call_to_the_store_that_ends_with_the_program_leaves_the_exit_code():
    done = subprocess.run(
        [sys.executable, "-c", ENDS], env=os.environ | {"PYTHONPATH": PYTHONPATH}, capture_output=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (4, b"")


class Unreachable:
    """A store on a host behind a link that is cut: no call returns, nor fails."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: time.sleep(60)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_store_behind_a_cut_link_holds_nobody_up(rank: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_group, "NOTICE_S", 0.05)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    group = process_group.Group.__new__(process_group.Group)
    group.rank, group.size = rank, 2
    group._store, group._lost_after, group._names = Unreachable(), 7.0, ["first", "second"]

    def fails() -> None:
        raise RuntimeError("[a.cpp:1] Timed out")

    began = time.monotonic()
    with pytest.raises(LostError) as found:
        group._call(fails)
    assert str(found.value) == ("first is lost, or silent for 7 s (Timed out). " + START_AGAIN if rank else "")
    assert time.monotonic() - began < 50
