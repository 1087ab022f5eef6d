"""The variables of a launcher: each wrong value has a message of its own, ahead of any connection."""

import pytest

from mappo.errors import UserError
from mappo.system.launched import Place, find_place, has_restarts

GOOD = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29400"}


@pytest.fixture(autouse=True)
def _good(monkeypatch: pytest.MonkeyPatch):
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_MAX_RESTARTS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_local_rank_and_size_follow_from_a_loopback_address():
    assert find_place() == Place(1, 2, 1, 2)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MASTER_PORT", "abc", "MASTER_PORT must be a whole number of at least 1, got 'abc'"),
        ("MASTER_PORT", "65536", "MASTER_PORT must be at most 65535, got 65536"),
        ("MASTER_PORT", "", "MASTER_PORT is not set"),
        ("MASTER_ADDR", "", "MASTER_ADDR is not set"),
        ("RANK", "x", "^RANK must be a whole number of at least 0, got 'x'"),
        ("RANK", "2", "RANK is 2, and must be below WORLD_SIZE, which is 2"),
        ("WORLD_SIZE", "two", "WORLD_SIZE must be a whole number of at least 1, got 'two'"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        find_place()


@pytest.mark.parametrize(("restarts", "done", "expected"), [("0", "0", False), ("2", "1", True), ("2", "2", False)])
def test_restarts_of_torchrun_are_known(restarts: str, done: str, expected: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", restarts)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", done)
    assert has_restarts() == expected
