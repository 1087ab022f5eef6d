"""What a user keeps where mappo writes: never deleted, no advice says to delete it, and it costs no checkpoint."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mappo.config import Config, RunConfig
from mappo.envs import make
from mappo.errors import UserError
from mappo.runs import checkpoint
from mappo.runs.checkpoint import load, save
from mappo.runs.directory import create_run, open_run
from mappo.runs.lock import lock_directory

SPEC = make("spread", 1).spec


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "one"
    create_run(path, "spread", Config(), SPEC)
    return path


def put(run: Path, *steps: int) -> Path:
    for step in steps:
        number = {"x": torch.tensor([float(step)])}
        path = save(run, step, {"updates": step}, {"network.x": number["x"]}, number)
    return path


def refused(path: Path) -> str:
    """The message for a new run in the place of `path`, which stays as it is."""
    before = sorted(path.rglob("*")) if path.is_dir() else []
    with pytest.raises(UserError) as told:
        create_run(path, "spread", Config(), SPEC)
    assert (sorted(path.rglob("*")) if path.is_dir() else []) == before
    assert str(told.value).startswith(f"{path} exists")
    return str(told.value)


OTHER_FOLDERS: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: None,
    "notes": lambda path: (path / "notes.txt").write_text("precious"),
    "another program's config": lambda path: (path / "config.json").write_text('{"editor": "vim"}'),
    "a list": lambda path: (path / "config.json").write_text("[1]"),
    "checkpoints alone": lambda path: (path / "checkpoints" / "000000000010").mkdir(parents=True),
    "a run that lost its config": lambda path: (path / "metrics.csv").write_text("seed\n"),
    "runs": lambda path: create_run(path / "one", "spread", Config(), SPEC),
}


@pytest.mark.parametrize("kind", OTHER_FOLDERS)
def test_nobody_is_told_to_delete_what_is_no_run(kind: str, tmp_path: Path):
    path = tmp_path / "home"
    path.mkdir()
    OTHER_FOLDERS[kind](path)
    assert refused(path) == f"{path} exists and is not a run: choose another --run.name or --run.dir"


def test_a_file_and_the_folder_above_are_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    assert "delete" not in refused(tmp_path / "file")
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    config = replace(Config(), run=RunConfig(dir=".."))
    with pytest.raises(UserError, match=r"\.\. exists and is not a run: choose another"):
        open_run("spread", config, SPEC, resume=False)


def test_a_run_that_saved_nothing_is_given_up_only_where_nothing_else_is_in_it(run: Path):
    assert refused(run).endswith("or delete it, for no checkpoint was saved in it")
    (run / "notes.txt").write_text("precious")
    assert "delete" not in refused(run)
    (run / "notes.txt").unlink()
    (run / "seed-1").mkdir()
    (run / "seed-1" / ".git").mkdir()
    assert "delete" not in refused(run)


def test_a_run_of_which_one_seed_was_saved_is_not_given_up(run: Path):
    for seed in (1, 2):
        create_run(run / f"seed-{seed}", "spread", Config(), SPEC)
    put(run / "seed-2", 10)
    assert refused(run).endswith(f"or go on with it: mappo resume {run / 'seed-2'}")
    put(run / "seed-1", 10)
    assert refused(run).endswith(f"or go on with it: mappo resume {run}")


def test_a_lost_folder_is_told_without_advice_about_the_folder_above(run: Path, tmp_path: Path):
    shutil.rmtree(run)
    with pytest.raises(UserError) as told, lock_directory(run):
        pass
    assert str(told.value) == f"{run} is missing: it was moved or deleted"


# Beside the checkpoints

THEIRS = ["202401011200", "000000000012", "999999999999999999", ".x.tmp", ".000000000025.tmp"]
CONTENTS: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda path: None,
    "photos": lambda path: (path / "photo.jpg").write_text("precious"),
    "weights": lambda path: (path / "model.safetensors").write_text("precious"),
    "a state": lambda path: (path / "state.json").write_text('{"step": 12}'),
    "more than a checkpoint": lambda path: [
        (path / name).write_text("precious")
        for name in ("model.safetensors", "trainer.safetensors", "state.json", "notes.txt")
    ],
    "folders": lambda path: (path / "trainer.safetensors").mkdir(),
}


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("name", THEIRS)
def test_folders_of_the_user_stay_beside_checkpoints(name: str, kind: str, run: Path):
    put(run, 5, 10)
    path = run / "checkpoints" / name
    path.mkdir()
    CONTENTS[kind](path)
    before = sorted(p for p in path.rglob("*"))
    put(run, 20, 30, 40)
    if name == ".000000000025.tmp" and kind in ("nothing", "weights", "a state"):
        return  # as a process killed while saving leaves it
    if (name, kind) == ("000000000012", "a state"):
        return  # the state of step 12
    assert path.is_dir()
    assert sorted(p for p in path.rglob("*")) == before
    assert {30, 40} <= {int(p.name) for p in (run / "checkpoints").glob("[0-9]*")}, "theirs take no place of ours"
    assert not (run / "checkpoints" / f"{20:012d}").exists()


def test_copies_of_a_checkpoint_stay(run: Path, tmp_path: Path):
    first = put(run, 10)
    for name in ("202401011200", "000000000015"):
        shutil.copytree(first, first.parent / name)
    other = tmp_path / "runs" / "two"
    create_run(other, "battle", Config(), make("battle", 1).spec)
    shutil.copytree(put(other, 17), first.parent / f"{17:012d}")
    put(run, 20, 30)
    assert sorted(int(p.name) for p in first.parent.glob("[0-9]*")) == [15, 17, 20, 30, 202401011200]


@pytest.mark.parametrize("lost", ["model.safetensors", "state.json"])
def test_damaged_checkpoints_that_a_run_was_rewound_past_are_deleted(lost: str, run: Path):
    put(run, 10)
    (put(run, 20) / lost).unlink()
    assert load(run).state["step"] == 10
    put(run, 15)
    assert sorted(int(p.name) for p in (run / "checkpoints").iterdir()) == [10, 15]
    put(run, 20)
    assert load(run).state["step"] == 20


def test_a_folder_in_the_place_of_a_checkpoint_is_told(run: Path):
    put(run, 10)
    theirs = run / "checkpoints" / f"{20:012d}"
    theirs.mkdir()
    (theirs / "photo.jpg").write_text("precious")
    with pytest.raises(UserError, match=rf"^could not save the checkpoint {theirs}: .*move away what is not mappo's"):
        put(run, 20)
    assert (theirs / "photo.jpg").read_text() == "precious"
    assert load(run).state["step"] == 10


# Many, or none that can be read


def test_ten_thousand_damaged_checkpoints_are_told_in_some_lines(run: Path):
    put(run, 10)
    for step in range(100, 2100):
        (run / "checkpoints" / f"{step:012d}").mkdir()
    found = load(run)
    assert found.state["step"] == 10
    assert len(found.passed_over) == 4
    assert found.passed_over[-1] == "1,997 more checkpoints are damaged"
    shutil.rmtree(found.path)
    with pytest.raises(UserError) as told:
        load(run)
    assert str(run / "checkpoints" / f"{2099:012d}") in str(told.value), "the newest ones are named"
    assert str(told.value).endswith("; 1,997 more checkpoints are damaged")
    assert len(str(told.value)) < 1500


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("name", ["state.json", "model.safetensors"])
def test_a_checkpoint_that_cannot_be_read_now_is_not_passed_over(
    name: str, number: int, run: Path, monkeypatch: pytest.MonkeyPatch
):
    """The run would go on from an older one, and delete it."""
    put(run, 10)
    path = put(run, 20)
    opened = os.open

    def fail(file: Any, *args: Any, **options: Any) -> int:
        if str(file) == str(path / name):
            raise OSError(number, os.strerror(number))
        return opened(file, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(UserError, match=os.strerror(number)) as told:
            load(run)
    assert str(path) in str(told.value)
    assert load(run).state["step"] == 20


@pytest.mark.parametrize("what", ["folder", "state.json"])
def test_what_cannot_be_read_is_not_deleted_and_keeps_no_run_from_saving(
    what: str, run: Path, monkeypatch: pytest.MonkeyPatch
):
    theirs = put(run, 10).parent / "000000000012"
    shutil.copytree(run / "checkpoints" / f"{10:012d}", theirs)
    listed = os.scandir
    opened = os.open

    def fail(file: Any, *args: Any, **options: Any) -> Any:
        if str(file) == str(theirs if what == "folder" else theirs / what):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(file, *args, **options) if args else listed(file)

    monkeypatch.setattr(os, "scandir", fail)
    monkeypatch.setattr(os, "open", fail)
    put(run, 20, 30)
    monkeypatch.undo()
    assert theirs.is_dir()
    assert load(run).state["step"] == 30


def test_a_folder_that_cannot_be_listed_is_not_told_as_empty(run: Path, monkeypatch: pytest.MonkeyPatch):
    put(run, 10)

    def fail(path: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", fail)
        with pytest.raises(UserError, match=r"^cannot read .*checkpoints: Permission denied$"):
            load(run)
        assert refused(run).endswith(f"mappo resume {run}"), "for all we know it holds checkpoints"


def test_checkpoints_in_the_place_of_a_folder(run: Path):
    (run / "checkpoints").write_text("")
    with pytest.raises(UserError, match=r"^cannot read .*checkpoints: Not a directory$"):
        load(run)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "raise the limit of open files"),
        (checkpoint.SafetensorError("I/O error: Too many open files (os error 24)"), "raise the limit of open files"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "free some space"),
        (OSError(errno.EROFS, "Read-only file system"), "fix the permissions"),
        (OSError(errno.EIO, "Input/output error"), "look at the disk"),
    ],
)
def test_what_could_not_be_written_is_told_as_what_it_is(
    error: Exception, remedy: str, run: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any, **__: Any) -> None:
        raise error

    put(run, 10)
    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(UserError) as told:
        put(run, 20)
    assert f"; {remedy}" in str(told.value)
    assert ("free some space" in str(told.value)) == (remedy == "free some space")
    assert str(error).split("] ")[-1] in str(told.value)


def test_paths_in_advice_are_words_of_a_shell(tmp_path: Path):
    path = tmp_path / "my runs" / "it's"
    create_run(path, "spread", Config(), SPEC)
    put(path, 10)
    assert json.dumps(refused(path))[1:-1].endswith(f"mappo resume '{tmp_path}/my runs/it'\\\"'\\\"'s'")
