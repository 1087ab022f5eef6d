"""What is another in another process: sets, hashes of text, names drawn by chance."""

import importlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mappo.envs.check.checker import Report, check

pytestmark = pytest.mark.skipif(os.name == "nt", reason="file descriptors are handed on")

MODULE = """
import uuid
import numpy as np
from gymnasium import spaces

class Fine:
    possible_agents = ["alpha", "beta"]

    def observation_space(self, agent):
        return spaces.Box(0, 1, (1,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.rng, self.agents = np.random.default_rng(self.first(seed)), list(self.possible_agents)
        return self.see(), {}

    def step(self, actions):
        names, self.agents = self.agents, []
        print("a word on standard output")
        return self.see(), dict.fromkeys(names, 1.0), dict.fromkeys(names, False), dict.fromkeys(names, True), {}

    def first(self, seed):
        return seed

    def see(self):
        return {a: self.rng.random(1, np.float32) for a in sorted(self.possible_agents)}

class FromSet(Fine):
    possible_agents = list({"alpha", "beta"})

class OfThree(Fine):
    possible_agents = list({"alpha", "beta", "gamma"})

class AsSet(Fine):
    possible_agents = {"alpha", "beta", "gamma"}

    def reset(self, seed=None, options=None):
        given = super().reset(seed)
        self.agents.sort()
        return given

class Hashed(Fine):
    def first(self, seed):
        return [seed, hash("alpha") % 2**32]

class Drawn(Fine):
    possible_agents = [uuid.uuid4().hex, "beta"]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "made_by_text.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "made_by_text", raising=False)
    return importlib.import_module("made_by_text")


def found(report: Report) -> list[tuple[str, str]]:
    return [(v.level, v.code) for v in report.violations]


@pytest.mark.parametrize(
    ("name", "findings"),
    [
        ("Fine", []),
        ("AsSet", []),
        ("FromSet", [("warning", "names-order")]),
        ("OfThree", [("warning", "names-order")]),
        ("Hashed", [("warning", "seed-reset")]),
        ("Drawn", [("error", "names-differ")]),
    ],
)
def test_what_differs_between_processes_is_told(module: Any, name: str, findings: list[tuple[str, str]]):
    make = getattr(module, name)
    assert found(check(make)) == []
    report = check(make, other_process=True)
    assert found(report) == findings
    for violation in report.violations:
        assert "another process" in violation.message
        assert violation.where.startswith(name)


def test_what_cannot_be_sent_to_a_process_is_not_compared(module: Any):
    lock = threading.Lock()

    def make() -> Any:
        with lock:
            return module.FromSet()

    assert found(check(make, other_process=True)) == []
