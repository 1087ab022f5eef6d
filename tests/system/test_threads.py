"""Threads that wait go to sleep, wherever mappo loads torch itself."""

import os
import subprocess
import sys

import pytest

from mappo.system import hardware

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.mark.parametrize(
    ("set_by_user", "expected"),
    [
        ({}, ("PASSIVE", "1000", "0")),
        ({"GOMP_SPINCOUNT": "7"}, ("PASSIVE", "7", "0")),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ("ACTIVE", None, None)),
    ],
)
def test_what_the_user_has_set_wins(
    set_by_user: dict[str, str], expected: tuple[str | None, ...], monkeypatch: pytest.MonkeyPatch
):
    for name in NAMES:
        monkeypatch.setenv(name, "")  # put back at the end
        monkeypatch.delenv(name)
    for name, value in set_by_user.items():
        monkeypatch.setenv(name, value)
    hardware.let_idle_threads_sleep()
    assert tuple(map(os.environ.get, NAMES)) == expected


@pytest.mark.parametrize("torch_first", [False, True])
def test_from_python_threads_sleep_where_mappo_loads_torch(torch_first: bool):
    code = "import sys, os, mappo; before = os.environ.get('OMP_WAIT_POLICY'); "
    code += "sys.modules['torch'] = sys; " if torch_first else ""
    code += "mappo.Config; print(before, os.environ.get('OMP_WAIT_POLICY'))"
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.split() == ["None", "None" if torch_first else "PASSIVE"]
