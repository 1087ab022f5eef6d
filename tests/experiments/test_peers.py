"""The comparison with other libraries: its protocol, its statistics and its tables. No peer is needed."""

import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from mappo.config import Config
from paths import ROOT

FOLDER = ROOT / "benchmarks" / "peers"
FAKE = """
import subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from protocol import Turns

turns = Turns(2, ("numpy", "no-such-package"))
spin = "import time\\nwhile time.process_time() < 0.1: pass\\nprint(flush=True)\\ntime.sleep(60)"
children = []
count = 0
print("noise on the standard output")
def update():
    global count
    count += 1
    if count == 4:
        time.sleep(0.3)
    if count == 6:
        children.append(subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE))
        print("child", children[0].pid, flush=True)
        children[0].stdout.readline()
        time.sleep(0.4)
        return float("nan")
    if count == 7:
        children[0].kill()
        print("the reason", file=sys.stderr)
        sys.exit(3)
    return count
turns.serve(update)
"""


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a script, as `python benchmarks/peers/NAME.py` finds its neighbours."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    before = set(sys.modules)

    def loaded(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield loaded
    for name in set(sys.modules) - before:
        if str(FOLDER.parent) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_a_peer_runs_as_many_updates_as_requested_and_its_time_is_measured(load: Any, tmp_path: Path):
    protocol = load("protocol")
    (tmp_path / "fake.py").write_text(FAKE)
    log = tmp_path / "log"
    command = [sys.executable, str(tmp_path / "fake.py"), str(FOLDER)]
    peer = protocol.Peer("fake", command, log, dict(os.environ))
    try:
        ready, wall = peer.wait_until_ready()
        assert ready.versions.startswith("numpy ")
        assert "no-such" not in ready.versions
        assert ready.cpu > 0
        assert wall > 0
        slept = peer.run(2)  # updates 3 and 4, behind the burn-in
        assert slept.episode_return == 3.5
        assert slept.wall >= 0.3
        assert slept.cpu < 0.1
        before = time.perf_counter()
        spun = peer.run(2)  # its child works 0.1 s
        assert spun.episode_return == 5  # update 6 ended no episode
        assert 0.07 < spun.cpu < 0.5
        assert 0.4 <= spun.wall < time.perf_counter() - before  # earlier updates do not count again
        with pytest.raises(protocol.PeerError, match=r"fake ended with exit code 3: .*the reason"):
            peer.run(1)
    finally:
        peer.close()
    assert "noise on the standard output" in log.read_text()


def test_a_peer_ends_with_the_end_of_its_input_and_so_do_its_children(load: Any, tmp_path: Path):
    (tmp_path / "fake.py").write_text(FAKE)
    command = [sys.executable, str(tmp_path / "fake.py"), str(FOLDER)]
    peer = load("protocol").Peer("fake", command, tmp_path / "log", dict(os.environ))
    peer.wait_until_ready()
    peer.run(4)
    child = Path("/proc") / peer.log.read_text().split("child ")[1].split()[0] / "stat"
    peer.close()
    assert peer.process.returncode == 0
    deadline = time.perf_counter() + 5
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.perf_counter() < deadline
        time.sleep(0.01)


class Instant:
    """A peer without a process; its first round takes long."""

    def __init__(self, reply: Any, name: str, costs: list[float], order: list[str]) -> None:
        self.reply, self.name, self.costs, self.order = reply, name, list(costs), order

    def run(self, updates: int) -> Any:
        self.order.append(self.name)
        return self.reply(self.costs.pop(0) * updates, 1.0, 0.0)


def test_ratios_are_taken_within_each_round(load: Any):
    run, tables, reply = load("run"), load("tables"), load("protocol").Reply
    order: list[str] = []
    costs = {"mappo": [9.0, 1.0, 2.0, 4.0], "other": [27.0, 2.0, 5.0, 8.0]}  # ratios 3, 2, 2.5, 2
    peers = {name: Instant(reply, name, values, order) for name, values in costs.items()}
    systems = {name: tables.ours(tables.IPPO_SHIPPED) for name in costs}
    rows = run.summarize(tables.Table(systems, updates=2), run.take_turns(peers, 4, 2))
    ours, theirs = rows
    assert (ours["ratio"], ours["ratio_low"], ours["ratio_high"]) == (1, 1, 1)
    assert (theirs["ratio"], theirs["rounds"], theirs["steps"]) == (2.25, 4, 2048)  # of medians: 6.5 / 3
    assert ours["cpu_s_per_1k"] == round(1000 * 3 / 2048, 5)
    rounds = [set(order[i : i + 2]) for i in range(0, 8, 2)]
    assert rounds == [{"mappo", "other"}] * 4
    assert len({tuple(order[i : i + 2]) for i in range(0, 8, 2)}) == 2  # each system is the first in some round


def test_a_factor_between_all_rounds_is_the_ratio_and_its_interval(load: Any):
    paired_ratio = load("ratios").paired_ratio

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.floats(0.1, 10), min_size=1, max_size=30), st.floats(0.1, 10))
    def holds(values: list[float], factor: float) -> None:
        assert paired_ratio([factor * x for x in values], values) == pytest.approx((factor,) * 3)

    holds()


def test_the_interval_of_a_median_covers_it_in_about_95_of_100_samples(load: Any):
    import numpy as np

    interval = load("ratios").median_interval
    samples = np.random.default_rng(1).lognormal(size=(200, 30))
    inside = [low <= 1 <= high for _, low, high in map(interval, samples.tolist())]
    assert 0.89 <= np.mean(inside) <= 0.99
    middle, low, high = interval([1.0, 2.0, 50.0])
    assert (low, middle, high) == (1, 2, 50)


def test_the_systems_of_a_table_are_installed_by_a_script_and_do_the_same_work(load: Any):
    tables, install = load("tables"), load("install")
    for make in tables.TABLES.values():
        table = make()
        assert next(iter(table.systems)) == tables.OURS
        ours = table.systems[tables.OURS].config
        for system in table.systems.values():
            assert (FOLDER / system.script).exists()
            assert not system.place or system.place in install.PEERS
            assert system.steps == ours.steps_per_update
            assert (system.config.ppo, system.config.network.hidden) == (ours.ppo, ours.network.hidden)
            written = json.loads(json.dumps({"config": system.config.to_dict(), **system.given}))
            assert Config.from_dict(written["config"]) == system.config


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--tables", "plain"], "jax is not installed in"),
        (["--rounds", "0"], "--rounds and --check must be at least 1"),
    ],
)
def test_a_mistake_of_the_user_is_one_message(
    load: Any, monkeypatch: Any, capsys: Any, tmp_path: Path, args: list[str], message: str
):
    run = load("run")
    table = run.TABLES["plain"]
    monkeypatch.setitem(run.TABLES, "plain", lambda: run.replace(table(), systems=dict([*table().systems.items()][2:])))
    monkeypatch.setattr(sys, "argv", ["run.py", "--place", str(tmp_path), *args])
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert message in capsys.readouterr().err


def test_the_jax_environment_follows_mpe2(load: Any):
    pytest.importorskip("jax")
    check = load("jax_check")
    largest, penalties = zip(*(check.largest_difference(seed, 0.15) for seed in range(3)), strict=True)
    assert max(largest) < 1e-6
    assert sum(penalties) > 0  # or contacts would not be tested
