"""A run stays where it was begun, whatever the code of an environment does to the process's current folder."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import mappo
from games import Game
from mappo.cli.main import main
from mappo.errors import UserError

CONFIG: dict[str, Any] = {
    "env": {"num_envs": 2, "workers": 0},
    "network": {"hidden": [4]},
    "ppo": {"rollout_length": 8, "epochs": 1},
    "run": {"total_steps": 32, "eval_interval": 16, "eval_episodes": 2, "progress": "plain"},
}


class Mover(Game):
    """Changes the current folder when it is made, reset or stepped."""

    when = "made"

    def __init__(self) -> None:
        super().__init__()
        self.go("made")

    def go(self, now: str) -> None:
        if now == self.when:
            os.chdir("/")

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.go("reset")
        return super().reset(seed, options)

    def step(self, actions: dict[str, Any]) -> Any:
        self.go("step")
        return super().step(actions)


OPTIONS = "--env.num-envs 2 --env.workers 0 --network.hidden 4 --ppo.rollout-length 8 --ppo.epochs 1 "
OPTIONS += "--ppo.minibatches 1 --run.total-steps 16 --run.eval-episodes 2"


def config(**run: Any) -> mappo.Config:
    return mappo.Config.from_dict({**CONFIG, "run": {**CONFIG["run"], **run}})


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if not p.name.startswith(".")}


ALL = {"config.json", "metrics.csv", "timing.csv", "returns.csv", "curve.png", "checkpoints", "tensorboard"}


@pytest.mark.parametrize(
    ("when", "run"),
    [
        ("made", {"dir": "there"}),
        ("reset", {"dir": "there"}),
        ("step", {"dir": "there"}),
        ("made", {}),
        ("made", {"dir": "two", "seeds": 2}),
    ],
)
def test_all_files_are_where_the_run_began(
    when: str, run: dict[str, Any], start: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Mover, "when", when)
    trained = mappo.train(Mover, config(**run))
    assert Path.cwd() == Path("/")
    path = start / "there" if run.get("dir") == "there" else trained.path
    assert trained.path == path
    assert trained.path.is_absolute()
    assert trained.path.is_relative_to(start)
    if "seeds" in run:
        assert all(files(path / f"seed-{seed}") >= ALL - {"curve.png"} for seed in (1, 2))
    else:
        assert files(path) == ALL
    assert trained.metrics["update"].tolist() == [1.0, 2.0] * run.get("seeds", 1)
    assert mappo.load_actor(path if "seeds" not in run else path / "seed-1") is not None


def test_a_relative_run_is_resumed(start: Path):
    def stop(update: Any) -> None:
        raise mappo.StopTraining

    mappo.train(Mover, config(dir="there"), callback=stop)
    os.chdir(start)
    assert mappo.train(Mover, config(dir="there"), resume=True).path == start / "there"
    assert not (Path("/") / "there").exists()


def test_the_command_line_writes_and_names_what_is_there(
    start: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """With a folder that looks like an option."""
    (start / "roaming.py").write_text(
        "import os\nimport numpy as np\nfrom games import Game\n\nclass Roaming(Game):\n"
        "    def __init__(self):\n        super().__init__()\n        os.chdir('/')\n\n"
        "    def render(self):\n        return np.zeros((8, 8, 3), np.uint8)\n"
    )
    monkeypatch.syspath_prepend(str(start))
    (start / "bin").mkdir()
    (start / "bin" / "mappo").touch()
    monkeypatch.setattr(sys, "argv", ["bin/mappo"])
    monkeypatch.setenv("PATH", "")
    assert main(["train", "roaming:Roaming", "--run.dir=-x", *OPTIONS.split()]) == 0
    out = capsys.readouterr().out
    assert files(start / "-x") == ALL | {"replay.gif", "score.json", "report.html"}
    command = next(line for line in out.splitlines() if " evaluate " in line)
    assert command == f"  bin/mappo evaluate {start}/-x --allow-code --episodes 2000"
    (start / "-x" / "replay.gif").unlink()
    os.chdir(start)
    assert main(["play", "./-x", "--allow-code", "--episodes", "1"]) == 0
    assert capsys.readouterr().out.strip() == f"{start}/-x/replay.gif"
    assert (start / "-x" / "replay.gif").exists()


def test_a_run_is_scored_where_its_environment_has_removed_the_current_folder(
    start: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (start / "homeless.py").write_text(
        "import os\nimport tempfile\nfrom games import Game\n\nclass Homeless(Game):\n"
        "    def reset(self, seed=None, options=None):\n        os.chdir(tempfile.mkdtemp())\n"
        "        os.rmdir(os.getcwd())\n        return super().reset(seed)\n"
    )
    monkeypatch.syspath_prepend(str(start))
    assert (
        main(["train", "homeless:Homeless", "--run.dir", "there", *OPTIONS.split(), "--run.score-episodes", "2"]) == 0
    )
    assert f" evaluate {start}/there --allow-code" in capsys.readouterr().out
    os.chdir(start)
    assert main(["evaluate", "there", "--allow-code", "--episodes", "2", "--workers", "0"]) == 0


def test_a_current_folder_removed_as_environments_are_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")

    class Removes(Game):
        def __init__(self) -> None:
            super().__init__()
            shutil.rmtree(tmp_path / "gone", ignore_errors=True)

    config = mappo.Config.from_dict({**CONFIG, "run": {**CONFIG["run"], "dir": str(tmp_path / "run")}})
    with pytest.raises(UserError, match="the environment has removed the current folder as it was made"):
        mappo.train(Removes, config)
    assert not (tmp_path / "run").exists()
