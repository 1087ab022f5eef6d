"""Runs of other versions: one that an earlier version made is read, or the message says exactly why not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mappo
from games import Game
from mappo.cli.main import main
from mappo.errors import UserError
from mappo.runs import checkpoint
from mappo.runs.config_json import FORMAT
from mappo.runs.directory import read_run
from paths import DATA
from strangers import copied, last, sealed

KEPT = sorted(DATA.glob("run-format-*"))  # made by the version that brought the format, and never made again


def test_there_is_a_run_of_the_present_format():
    assert DATA / f"run-format-{FORMAT}" in KEPT


@pytest.fixture(params=KEPT, ids=lambda path: path.name)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return copied(request.param, tmp_path / "run")


def test_a_run_kept_from_then_is_loaded_and_scored(run: Path):
    env, config, spec = read_run(run)
    assert env == "probe/combined"
    assert config.network.hidden == (4,)
    assert spec.agents[0] == "agent_0"
    for which in ("last", "best"):
        actor = mappo.load_actor(run, checkpoint=which)
        action, memory = actor(torch.zeros(3, *spec.obs_shape))
        assert action.shape == (3, spec.action_size)
        assert memory.isfinite().all()
    assert main(["evaluate", str(run), "--episodes", "4"]) == 0


def test_a_run_kept_from_then_goes_on(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["resume", str(run), "--progress", "plain"]) == 0
    assert "passed over" not in capsys.readouterr().out
    rows = (run / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[1:]] == ["1", "2", "3", "4", "5"]
    assert rows[0].endswith(",return_latest"), "a column that the earlier version did not have"
    assert all(row.count(",") == rows[0].count(",") for row in rows)
    assert all(row.endswith(",") for row in rows[1:3])
    # As the earlier version computed them, by random numbers common to all environments.
    assert rows[3].startswith("1,3,24,2.0,10.0,10.0,3.57848")
    assert rows[5].startswith("1,5,40,2.0,7.0,10.0,3.5312")


@pytest.mark.parametrize(
    ("told", "why"), [(1, "an earlier version of mappo: such runs cannot be read any more"), (99, "a later version")]
)
def test_another_format_is_told_with_what_to_do(told: int, why: str, tmp_path: Path):
    run = copied(KEPT[-1], tmp_path / "run")
    sealed(last(run), format=told)
    with pytest.raises(UserError, match=rf"has format {told}, this version reads {FORMAT}; it was written by {why}"):
        checkpoint.read_checkpoint(last(run), None)
    described = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(described | {"format": told}))
    with pytest.raises(UserError, match=rf"config\.json has format {told}, .*; it was written by {why}"):
        mappo.load_actor(run)


def test_every_file_tells_its_version(tmp_path: Path):
    """Tensors by the state.json beside them, whose checksums they have; metrics.csv by the names of its columns."""
    run = KEPT[-1]
    for file in (run / "config.json", last(run) / "state.json"):
        told = json.loads(file.read_text())
        assert told["format"] == FORMAT
        assert isinstance(told["mappo"], str)
    assert set(told["sha256"]) == {"model.safetensors", "trainer.safetensors", "state.json"}
    assert (run / "metrics.csv").read_text().startswith("seed,update,step,")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_environment_that_cannot_be_saved_goes_on_the_same_way_each_time(workers: int, tmp_path: Path):
    """Law 7 as far as it goes: new episodes, from seeds that derive from the run's and the updates done."""
    told = {
        "env": {"num_envs": 4, "workers": workers},
        "network": {"hidden": [8], "memory_size": 4},
        "ppo": {"rollout_length": 10, "epochs": 1},
        "run": {"total_steps": 320, "eval_episodes": 2, "eval_interval": 160, "progress": "off"},
    }

    def stop(update: Any) -> None:
        if update.index == 3:
            raise mappo.StopTraining

    def config(path: Path) -> mappo.Config:
        return mappo.Config.from_dict({**told, "run": {**told["run"], "dir": str(path)}})

    mappo.train(Game, config(tmp_path / "one"), callback=stop)
    copied(tmp_path / "one", tmp_path / "two")
    texts = set[bytes]()
    for path in (tmp_path / "one", tmp_path / "two"):
        run = mappo.train(Game, config(path), resume=True)
        assert run.finished
        assert not np.isnan(run.metrics["return_latest"]).any(), "the latest returns are saved all the same"
        texts.add((path / "metrics.csv").read_bytes())
    assert len(texts) == 1
