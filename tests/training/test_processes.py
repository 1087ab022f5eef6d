"""A run of several processes: files, exact resume, restarts, errors and exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mappo.cli import launch
from mappo.cli.main import main
from mappo.config import Config, RunConfig
from mappo.runs import checkpoint
from mappo.runs.directory import read_run
from mappo.system.launched import START_AGAIN, Place
from mappo.training.run import Run
from mappo.training.shares import own_config
from mappo.training.train import train
from paths import PYTHONPATH
from processes import results, start
from training_runs import assert_same

SMALL = [
    *("--env.num-envs", "8", "--network.hidden", "8", "--ppo.epochs", "1", "--ppo.minibatches", "2"),
    *("--ppo.rollout-length", "10", "--run.eval-interval", "160", "--run.eval-episodes", "5"),
    *("--run.score-episodes", "0", "--run.replay-episodes", "0", "--run.progress", "off"),
]
ENV = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH}


def command(env: str, path: Path, *more: object) -> list[str]:
    return ["-m", "mappo", "train", env, *SMALL, "--run.dir", str(path), *map(str, more)]


def launched(env: str, path: Path, *more: object, processes: int = 2) -> "subprocess.Popen[str]":
    args = command(env, path, "--run.processes", processes, *more)
    streams: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *args], env=ENV, **streams)


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    return results([process])[0]


def until_updates(path: Path, count: int) -> None:
    end = time.monotonic() + 600
    table = path / "metrics.csv"
    while not table.exists() or len(table.read_text().splitlines()) <= count:
        assert time.monotonic() < end
        time.sleep(0.01)


def child(process: "subprocess.Popen[str]", rank: int) -> int:
    """Process id of a rank."""
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if f"\0RANK={rank}\0" in Path(f"/proc/{pid}/environ").read_text():
            return int(pid)
    raise AssertionError("no such process")


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


@needs_proc
def test_a_killed_process_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    length = ("--run.total-steps", 80 * 40)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = launched("battle", killed, *length, "--network.memory-size", 4)
    until_updates(killed, 7)
    os.kill(child(process, 1), signal.SIGKILL)
    code, out, err = finish(process)
    assert code == 0, out + err
    assert "process 1 of 2" in err
    assert "process 1 was ended by SIGKILL; all are started again (3 restarts left)" in err
    assert "Start the run again" not in err  # the program itself does
    code, out, err = finish(launched("battle", whole, *length, "--network.memory-size", 4, "--run.score-episodes", 7))
    assert (code, err) == (0, "")
    assert_same(whole, killed)
    # The score was dealt out, and is that of a single process.
    score = (whole / "score.json").read_bytes()
    (whole / "score.json").unlink()
    assert main(["evaluate", str(whole), "--episodes", "7"]) == 0
    assert (whole / "score.json").read_bytes() == score
    assert capsys.readouterr().out in out
    # One process goes on with the run of two, with new episodes, and says so.
    last = sorted((whole / "checkpoints").iterdir())[-1]
    for file in last.iterdir():
        file.unlink()
    last.rmdir()
    name, config, _ = read_run(whole)
    run = replace(config.run, dir=str(whole), exists="resume", processes=1, progress="plain")
    assert train(name, replace(config, run=run)).finished
    shown = capsys.readouterr().out.replace("\n", " ")
    assert "resumed from 2 processes by 1: random streams and episodes start anew" in shown


@needs_proc
def test_a_signal_to_one_process_stops_all_after_the_same_update(tmp_path: Path):
    path = tmp_path / "run"
    # Without evaluations in between, which stop together by messages of their own.
    process = launched("spread", path, "--run.total-steps", 80 * 100_000, "--run.eval-interval", 80 * 100_000)
    until_updates(path, 3)
    os.kill(child(process, 1), signal.SIGTERM)
    code, out, err = finish(process)
    assert code == 143, out + err
    assert "Stopped at step" in out
    assert "time-limit" not in out
    updates = checkpoint.load(path).state["updates"]
    assert len((path / "metrics.csv").read_text().splitlines()) == 1 + updates


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("fault", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_one_process_during_the_score(fault: signal.Signals, tmp_path: Path):
    path = tmp_path / "run"
    process = launched("lbf/Foraging-5x5-2p-1f-v3", path, "--run.total-steps", 160, "--run.score-episodes", 300)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("Scoring 300 episodes"):
        assert process.poll() is None
    time.sleep(1)
    os.kill(child(process, 1), fault)
    code, out, err = results([process], 400)[0]
    if fault == signal.SIGTERM:
        assert code == 143, out + err
        assert f"Finished and saved in {path}, without its score and report: stopped.  Go on with:" in out
        assert not (path / "score.json").exists()
        return
    assert code == 0, out + err
    assert "process 1 was ended by SIGKILL; all are started again" in err
    assert len(json.loads((path / "score.json").read_text())["returns"]["greedy"]) == 300


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("whom", ["the program", "process 0", "process 1", "all"])
def test_a_warning_to_any_process_stops_all_with_3(tmp_path: Path, whom: str):
    path = tmp_path / "run"
    process = launched("spread", path, "--run.total-steps", 80 * 100_000, "--run.eval-interval", 80 * 100_000)
    until_updates(path, 3)
    ranks = [child(process, 0), child(process, 1)]
    for pid in {"the program": [process.pid], "all": [process.pid, *ranks]}.get(whom, [ranks[whom == "process 1"]]):
        os.kill(pid, signal.SIGUSR1)
    code, out, err = finish(process)
    assert code == 3, out + err
    assert "by SIGUSR1 and saved" in out
    updates = checkpoint.load(path).state["updates"]
    assert len((path / "metrics.csv").read_text().splitlines()) == 1 + updates


def test_no_process_is_left_behind_by_a_killed_launcher(tmp_path: Path):
    path = tmp_path / "run"
    process = launched("spread", path, "--run.total-steps", 80 * 100_000)
    until_updates(path, 3)
    process.kill()
    process.communicate(timeout=600)  # returns once no process holds the pipe any longer
    updates = checkpoint.load(path).state["updates"]
    assert len((path / "metrics.csv").read_text().splitlines()) == 1 + updates


NAN = """
import os, sys
import torch
import mappo
from mappo.envs.batched.spread import Spread

class Bad(Spread):
    def step(self, action):
        step = super().step(action)
        self.count = getattr(self, "count", 0) + 1
        if os.environ["RANK"] == "1" and self.count == 25 and sys.argv[2] == "raise":
            raise mappo.UserError("the environment is broken")
        if os.environ["RANK"] == "1" and self.count == 25:
            step.reward[0] = float("nan")
        return step

small = {"env": {"num_envs": 8}, "network": {"hidden": [8]}, "ppo": {"rollout_length": 10, "epochs": 1}}
run = {"total_steps": 400, "dir": sys.argv[1], "progress": "off", "on_nonfinite": sys.argv[2].replace("raise", "auto")}
env = lambda num_envs: Bad(num_envs)
try:
    run = mappo.train(env, mappo.Config.from_dict(small | {"run": run | {"lost_after": 20.0}}))
    print([int(x) for x in run.metrics["epochs"]])
except mappo.UserError as error:
    print("UserError", error)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("reaction", ["skip", "raise", pytest.param("stop", marks=pytest.mark.slow)])
def test_bad_numbers_and_errors_in_one_process_reach_all(tmp_path: Path, reaction: str):
    found = results(start(["-c", NAN, str(tmp_path / "run"), reaction], 2))
    (_, first, _), (_, second, _) = found
    if reaction == "skip":
        assert first == second == "[1, 1, 0, 1, 1]\n", found
        return
    reason = "environment 4 of 8" if reaction == "stop" else "the environment is broken"
    assert second.startswith("UserError process 1 of 2 (host "), found
    assert reason in second
    assert first.startswith("ElsewhereError process 1 of 2"), found
    assert reason in first


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_process_that_never_starts_is_waited_for_in_vain(tmp_path: Path, rank: int):
    processes = start(command("spread", tmp_path / "run", "--run.lost-after", 3), 2)
    lost = processes.pop(1 - rank)
    lost.kill()
    finish(lost)
    began = time.monotonic()
    code, _, err = finish(processes[0])
    assert code == 4
    assert err.startswith("mappo: the 2 processes of the run do not find each other at 127.0.0.1:")
    assert len(err.splitlines()) == 1  # nothing of torch's
    assert time.monotonic() - began < 600, "the default"


def test_seeds_are_not_scored_after_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(launch, "_run_all", lambda *_: time.sleep(0.01) or [0, 0])
    config = Config(run=RunConfig(seeds=2, processes=2, dir=str(tmp_path), exists="resume", time_limit=1e-4))
    monkeypatch.setattr("mappo.training.run.load_run", lambda path, **_: Run(path, "spread", config, 1))
    monkeypatch.setattr(launch, "complete", lambda *_: pytest.fail("scored"))
    assert launch.launch([], "spread", config, True, nullcontext) == 0
    assert "without its score, replay and report: run.time-limit is over.  Go on with:" in capsys.readouterr().out


def test_the_last_loss_asks_for_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(launch, "_run_all", lambda *_: [4, -9])
    config = Config(run=RunConfig(processes=2, dir=str(tmp_path), exists="resume", restarts=1))
    assert launch.launch([], "spread", config, True, nullcontext) == 4
    again, last = capsys.readouterr().err.splitlines()
    assert again == "mappo: process 1 was ended by SIGKILL; all are started again (1 restarts left)"
    assert last == f"mappo: process 1 was ended by SIGKILL. {START_AGAIN}"


def test_a_process_may_have_fewer_seeds_than_there_are_processes():
    config = Config(run=RunConfig(seeds=10, processes=4))
    own = [own_config(config, Place(rank, 4, rank, 4)).run for rank in range(4)]
    assert [seed for run in own for seed in run.all_seeds] == list(range(1, 11))
    assert {run.seeds for run in own} == {2, 3}


def test_seeds_are_dealt_out(tmp_path: Path):
    length = ("--run.total-steps", 400, "--run.seeds", 3)
    code, out, err = finish(launched("spread", tmp_path / "two", *length))
    assert (code, err) == (0, ""), out
    assert (tmp_path / "two" / "curve.png").exists()
    done = subprocess.run(
        [sys.executable, *command("spread", tmp_path / "one", *length)], env=ENV, capture_output=True, check=True
    )
    assert done.returncode == 0
    for seed in (1, 2, 3):
        assert_same(tmp_path / "one" / f"seed-{seed}", tmp_path / "two" / f"seed-{seed}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--run.processes", "2", "--env.num-envs", "9"], "env.num-envs 9 cannot be divided among 2 processes; 8 can"),
        (["--run.processes", "4", "--run.seeds", "2"], "run.processes 4 for 2 run.seeds"),
        (["--run.processes", "2", "--ppo.minibatches", "80"], "in each of 2 processes: ppo.minibatches 80 does not"),
    ],
)
def test_what_cannot_be_divided_starts_no_process(
    tmp_path: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    assert main(command("spread", tmp_path / "run", *options)[2:]) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_of_another_launcher_show_an_error_once(tmp_path: Path):
    found = results(start(command("spread", tmp_path / "run", "--ppo.minibatches", 80), 2))
    assert [code for code, _, _ in found] == [2, 2]
    errors = "".join(err for _, _, err in found)
    assert errors.count("in each of 2 processes: ppo.minibatches 80 does not") == 1, errors
    assert errors.count("mappo: ") == 1


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2])
def test_all_processes_start_from_the_weights_of_another_run_and_go_on_as_a_longer_run(seeds: int, tmp_path: Path):
    source, path = tmp_path / "source", tmp_path / "run"
    assert main(command("spread", source, "--run.total-steps", 160)[2:]) == 0
    rates = ("--ppo.actor-lr", 1e-9, "--ppo.critic-lr", 1e-9, "--ppo.lr-final", 1, "--run.seeds", seeds)
    code, out, err = finish(launched("spread", path, "--run.total-steps", 160, "--run.init-from", source, *rates))
    assert (code, err) == (0, ""), out
    weights = checkpoint.load(source).model
    paths = [path] if seeds == 1 else [path / "seed-1", path / "seed-2"]
    for own in paths:
        found = checkpoint.load(own).model
        for name in (name for name in weights if name.startswith("network.")):
            assert (found[name] - weights[name]).abs().max() < 1e-6, name
    args = ["-m", "mappo", "resume", str(path), "--total-steps", "320", "--progress", "off"]
    streams: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    code, out, err = finish(subprocess.Popen([sys.executable, *args], env=ENV, **streams))
    assert (code, err) == (0, ""), out
    assert out.startswith(f"{path} goes on from step 160 to 320\n")
    assert [checkpoint.load(own).state["step"] for own in paths] == [320] * seeds
