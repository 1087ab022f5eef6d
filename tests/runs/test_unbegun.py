"""The name of a run that ended before its first update is free again, and nothing else is ever removed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mappo.cli.main import main
from mappo.config import Config
from mappo.envs import make
from mappo.errors import UserError
from mappo.runs.directory import create_run
from mappo.runs.lock import lock_directory
from mappo.runs.unbegun import free_name

OPTIONS = "--env.num-envs 4 --ppo.rollout-length 5 --ppo.minibatches 1 --ppo.epochs 1 --network.hidden 4"
OPTIONS += " --run.total-steps 20 --run.eval-episodes 2 --run.score-episodes 2 --run.replay-episodes 0"
FAILS = """
from games import Game

class Fails(Game):
    def step(self, actions):
        raise ValueError("not yet written")
"""


@pytest.fixture
def unbegun(tmp_path: Path) -> Path:
    """A run of two seeds as an error in the first step leaves it."""
    spec = make("probe/signal", 1).spec
    for folder in (tmp_path / "x", tmp_path / "x/seed-1", tmp_path / "x/seed-2"):
        create_run(folder, "probe/signal", Config(), spec)
        (folder / ".lock").touch()
        (folder / "metrics.csv").write_text("seed,update,step\n")
        (folder / "tensorboard").mkdir()
    return tmp_path / "x"


def test_the_name_is_free_again(unbegun: Path):
    free_name(unbegun)
    assert not unbegun.exists()
    free_name(unbegun)  # there is no such run


KEPT: dict[str, Callable[[Path], object]] = {
    "a row": lambda run: (run / "seed-2/metrics.csv").write_text("seed,update,step\n1,1,20\n"),
    "a checkpoint": lambda run: (run / "seed-1/checkpoints/000000000020").mkdir(parents=True),
    "a file beside the checkpoints": lambda run: (
        (run / "checkpoints").mkdir(),
        (run / "checkpoints/notes.txt").write_text("precious"),
    ),
    "a file": lambda run: (run / "notes.txt").write_text("precious"),
    "a file of a seed": lambda run: (run / "seed-1/notes.txt").write_text("precious"),
    "a replay": lambda run: (run / "replay-2.gif").write_text(""),
    "a score": lambda run: (run / "seed-2/score.json").write_text("{}"),
    "no lock yet": lambda run: (run / ".lock").unlink(),
    "no run": lambda run: (run / "config.json").unlink(),
    "a link": lambda run: (run.rename(run.with_name("y")), run.symlink_to(run.with_name("y"))),
}


@pytest.mark.parametrize("kind", KEPT)
def test_nothing_else_is_removed(kind: str, unbegun: Path):
    KEPT[kind](unbegun)
    before = sorted(unbegun.rglob("*"))
    free_name(unbegun)
    assert sorted(unbegun.rglob("*")) == before


@pytest.mark.parametrize("folder", [".", "seed-2"])
def test_a_run_that_another_process_begins_is_kept(folder: str, unbegun: Path):
    with lock_directory(unbegun / folder), pytest.raises(UserError, match="another process trains in"):
        free_name(unbegun)
    assert unbegun.exists()


def test_a_failed_start_can_be_repeated_with_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "failing.py").write_text(FAILS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    command = ["train", "failing:Fails", "--run.name", "x", "--env.workers", "0", *OPTIONS.split()]
    for _ in range(2):
        assert main(command) == 2
        assert "not yet written" in capsys.readouterr().err
    assert main(["train", "probe/signal", "--run.name", "x", "--resume", *OPTIONS.split()]) == 2
    assert "no checkpoint: to begin again with these settings leave out --resume" in capsys.readouterr().err
    assert main(["train", "probe/signal", "--run.name", "x", *OPTIONS.split()]) == 0
    assert main(["train", "probe/signal", "--run.name", "x", *OPTIONS.split()]) == 2
    assert "go on with it: mappo resume runs/x" in capsys.readouterr().err.replace(str(tmp_path) + "/", "")
