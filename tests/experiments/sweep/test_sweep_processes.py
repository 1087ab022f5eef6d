"""Sweeps by several processes that are killed: each trial has one result, and no process waits for the dead."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from paths import PYTHONPATH

SPACE = {"ppo.actor_lr, ppo.critic_lr": {"low": 1e-4, "high": 1e-2, "log": True}, "ppo.epochs": [1, 2, 3]}
NUM_TRIALS = 40
NUM_PROCESSES = 3
SMALL = [
    *("--env.num-envs", "16", "--network.hidden", "8", "--ppo.rollout-length", "5", "--run.total-steps", "16000"),
    *("--run.eval-interval", "2000", "--run.eval-episodes", "8", "--run.score-episodes", "8"),
]


def start(folder: Path, name: str, *more: str, host: str = "") -> subprocess.Popen[bytes]:
    """A process of the sweep, with network and host name of its own if it has one."""
    command = [sys.executable, "-m", "mappo", "sweep", "probe/signal", str(folder / "space.json"), *SMALL, *more]
    if host:
        command = ["unshare", "-n", "-u", "sh", "-c", f'hostname {host} && exec "$@"', "sh", *command]
    with open(folder / f"{name}.txt", "ab") as out:
        environment = os.environ | {"PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, env=environment)


def results(folder: Path) -> list[dict[str, str]]:
    try:
        with open(folder / "runs" / "s" / "trials.csv", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if row["state"] in ("complete", "pruned", "failed")]
    except FileNotFoundError:
        return []


def until(happens: Any, seconds: float = 120) -> None:
    last = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < last, "it never happened"
        time.sleep(0.05)


def can_make_hosts() -> bool:
    try:
        return subprocess.run(["unshare", "-n", "-u", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("num_hosts", [1, 2])
def test_a_fifth_of_the_processes_is_killed_and_every_trial_has_one_result(tmp_path: Path, num_hosts: int):
    if num_hosts > 1 and not can_make_hosts():
        pytest.skip("network and host names of their own need unshare and its rights")
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    more = ["--study", "s", "--trials", str(NUM_TRIALS), "--run.lost-after", "6"]
    rng = random.Random(num_hosts)

    def begin(k: int) -> subprocess.Popen[bytes]:
        return start(tmp_path, f"out-{k}", *more, host=f"host-{k % num_hosts}" if num_hosts > 1 else "")

    processes = [begin(k) for k in range(NUM_PROCESSES)]
    try:
        for kill in range(NUM_TRIALS // 5):
            until(lambda kill=kill: len(results(tmp_path)) > 3 * kill, 240)
            time.sleep(rng.uniform(0, 2))
            k = rng.randrange(NUM_PROCESSES)
            assert processes[k].poll() is None, (tmp_path / f"out-{k}.txt").read_text()
            processes[k].send_signal(signal.SIGKILL)
            processes[k].wait()
            processes[k] = begin(k)
        codes = [process.wait(240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    said = "".join((tmp_path / f"out-{k}.txt").read_text() for k in range(NUM_PROCESSES))
    assert codes == [0] * NUM_PROCESSES, said
    rows = results(tmp_path)
    assert [int(row["trial"]) for row in rows] == list(range(NUM_TRIALS))
    assert {row["state"] for row in rows} <= {"complete", "pruned"}, said
    for row in rows:  # each result is told once, and is that of the trial's own run
        assert said.count(f"\ntrial {row['trial']}: {row['state']}") <= 1
        with open(tmp_path / "runs" / "s" / f"trial-{int(row['trial']):04d}" / "metrics.csv") as file:
            metrics = list(csv.DictReader(file))
        assert [int(m["update"]) for m in metrics] == list(range(1, len(metrics) + 1))
        assert float(row["eval_return"]) == float([m["eval_return"] for m in metrics if m["eval_return"]][-1])
    assert "goes on at step" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_ctrl_c_saves_the_trial_and_the_same_command_goes_on(tmp_path: Path):
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    more = ["--study", "s", "--trials", "2", "--run.total-steps", "60000"]
    process = start(tmp_path, "first", *more)
    until((tmp_path / "runs" / "s" / "trial-0000" / "checkpoints" / "000000002000").exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    said = (tmp_path / "first.txt").read_text()
    assert "trial 0: saved at step " in said
    assert "Stopped; the same command goes on." in said
    assert start(tmp_path, "second", *more).wait(240) == 0
    assert "trial 0 goes on at step " in (tmp_path / "second.txt").read_text()
    assert [row["state"] for row in results(tmp_path)] == ["complete", "complete"]
