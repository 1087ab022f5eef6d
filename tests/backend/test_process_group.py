"""Processes that do not find each other leave in time."""

import socket
import time

import pytest

from mappo.backend import process_group
from mappo.errors import LostError
from mappo.system.launched import Place


def test_another_program_at_the_port_holds_nobody_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_group, "NOTICE_S", 0.1)
    process_group._first_store.cache_clear()  # pyright: ignore[reportPrivateUsage]
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(silent.getsockname()[1]))
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        began = time.monotonic()
        with (
            pytest.raises(LostError, match=r"at 127.0.0.1:\d+ \(a program answers there, and does not speak"),
            process_group.joined(Place(1, 2), False, 0.5),
        ):
            pass
        assert time.monotonic() - began < 30
