"""The trackers themselves: a run and its continuation are one record, which their own tools read (`make trackers`)."""

import importlib
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mappo.runs.csv_table import read_table
from mappo.training.train import train
from training_runs import CONFIG, stop_after, within

# The packages warn of each other's old calls, and differ in it from version to version.
pytestmark = [pytest.mark.trackers, pytest.mark.filterwarnings("default")]
TAG = "critic/value_loss"
VARIABLES = ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")
BLOCK = 32768  # bytes of a block in a file of wandb
Record = list[tuple[int, float]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped and resumed, with all three trackers."""
    for name in (*VARIABLES, "TRACKIO_PROJECT", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.chdir(tmp_path)
    config = within(CONFIG, tmp_path / "run", track=("wandb", "mlflow", "trackio"))
    train("spread", config, callback=stop_after(3))
    train("spread", config, resume=True)
    return tmp_path / "run"


def test_each_record_holds_each_row_once(run: Path):
    table = read_table(run / "metrics.csv", ["step", "value_loss"])
    rows = [(int(step), value) for step, value in zip(table["step"], table["value_loss"], strict=True)]
    assert len(rows) == 6
    saved = {name: json.loads((run / "trackers" / f"{name}.json").read_text()) for name in READERS}
    for name, read in READERS.items():
        assert read(run.parent, saved[name]) == [(step, pytest.approx(value, rel=1e-6)) for step, value in rows], name


def wandb_record(folder: Path, saved: Any) -> Record:
    """The record of both processes, from the files of an offline run and the messages that wandb defines."""
    messages: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    rows: Record = []
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        records = [messages.Record.FromString(data) for data in wandb_messages(file.read_bytes())]
        assert {record.run.run_id for record in records if record.HasField("run")} == {saved["record"]["id"]}
        for record in records:
            values = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            if TAG in values:
                rows.append((record.history.step.num or int(values["_step"]), json.loads(values[TAG])))
    return rows


def wandb_messages(data: bytes) -> Iterator[bytes]:
    """The messages of a file: a head of 7 bytes, then blocks of chunks, each after checksum, length and kind."""
    whole = b""
    place = 7
    while place + 7 <= len(data):
        left = BLOCK - place % BLOCK
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole message, or the last chunk of a message
            yield whole
            whole = b""


def mlflow_record(folder: Path, saved: Any) -> Record:
    mlflow: Any = importlib.import_module("mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("mappo")
    [found] = client.search_runs([experiment.experiment_id])
    assert (found.info.run_id, found.info.status) == (saved["record"]["id"], "FINISHED")
    assert found.data.params["environment"] == "spread"
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, TAG))


def trackio_record(folder: Path, saved: Any) -> Record:
    """By trackio's command line."""

    def ask(*words: str) -> Any:
        command = [sys.executable, "-m", "trackio.cli", *words, "--project", "mappo", "--json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert ask("list", "runs")["runs"] == [saved["record"]["name"]]
    values = ask("get", "metric", "--run", saved["record"]["name"], "--metric", TAG)["values"]
    return [(value["step"], value["value"]) for value in values]


READERS = {"wandb": wandb_record, "mlflow": mlflow_record, "trackio": trackio_record}
