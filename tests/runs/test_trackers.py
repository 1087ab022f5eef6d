"""Trackers, with stand-ins of their packages in processes as real as the true ones."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from mappo.cli.main import main
from mappo.cli.signals import Stopped
from mappo.config import Config, EnvConfig, PPOConfig, RunConfig
from mappo.errors import UserError
from mappo.runs.csv_table import GrowingTable
from mappo.runs.logger import Update
from mappo.runs.tags import metric_tag
from mappo.runs.trackers.processes import TrackerProcesses
from mappo.training.train import train
from paths import PYTHONPATH, TESTS
from training_runs import CONFIG, stop_after, within

FAKES = TESTS / "support/fake_trackers"
HEADER = "seed,update,step,return_sum,value\n"
LAST = 240  # steps of the run below


@pytest.fixture(autouse=True)
def notes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("FAULT", "WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "TRACKIO_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.syspath_prepend(str(FAKES))
    return tmp_path / "notes"


def told(notes: Path, *calls: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    return [line for line in lines if not calls or line["call"] in calls]


def make_run(path: Path, *steps: int) -> Path:
    """A run directory with rows at these steps, without any training."""
    path.mkdir(exist_ok=True)
    ppo = PPOConfig(rollout_length=80, minibatches=1)
    config = Config(env=EnvConfig(num_envs=1), ppo=ppo, run=RunConfig(total_steps=LAST))
    run = {"format": 2, "env": "spread", "config": config.to_dict()}
    (path / "config.json").write_text(json.dumps(run))
    rows = "".join(f"7,{step // 80},{step},{-step / 2},\n" for step in steps)
    (path / "metrics.csv").write_text(HEADER + rows)
    (path / "timing.csv").write_text("update,step,elapsed_s\n" + "".join(f"{s // 80},{s},{s / 10}\n" for s in steps))
    return path


def follow(path: Path, *services: str, limit: float = 60.0) -> None:
    with TrackerProcesses(services, path, [path], path.parent, limit):
        pass


def test_a_run_and_its_continuation_are_one_record(notes: Path, tmp_path: Path):
    path = tmp_path / "run"
    config = within(CONFIG, path, track=("wandb",))
    train("spread", config, callback=stop_after(3))
    train("spread", config, resume=True)
    bare = within(CONFIG, tmp_path / "bare")
    assert (train("spread", bare).path / "metrics.csv").read_bytes() == (path / "metrics.csv").read_bytes()
    first, second = told(notes, "init")
    assert first["id"] == second["id"]
    assert first["mode"] == "offline"
    assert first["config"]["environment"] == "spread"
    assert first["config"]["ppo.actor_lr"] == 5e-3
    rows = (path / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("value_loss")
    expected = [(int(row.split(",")[2]), float(row.split(",")[column])) for row in rows[1:]]
    sent = told(notes, "log")
    assert [(line["step"], line["values"]["critic/value_loss"]) for line in sent] == expected
    assert all("time/update_s" in line["values"] for line in sent)
    assert [line["values"] for line in told(notes, "picture")] == [{"curve": str(path / "curve.png")}] * 2
    assert [line["id"] for line in told(notes, "finish")] == [first["id"]] * 2


def test_what_was_not_sent_is_sent_later_and_nothing_twice(notes: Path, tmp_path: Path):
    path = make_run(tmp_path / "run", 80)
    follow(path, "wandb")
    make_run(path, 80, 160)
    (path / "replay.gif").touch()
    follow(path, "wandb")
    make_run(path, 80, 160, 240)
    follow(path, "wandb")
    assert [line["step"] for line in told(notes, "log")] == [80, 160, 240]
    assert told(notes, "log")[0]["values"] == {
        "return/sum": -40.0,
        "time/elapsed_s": 8.0,
        "train/update": 1.0,
    }
    assert [line["step"] for line in told(notes, "picture")] == [161]


def test_a_resume_of_a_complete_run_sends_the_pictures_that_a_stop_left_out(
    notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*_: object) -> None:
        raise Stopped(signal.SIGINT)

    path = tmp_path / "run"
    options = "--env.num-envs 4 --ppo.rollout-length 5 --ppo.minibatches 1 --ppo.epochs 1 --network.hidden 4 "
    options += "--run.total-steps 40 --run.score-episodes 2 --run.replay-episodes 1 --run.track wandb"
    with monkeypatch.context() as patch:
        patch.setattr("mappo.cli.ending.track_rest", stop)
        assert main(["train", "spread", "--run.dir", str(path), *options.split()]) == 128 + signal.SIGINT
    sent = told(notes, "picture")
    assert [line["values"] for line in sent] == [{"curve": str(path / "curve.png")}]
    assert main(["resume", str(path)]) == 0
    assert {"replay": str(path / "replay.gif")} in [line["values"] for line in told(notes, "picture")]


def test_mlflow_finds_its_record_again_from_another_folder(
    notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = make_run(tmp_path / "run", 80, 160)
    follow(path, "mlflow")
    make_run(path, 80, 160, 240)
    (path / "curve.png").touch()
    with TrackerProcesses(["mlflow"], path, [path], path):
        pass
    database = f"sqlite:///{tmp_path}/mlflow.db"
    assert [line["uri"] for line in told(notes, "client")] == [database] * 2
    assert told(notes, "init")[0]["experiment"] == "experiment mappo"
    assert told(notes, "params")[0]["values"]["environment"] == "spread"
    assert told(notes, "resume") == [{"call": "resume", "id": "id of run", "status": "RUNNING"}]
    assert len(told(notes, "log")) == 2
    assert told(notes, "picture")[0]["values"] == [str(path / "curve.png")]
    assert [line["status"] for line in told(notes, "finish")] == ["KILLED", "FINISHED"]


def test_seeds_have_records_of_their_own_in_one_group(notes: Path, tmp_path: Path):
    (tmp_path / "run").mkdir()
    paths = [make_run(tmp_path / "run" / f"seed-{seed}", 80) for seed in (1, 2)]
    (tmp_path / "run/curve.png").touch()
    with TrackerProcesses(["trackio"], tmp_path / "run", paths, tmp_path):
        pass
    one, two = told(notes, "init")
    assert one["name"].startswith("run-seed-1-")
    assert two["name"].startswith("run-seed-2-")
    assert (one["group"], two["group"]) == ("run", "run")
    calls = [(line["call"], line["id"]) for line in told(notes, "log", "picture", "finish")]
    first, second = one["name"], two["name"]
    assert calls == [("log", first), ("picture", first), ("finish", first), ("log", second), ("finish", second)]


FAULTS = {
    "missing": "it is not installed: .* install wandb",
    "init": "no space for init",
    "log": "no space for log",
    "picture": "no space for picture",
    "finish": "no space for finish",
    "log:kill": "it gave no reason",
    "finish:hang": "it gave no answer within 0.2 s",
    "import:hang": "it gave no answer within 0.2 s",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_tracker_that_fails_is_told_once_and_goes_on_at_the_next_start(
    notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
):
    path = make_run(tmp_path / "run", 80)
    (path / "curve.png").touch()
    monkeypatch.setenv("FAULT", fault)
    with pytest.warns(UserWarning, match=f"^wandb has stopped: .*{FAULTS[fault]}. The training continues") as seen:
        follow(path, "wandb", limit=0.2 if "hang" in fault else 60.0)
    assert len(seen) == 1
    monkeypatch.delenv("FAULT")
    notes.unlink(missing_ok=True)
    follow(path, "wandb")
    assert told(notes, "finish")
    steps = [line["step"] for line in told(notes, "log")]
    if fault != "finish:hang":  # on a slow machine the first process may end before it has sent the row
        assert steps == ([] if fault in ("picture", "finish") else [80])


def test_a_tracker_that_fails_early_is_told_while_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAULT", "missing")
    seen: list[int] = []

    def wait(update: Update) -> None:
        end = time.monotonic() + 600
        while not stops() and time.monotonic() < end:
            time.sleep(0.01)
            processes[0].check()
        seen.append(len(stops()))

    def stops() -> list[str]:
        return [text for warning in caught if "wandb has stopped" in (text := str(warning.message))]

    processes: list[TrackerProcesses] = []
    enter = TrackerProcesses.__enter__
    monkeypatch.setattr(TrackerProcesses, "__enter__", lambda self: (processes.append(self), enter(self))[1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = train("spread", within(CONFIG, tmp_path / "run", track=("wandb",)), callback=wait)
    assert run.finished
    assert seen == [1] * 6
    assert "is not installed" in stops()[0]


def test_a_disk_without_room_for_the_records_costs_a_warning(tmp_path: Path):
    path = make_run(tmp_path / "run", 80)
    (path / "trackers").touch()
    with pytest.warns(UserWarning, match="wandb does not follow the run: File exists"):
        follow(path, "wandb")


def test_the_rows_of_a_killed_training_are_sent(notes: Path, tmp_path: Path):
    path = make_run(tmp_path / "run", 80)
    code = (
        "import os, sys, pathlib; from mappo.runs.trackers.processes import TrackerProcesses\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "TrackerProcesses(['wandb'], path, [path], path).__enter__(); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(FAKES), PYTHONPATH])}
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=environment, check=False)
    assert done.returncode == -9
    end = time.monotonic() + 600
    while not told(notes, "finish") and time.monotonic() < end:
        time.sleep(0.02)
    assert [line["step"] for line in told(notes, "log")] == [80]
    assert told(notes, "finish")


@pytest.mark.parametrize("login", ["WANDB_API_KEY", "netrc"])
def test_wandb_decides_by_itself_for_a_user_who_has_set_it_up(
    notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: str
):
    if login == "netrc":
        (tmp_path / "netrc").write_text("machine api.wandb.ai login user password key\n")
    else:
        monkeypatch.setenv(login, "online")
    follow(make_run(tmp_path / "run", 80), "wandb")
    assert told(notes, "init")[0]["mode"] is None


def test_the_makers_of_trackers_get_no_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    started: list[dict[str, str]] = []
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "true")

    def popen(*_: Any, env: dict[str, str], **__: Any) -> None:
        started.append(env)
        raise OSError(11, "no process")

    monkeypatch.setattr("mappo.runs.trackers.processes.subprocess.Popen", popen)
    with pytest.warns(UserWarning, match="no process"):
        follow(make_run(tmp_path / "run", 80), "mlflow")
    assert started[0]["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert started[0]["WANDB_ERROR_REPORTING"] == "true"


def test_names_of_trackers_are_checked():
    with pytest.raises(UserError, match=r"run\.track must be one of wandb, mlflow, trackio, got 'wanbd'"):
        RunConfig(track=("wanbd",))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"run\.track must be a list of wandb, mlflow, trackio, got 'wandb'"):
        RunConfig(track="wandb")  # pyright: ignore[reportArgumentType]


@settings(max_examples=20)
@given(st.lists(st.integers(0, 60), max_size=6))
def test_a_growing_table_gives_each_row_once(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]):
    file = tmp_path_factory.mktemp("table") / "metrics.csv"
    text = b"a,b\n1,2.5\n2,\nx,3\n4,5,6\n5,-1e-3\n"
    table = GrowingTable(file)
    rows = table.new_rows()
    for cut in [*sorted(cuts), len(text)]:
        file.write_bytes(text[:cut])
        rows += table.new_rows()
    assert [row["a"] for row in rows] == [1, 2, 5]
    assert (rows[0]["b"], rows[2]["b"]) == (2.5, -1e-3)
    assert rows[1]["b"] != rows[1]["b"], "an empty cell"
    file.write_bytes(b"a,b\n7,8\n")
    assert table.new_rows() == [{"a": 7, "b": 8}]


def test_what_the_critic_computes_stands_together():
    assert metric_tag("value_loss") == "critic/value_loss"
    assert metric_tag("explained_variance") == "critic/explained_variance"
    assert metric_tag("policy_loss") == "loss/policy_loss"
    assert metric_tag("eval_return") == "eval/return"
    assert metric_tag("anything") == "train/anything"
