"""A stand-in for MLflow, with the calls that mappo makes, as its documentation describes them."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from notes import note

from mlflow.entities import Metric, Param


def get_tracking_uri() -> str:
    return "sqlite:///mlflow.db"


class MlflowClient:
    def __init__(self, uri: str) -> None:
        note("client", uri=uri)

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return f"experiment {name}"

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> Any:
        note("init", experiment=experiment, name=run_name, group=tags["group"])
        return SimpleNamespace(info=SimpleNamespace(run_id=f"id of {run_name}"))

    def update_run(self, id: str, status: str) -> None:
        note("resume", id=id, status=status)

    def log_batch(self, id: str, metrics: Sequence[Metric] = (), params: Sequence[Param] = ()) -> None:
        assert len(metrics) <= 1000
        assert len(params) <= 100
        assert all(len(param.value) <= 500 for param in params)
        note("params" if params else "log", id=id, values={x.key: x.value for x in params or metrics})

    def log_artifact(self, id: str, file: str) -> None:
        note("picture", id=id, values=[file])

    def set_terminated(self, id: str, status: str) -> None:
        note("finish", id=id, status=status)
