"""Tracking services: Weights & Biases, MLflow and trackio, by the same few calls.

Each stores where it stores by itself: its own environment variables and files decide. Without them nothing leaves the
machine.
"""

from __future__ import annotations

import contextvars
import importlib
import json
import math
import netrc
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlparse

# Settings of the packages, unless the user has set them: no reports about usage and errors to their makers.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
# Rows of a run: the step, and finite numbers by tag.
Rows = Sequence[tuple[int, Mapping[str, float]]]


@dataclass(frozen=True)
class RunFacts:
    """A run, as trackers show it.

    Args:
        name: directory of the run; of several seeds with the seed's directory.
        group: directory of the run.
        config: settings by their dotted names.
        saved: the tracker's `saved` of an earlier process; empty for a new record.
        step: steps already sent.
    """

    name: str
    group: str
    config: Mapping[str, Any]
    saved: Mapping[str, str]
    step: int


class Tracker(Protocol):
    """Record of a run in a service. Any method may raise any exception."""

    @property
    def saved(self) -> Mapping[str, str]:
        """Return facts to find the record again."""
        ...

    def log(self, rows: Rows) -> None:
        """Add rows, in the order of their steps."""
        ...

    def log_picture(self, name: str, file: Path, step: int) -> None:
        """Add a PNG or a GIF."""
        ...

    def finish(self, is_complete: bool) -> None:
        """End the record, until it is opened again. `is_complete`: all updates of the run are done."""
        ...


class Wandb:
    """Record in Weights & Biases: offline, unless the user has logged in or set WANDB_MODE."""

    def __init__(self, run: RunFacts) -> None:
        wandb: Any = importlib.import_module("wandb")
        self._wandb = wandb
        self.saved = run.saved or {"id": secrets.token_hex(4)}
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mappo"),
            id=self.saved["id"],
            name=run.name,
            group=run.group,
            config=dict(run.config),
            resume="allow",
            reinit="create_new",
            mode=None if self._is_configured() else "offline",
            settings=wandb.Settings(console="off", init_timeout=60),
        )

    @staticmethod
    def _is_configured() -> bool:
        """Return whether the user has chosen a mode, or has logged in."""
        if any(os.environ.get(name) for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
            return True
        host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
        try:
            return netrc.netrc(os.environ.get("NETRC")).authenticators(str(host)) is not None
        except (OSError, netrc.NetrcParseError):
            return False

    def log(self, rows: Rows) -> None:
        """Add rows, see `Tracker`."""
        for step, values in rows:
            self._run.log(dict(values), step=step)

    def log_picture(self, name: str, file: Path, step: int) -> None:
        """Add a picture, see `Tracker`. A row that is complete takes no picture any more: the picture follows it."""
        kind = self._wandb.Video(str(file), format="gif") if file.suffix == ".gif" else self._wandb.Image(str(file))
        self._run.log({name: kind}, step=step + 1)

    def finish(self, is_complete: bool) -> None:
        """End the record, see `Tracker`."""
        self._run.finish()


class Mlflow:
    """Record in MLflow: in `mlflow.db` of the current folder, unless MLFLOW_TRACKING_URI names a server."""

    _LIMIT = 1000  # of metrics in a call

    def __init__(self, run: RunFacts) -> None:
        mlflow: Any = importlib.import_module("mlflow")
        self._entities: Any = importlib.import_module("mlflow.entities")
        uri = os.environ.get("MLFLOW_TRACKING_URI") or run.saved.get("uri") or mlflow.get_tracking_uri()
        uri = _absolute(uri)
        self._client = mlflow.MlflowClient(uri)
        if run.saved:
            self.saved = {**run.saved, "uri": uri}
            self._client.update_run(self.saved["id"], status="RUNNING")
            return
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "mappo")
        found = self._client.get_experiment_by_name(experiment)
        experiment_id = self._client.create_experiment(experiment) if found is None else found.experiment_id
        created = self._client.create_run(experiment_id, run_name=run.name, tags={"group": run.group})
        self.saved = {"id": created.info.run_id, "uri": uri}
        items = list(run.config.items())
        for first in range(0, len(items), 100):
            params = [self._entities.Param(name, str(value)[:500]) for name, value in items[first : first + 100]]
            self._client.log_batch(self.saved["id"], params=params)

    def log(self, rows: Rows) -> None:
        """Add rows, see `Tracker`."""
        now = int(1000 * time.time())
        metrics = [
            self._entities.Metric(tag, value, now, step) for step, values in rows for tag, value in values.items()
        ]
        for first in range(0, len(metrics), self._LIMIT):
            self._client.log_batch(self.saved["id"], metrics=metrics[first : first + self._LIMIT])

    def log_picture(self, name: str, file: Path, step: int) -> None:
        """Add a picture as an artifact, see `Tracker`."""
        self._client.log_artifact(self.saved["id"], str(file))

    def finish(self, is_complete: bool) -> None:
        """End the record, see `Tracker`."""
        self._client.set_terminated(self.saved["id"], status="FINISHED" if is_complete else "KILLED")


def _absolute(uri: str) -> str:
    """Return MLflow's address of a database with an absolute path: a resumed run may start in another folder."""
    scheme = "sqlite:///"
    return scheme + str(Path(uri.removeprefix(scheme)).absolute()) if uri.startswith(scheme) else uri


class Trackio:
    """Record in trackio: in its folder on this machine, unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL is set."""

    def __init__(self, run: RunFacts) -> None:
        self._trackio: Any = importlib.import_module("trackio")
        # trackio finds a record by its name alone; other runs may have the same.
        self.saved = run.saved or {"name": f"{run.name.replace('/', '-')}-{secrets.token_hex(2)}"}
        arguments = {
            "project": os.environ.get("TRACKIO_PROJECT", "mappo"),
            "name": self.saved["name"],
            "group": run.group,
            "config": json.loads(json.dumps(dict(run.config))),
            "resume": "must" if run.saved else "never",
            "embed": False,
        }
        # In a context of its own: a second `init` would end the first record.
        self._run = contextvars.Context().run(lambda: self._trackio.init(**arguments))

    def log(self, rows: Rows) -> None:
        """Add rows, see `Tracker`."""
        for step, values in rows:
            self._run.log(dict(values), step=step)

    def log_picture(self, name: str, file: Path, step: int) -> None:
        """Add a picture, see `Tracker`."""
        kind = self._trackio.Video(str(file)) if file.suffix == ".gif" else self._trackio.Image(str(file))
        self._run.log({name: kind}, step=step)

    def finish(self, is_complete: bool) -> None:
        """End the record, see `Tracker`."""
        self._run.finish()


SERVICES: dict[str, Callable[[RunFacts], Tracker]] = {"wandb": Wandb, "mlflow": Mlflow, "trackio": Trackio}


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Return the finite numbers."""
    return {tag: value for tag, value in values.items() if math.isfinite(value)}
