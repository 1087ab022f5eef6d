"""Where a run comes from: machine, device and settings, as a page names them."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mappo.config import Config
from mappo.experiments.report.origin import describe_origin
from mappo.experiments.report.report import report
from recorded_runs import changed, evaluated, record_run


@pytest.mark.parametrize(
    ("device", "gpu", "shown"), [("auto", None, "cpu"), ("auto", "H200", "cuda"), ("cpu", None, "cpu")]
)
def test_the_device_is_the_device_that_auto_gave(device: Any, gpu: str | None, shown: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"machine": {"gpu": gpu}}))
    config = replace(Config(), run=replace(Config().run, device=device))
    record: Any = SimpleNamespace(config=config, score=None)
    rows = {name: value for [(name, _), (value, _)] in describe_origin(tmp_path, [record])}
    assert rows["device of the run"] == f"{shown}, 1 thread"


@pytest.mark.parametrize(("env", "column"), [("spread", "preset"), ("probe/signal", "general")])
def test_settings_are_compared_with_a_preset_where_there_is_one(env: str, column: str, tmp_path: Path):
    page = report(record_run(tmp_path / "run", evaluated(1), env=env, config=changed(Config(), ppo={"gamma": 0.5})))
    head = page.read_text().partition("Settings that differ from")[2].partition("</thead>")[0]
    assert f">{column}</th>" in head
