"""A run directory: read as it was written, and never lost to a crash."""

import errno
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors import SafetensorError
from torch import Tensor

from mappo.algorithms.mappo import MAPPO
from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.core.spec import ActionHeads, Spec
from mappo.core.state_dict import flatten, subdict
from mappo.deploy.load import load_actor
from mappo.envs import make
from mappo.errors import UserError
from mappo.runs import checkpoint, directory as rundir, retention
from mappo.runs.checkpoint import load, save
from mappo.runs.directory import create_run, read_run
from mappo.system import files

CONFIG = Config(
    env=EnvConfig(num_envs=6, reward="agent"),
    network=NetworkConfig(hidden=(8, 4)),
    ppo=PPOConfig(dual_clip=3.0, gamma=0.5, max_grad_norm=None),
    run=RunConfig(seed=9),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "one"
    create_run(path, "spread", CONFIG, make("spread", 1).spec)
    return path


def put(run: Path, step: int, best: int | None = None, every: int | None = None) -> Path:
    """A checkpoint whose only number is its step."""
    number = {"x": torch.tensor([float(step)])}
    return save(run, step, {"updates": step}, {"network.x": number["x"]}, number, best, every)


def value(found: checkpoint.Checkpoint) -> float:
    return found.model["network.x"].item()


def steps(run: Path) -> list[int]:
    return sorted(int(p.name) for p in (run / "checkpoints").iterdir() if p.is_dir())


def flip(file: Path, place: int = -1) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_run_is_read_as_it_was_made(run: Path):
    env, config, spec = read_run(run)
    assert env == "spread"
    assert config == CONFIG
    made = make("spread", 1).spec
    assert (spec.agents, spec.action_heads, spec.groups) == (made.agents, made.action_heads, made.groups)
    assert (spec.state_shape, spec.shared_reward) == (made.state_shape, made.shared_reward)
    assert [(s.shape, s.dtype) for s in spec.obs_spaces] == [(s.shape, s.dtype) for s in made.obs_spaces]


def test_spaces_of_every_kind_are_read_as_they_were(tmp_path: Path):
    spec = make("spread", 1).spec
    other = Spec(("l", "r"), spec.obs_spaces[:2], (ActionHeads((3, 2)),) * 2, (0, 1), (7,), True)
    create_run(tmp_path / "run", "mine", Config(), other)
    _, _, read = read_run(tmp_path / "run")
    assert read.action_heads == other.action_heads
    assert (read.agents, read.groups, read.state_shape, read.shared_reward) == (("l", "r"), (0, 1), (7,), True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.float64])
def test_observations_of_every_dtype_are_read_as_they_were(tmp_path: Path, dtype: Any):
    space = spaces.Box(0, 1, (4,), dtype)
    create_run(tmp_path / "run", "mine", Config(), Spec(("a",), (space,), (ActionHeads((3,)),), (0,)))
    (read,) = read_run(tmp_path / "run")[2].obs_spaces
    assert (read.shape, read.dtype) == (space.shape, space.dtype)


def test_a_directory_that_exists_is_never_written_into(run: Path):
    before = (run / "config.json").read_bytes()
    with pytest.raises(UserError, match=f"^{run} exists: .*delete it, for no checkpoint was saved in it$"):
        create_run(run, "other", Config(), make("spread", 1).spec)
    put(run, 10)
    with pytest.raises(UserError, match=f"^{run} exists: .*mappo resume {run}$"):
        create_run(run, "other", Config(), make("spread", 1).spec)
    assert (run / "config.json").read_bytes() == before


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^cannot make .*: Not a directory$"):
        create_run(tmp_path / "file" / "run", "spread", CONFIG, make("spread", 1).spec)


def test_a_checkpoint_is_loaded_as_it_was_saved(run: Path):
    model = {
        "network.w": torch.randn(3, 4),
        "network.t": torch.randn(4, 3).T,
        "value_norm.n": torch.tensor(2.5).double(),
    }
    trainer = {"generator": torch.get_rng_state(), "count": torch.tensor(7), "empty": torch.zeros(0, 2)}
    state = {"updates": 3, "best": -1.5}
    path = save(run, 1200, state, model, trainer)
    found = load(run)
    assert found.path == path
    assert found.state["step"] == 1200
    assert {k: found.state[k] for k in state} == state
    for read, wrote in ((found.model, model), (found.trainer, trainer)):
        assert set(read) == set(wrote)
        for name, tensor in wrote.items():
            assert torch.equal(read[name], tensor)
            assert read[name].dtype == tensor.dtype
    assert not list(run.glob("checkpoints/.*")), "nothing temporary is left"


def test_tensors_that_share_memory_are_saved_apart(run: Path):
    shared = torch.arange(6.0)
    save(run, 1, {}, {"a": shared[:4], "b": shared[2:]}, {})
    assert torch.equal(load(run).model["b"], shared[2:])


def test_the_last_two_and_the_best_are_kept(run: Path):
    put(run, 10)
    put(run, 20, best=20)
    for step in (30, 40, 50):
        put(run, step, best=20)
    assert steps(run) == [20, 40, 50]
    assert value(load(run, "best")) == 20
    put(run, 60, best=60)
    assert steps(run) == [50, 60]
    put(run, 70, best=60)
    put(run, 80, best=60)
    assert steps(run) == [60, 70, 80]
    assert value(load(run)) == 80
    assert value(load(run, "best")) == 60


def test_the_first_in_each_so_many_steps_is_kept(run: Path):
    for step in (40, 80, 120, 160, 200, 240, 280, 320):
        put(run, step, best=80, every=100)
    assert steps(run) == [80, 120, 200, 280, 320], "the best; 120, 200 (of 240) and 320 are first past a hundred"
    flip(run / "checkpoints" / f"{320:012d}" / "model.safetensors")
    put(run, 310, best=80, every=100)
    assert steps(run) == [80, 120, 200, 280, 310], "what a run was rewound past is not of it any more"


def test_how_often_a_checkpoint_stays_may_be_changed_and_must_be_a_number_of_steps(run: Path):
    with pytest.raises(UserError, match=r"run\.keep-every must be at least 1, got 0"):
        RunConfig(keep_every=0)
    config = replace(CONFIG, run=replace(CONFIG.run, dir=str(run), keep_every=1000))
    assert rundir.open_run("spread", config, make("spread", 1).spec, resume=True) == run


@pytest.mark.parametrize("gone", [False, True])
def test_older_runs_keep_the_best_in_a_file(run: Path, gone: bool):
    described = json.loads((run / "config.json").read_text())
    del described["id"]
    (run / "config.json").write_text(json.dumps(described))
    for step in (10, 20):
        file = put(run, step) / "state.json"
        state = json.loads(file.read_text())
        del state["best_step"], state["run"]
        state["sha256"]["state.json"] = checkpoint.digest_state(state)
        file.write_text(json.dumps(state))
    (run / "checkpoints" / "best").write_text(f"{30 if gone else 10:012d}\n")
    if gone:  # of a time that never was
        with pytest.raises(UserError, match="holds no best checkpoint"):
            load(run, "best")
        return
    assert value(load(run, "best")) == 10
    assert checkpoint.best_step(load(run)) == 10


def test_a_best_one_that_is_gone_is_told_and_looked_for_anew(run: Path):
    shutil.rmtree(put(run, 10, best=10))
    put(run, 20, best=10)
    with pytest.raises(
        UserError, match=r"^the best checkpoint cannot be used: .*000010 is not a checkpoint.*; use last"
    ):
        load(run, "best")
    assert checkpoint.best_step(load(run)) is None


@pytest.mark.parametrize("which", [20, "20", "000020"])
def test_a_kept_checkpoint_is_loaded_by_its_step(run: Path, which: str | int):
    for step in (10, 20, 30, 40):
        put(run, step, every=10)
    assert value(load(run, which)) == 20


def test_a_step_without_a_checkpoint_is_told_with_the_nearest_steps(run: Path):
    with pytest.raises(UserError, match=r"one holds no checkpoint: nothing was saved in it yet$"):
        load(run, 20)
    for step in range(10, 150, 10):
        put(run, step, every=10)
    with pytest.raises(UserError) as error:
        load(run, "68")
    nearest = "30, 40, 50, 60, 70, 80, 90, 100, 110"
    assert one_line(error).endswith(f"no checkpoint of step 68; there are 14, the nearest: 20, {nearest}")
    flip(run / "checkpoints" / f"{70:012d}" / "model.safetensors")
    with pytest.raises(UserError, match="is damaged"):
        load(run, 70)


@pytest.mark.parametrize("which", ["lest", "", "-20", "2e1", "٣", "9" * 5000])
def test_a_name_that_no_checkpoint_has_is_told(run: Path, which: str):
    put(run, 20)
    with pytest.raises(
        UserError, match=r"last, best or a step, got|no checkpoint of step 9{30}; there are 20$"
    ) as error:
        load(run, which)
    assert len(one_line(error)) < 300


def test_there_is_no_best_as_long_as_none_was_measured(run: Path):
    put(run, 10)
    with pytest.raises(UserError, match="holds no best checkpoint: it was never evaluated; use last"):
        load(run, "best")


def test_steps_are_ordered_as_numbers(run: Path):
    for step in (999_999, 1_000_000, 20_000_000):
        put(run, step)
    assert value(load(run)) == 20_000_000
    assert steps(run) == [1_000_000, 20_000_000]


@pytest.mark.parametrize("name", ["model.safetensors", "trainer.safetensors"])
@pytest.mark.parametrize("place", [0, 20, -1])
def test_a_damaged_last_checkpoint_is_passed_over(run: Path, name: str, place: int):
    put(run, 10)
    flip(put(run, 20) / name, place)
    assert value(load(run)) == 10


def test_where_all_are_damaged_each_file_is_named(run: Path):
    files = [put(run, step) / "model.safetensors" for step in (10, 20)]
    for file in files:
        flip(file)
    with pytest.raises(UserError) as told:
        load(run)
    for file in files:
        assert f"{file} is damaged: its checksum is not the checksum in state.json" in one_line(told)


def test_a_damaged_best_checkpoint_is_told_not_replaced_by_another(run: Path):
    flip(put(run, 10, best=10) / "model.safetensors")
    put(run, 20, best=10)
    assert value(load(run)) == 20
    with pytest.raises(UserError, match=r"000010/model\.safetensors is damaged"):
        load(run, "best")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("state.json", ""),
        ("state.json", f'{{"format": {rundir.FORMAT}, "sha256": {{"mod'),
        ("state.json", "[]"),
        ("state.json", "{}"),
        ("state.json", f'{{"format": {rundir.FORMAT}}}'),
        ("state.json", f'{{"format": {rundir.FORMAT}, "sha256": []}}'),
        ("state.json", None),
        ("model.safetensors", ""),
        ("model.safetensors", None),
    ],
)
def test_a_truncated_or_missing_file_is_damage(run: Path, name: str, text: str | None):
    put(run, 10)
    file = put(run, 20) / name
    file.unlink()
    if text is not None:
        file.write_text(text)
    assert value(load(run)) == 10
    shutil.rmtree(run / "checkpoints" / f"{10:012d}")
    with pytest.raises(UserError) as told:
        load(run)
    assert f"{20:012d}" in one_line(told), "it says which"
    assert any(word in one_line(told) for word in (name, "has format None")), "and what is wrong"


def test_bytes_that_are_no_text_are_damage(run: Path):
    (put(run, 10) / "state.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"state\.json cannot be read"):
        load(run)


def test_a_checkpoint_of_another_step_or_run_is_damage(run: Path, tmp_path: Path):
    put(run, 10)
    last = put(run, 20)
    last.rename(last.parent / f"{30:012d}")
    found = load(run)
    assert value(found) == 10
    assert found.passed_over == (f"{last.parent / f'{30:012d}'} is damaged: its state.json is of step 20",)
    other = tmp_path / "runs" / "two"
    create_run(other, "spread", replace(CONFIG, run=RunConfig(seed=10)), make("spread", 1).spec)
    shutil.move(put(other, 40), last.parent)
    assert "is not of this run" in load(run).passed_over[0]
    shutil.rmtree(other)
    place = replace(CONFIG.run, dir=str(other), progress="off")
    create_run(other, "spread", replace(CONFIG, run=place), make("spread", 1).spec)
    shutil.copytree(put(run, 50), other / "checkpoints" / f"{50:012d}")
    assert value(load(other)) == 50, "the same run, in another place"


def test_folders_that_are_no_steps_are_left_alone(run: Path):
    put(run, 10)
    for name in ("12 (copy)", "000000000010.bak", "²", "9" * 30):
        (run / "checkpoints" / name).mkdir()
    assert value(load(run)) == 10
    assert value(load(run, until=10)) == 10
    put(run, 20)
    assert len(list((run / "checkpoints").iterdir())) == 6


def test_what_is_passed_over_is_told_to_whoever_asks_for_the_policy(run: Path):
    agent = MAPPO(make("spread", 1).spec, CONFIG)
    for step in (10, 20):
        save(run, step, {}, flatten("network", agent.network.state_dict()), {})
    load_actor(run)
    flip(run / "checkpoints" / f"{20:012d}" / "model.safetensors")
    with pytest.warns(UserWarning, match=r"^passed over: .*000020/model\.safetensors is damaged"):
        load_actor(run)


def test_a_config_that_was_changed_is_not_resumed_unnoticed(run: Path):
    config, spec = replace(CONFIG, run=replace(CONFIG.run, dir=str(run))), make("spread", 1).spec
    rundir.open_run("spread", replace(config, run=replace(config.run, threads=2)), spec, resume=True)
    file, changed = run / "config.json", replace(config, ppo=replace(config.ppo, actor_lr=3e-4))
    described = json.loads(file.read_text())
    described["config"]["ppo"]["actor_lr"] = 3e-4  # one bit of 7e-4
    file.write_text(json.dumps(described))
    with pytest.raises(
        UserError, match=r"config\.json is damaged, or was changed since the run was made: restore the file"
    ):
        rundir.open_run("spread", changed, spec, resume=True)
    put(run, 10)
    del described["id"]
    file.write_text(json.dumps(described))
    rundir.open_run("spread", changed, spec, resume=True)
    assert value(load(run)) == 10


@pytest.mark.parametrize("name", ["one", "seed-2"])
@pytest.mark.parametrize("saved", [False, True])
def test_what_to_do_is_told_for_what_is_there(tmp_path: Path, name: str, saved: bool, monkeypatch: pytest.MonkeyPatch):
    whole = tmp_path / "runs"
    create_run(whole, "spread", CONFIG, make("spread", 1).spec)
    run = whole / name
    create_run(run, "spread", CONFIG, make("spread", 1).spec)
    if saved:
        put(run, 10)
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError) as told:
        put(run, 20)
    what = whole if name == "seed-2" else run
    way = f"then `mappo resume {what}`: the checkpoints before are whole"
    if not saved:
        way = f"then start the run again: nothing was saved in {what} yet"
    assert f"free some space, {way}" in one_line(told)


def test_a_run_whose_config_cannot_be_written_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(
            UserError, match=r"^cannot write .*config\.json: No space left on device; nothing was begun$"
        ):
            create_run(tmp_path / "run", "spread", CONFIG, make("spread", 1).spec)
    create_run(tmp_path / "run", "spread", CONFIG, make("spread", 1).spec)


def test_a_checkpoint_of_a_later_version_is_told(run: Path):
    file = put(run, 10) / "state.json"
    state = json.loads(file.read_text())
    file.write_text(json.dumps(state | {"format": rundir.FORMAT + 1}))
    with pytest.raises(
        UserError,
        match=f"has format {rundir.FORMAT + 1}, this version reads {rundir.FORMAT}; it was written by a later",
    ):
        load(run)


def test_a_run_without_a_checkpoint_is_told(run: Path):
    with pytest.raises(UserError, match="holds no checkpoint: nothing was saved in it yet"):
        load(run)
    with pytest.raises(UserError, match="holds no checkpoint"):
        load_actor(run)


def test_what_is_no_run_directory_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UserError, match=rf"^{path} is not a run directory: there is no config\.json in it$"):
            read_run(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], r"config\.json cannot be read"),
        (lambda text: "[]", r"config\.json does not hold an object"),
        (lambda text: text.replace('"spec"', '"sepc"'), r"config\.json is damaged: 'spec' is missing"),
        (lambda text: text.replace('"agents"', '"agent"'), r"config\.json is damaged: 'agents' is missing"),
        (lambda text: text.replace('"gamma"', '"gama"'), r"unknown option ppo\.gama"),
        (lambda text: text.replace('"gamma": 0.5', '"gamma": 7'), r"ppo\.gamma must be between 0 and 1, got 7"),
        (lambda text: text.replace('"format": 2', '"format": 3'), r"config\.json has format 3, this version reads 2"),
        (lambda text: text.replace('"format": 2', '"format": 1'), r"config\.json has format 1, this version reads 2"),
        (
            lambda text: text.replace('"groups": [', '"groups": 1, "x": ['),
            r"'groups' must be a list of whole numbers, got 1$",
        ),
    ],
)
def test_a_damaged_config_is_told(run: Path, change: Any, message: str):
    file = run / "config.json"
    before = file.read_text()
    file.write_text(change(before))
    assert file.read_text() != before
    with pytest.raises(UserError, match=message) as told:
        read_run(run)
    assert str(run) in one_line(told)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("env",), 5, "'env' must be of type str, got 5"),
        (("env",), {"a:b": 1}, "'env' must be of type str, got {'a:b': 1}"),
        (("config",), None, "'config' must be an object, got None"),
        (("config", "env"), 5, "section 'env' must be an object, got 5"),
        (("spec",), [], "'spec' must be an object, got []"),
        (("spec", "agents"), "left", "'agents' must be a list of texts, got 'left'"),
        (("spec", "agents", 0), 1, "'agents' must be of type str, got 1"),
        (("spec", "obs", 0, "shape"), [True], "'shape' must be of type int, got True"),
        (("spec", "obs", 0, "shape"), [1.5], "'shape' must be of type int, got 1.5"),
        (("spec", "obs", 0, "dtype"), None, "'dtype' must be of type str, got None"),
        (("spec", "obs", 0, "dtype"), "float33", "'dtype' must be a numeric array dtype, got 'float33'"),
        (("spec", "heads", 0, "categorical"), [10**30], "'categorical' must be below 2^63, got a number of 31 digits"),
        (("spec", "heads", 0, "low"), "x", "'low' must be a list of numbers, got 'x'"),
        (("spec", "state_shape"), "x", "'state_shape' must be a list of whole numbers, got 'x'"),
        (("spec", "shared_reward"), 0, "'shared_reward' must be of type bool, got 0"),
    ],
)
def test_a_config_of_other_types_is_told_by_name(run: Path, place: tuple[Any, ...], value: Any, message: str):
    described = json.loads((run / "config.json").read_text())
    holder = described
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    (run / "config.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=rf"config\.json is damaged: {re.escape(message)}"):
        read_run(run)


def test_weights_that_do_not_fit_the_config_are_told(run: Path):
    put(run, 10)
    with pytest.raises(UserError, match=r"does not fit .*config\.json"):
        load_actor(run)


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def crammed(*_: Any, **__: Any) -> None:
    raise SafetensorError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("module", "name", "failure"),
    [
        (checkpoint, "save_file", crammed),
        (checkpoint, "save_file", full),
        (files, "flush_to_disk", full),
        (os, "replace", full),
        (os, "fsync", full),
    ],
)
def test_a_full_disk_leaves_the_checkpoints_before_whole(
    run: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, failure: Any
):
    put(run, 10, best=10)
    put(run, 20, best=10)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(module, name, failure)
        with pytest.raises(UserError, match="No space left on device") as told:
            put(run, 30)
    assert one_line(told).startswith(f"could not save the checkpoint {run / 'checkpoints' / f'{30:012d}'}: ")
    assert f"`mappo resume {run}`: the checkpoints before are whole" in one_line(told)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    assert value(load(run)) == 20
    assert value(load(run, "best")) == 10
    put(run, 30)
    assert value(load(run)) == 30


@pytest.mark.parametrize("renames", [0, 1])
def test_a_process_killed_while_writing_leaves_the_checkpoints_before_whole(
    run: Path, monkeypatch: pytest.MonkeyPatch, renames: int
):
    """Killed before state.json has its name, or before the checkpoint has."""
    left, replace = renames, os.replace

    class Killed(BaseException):
        pass

    def kill(old: Any, new: Any) -> None:
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        replace(old, new)

    put(run, 10)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with pytest.raises(Killed):
            put(run, 20)
    assert list(run.glob("checkpoints/.*")), "it was at work"
    assert value(load(run)) == 10
    put(run, 20)
    assert value(load(run)) == 20
    assert not list(run.glob("checkpoints/.*")), "what the dead one left is swept away"


def test_everything_is_on_the_disk_before_the_rename(run: Path, monkeypatch: pytest.MonkeyPatch):
    events: list[Any] = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        events.append(os.fstat(descriptor).st_ino)  # stays that of the file when it is renamed
        fsync(descriptor)

    def renamed(old: Any, new: Any) -> None:
        events.append(Path(new).name)
        replace(old, new)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    path = put(run, 10)
    rename = events.index(path.name)
    for name in ("model.safetensors", "trainer.safetensors", "state.json"):
        assert (path / name).stat().st_ino in events[:rename]
    assert path.parent.stat().st_ino in events[rename:]


def test_a_checkpoint_is_rewritten_in_place(run: Path):
    put(run, 10)
    flip(put(run, 20) / "model.safetensors")
    put(run, 20)
    assert value(load(run)) == 20
    assert steps(run) == [10, 20]


def test_a_damaged_checkpoint_that_a_run_was_rewound_past_is_dropped(run: Path):
    put(run, 10)
    flip(put(run, 20) / "model.safetensors")
    found = load(run)
    assert value(found) == 10
    assert len(found.passed_over) == 1
    assert "000000000020" in found.passed_over[0]
    assert put(run, 15).is_dir()
    assert steps(run) == [10, 15]
    assert value(load(run)) == 15


def test_nested_tensors_are_flattened_and_found_again():
    nested: dict[str, Any] = {"a": torch.ones(1), "b": {"c": torch.zeros(1), "d": {"e": torch.ones(2)}}}
    flattened: dict[str, Tensor] = flatten("top", nested)
    assert set(flattened) == {"top.a", "top.b.c", "top.b.d.e"}
    assert set(subdict(flattened, "top")) == {"a", "b.c", "b.d.e"}
    assert subdict({"network.x": flattened["top.a"], "networks.x": nested["a"]}, "network") == {"x": nested["a"]}


def test_no_file_of_a_checkpoint_is_a_pickle(run: Path):
    agent = MAPPO(make("spread", 1).spec, CONFIG)
    path = save(run, 1, {}, flatten("network", agent.network.state_dict()), {})
    assert sorted(p.name for p in path.iterdir()) == ["model.safetensors", "state.json", "trainer.safetensors"]
    header = (path / "model.safetensors").read_bytes()
    assert json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])


def test_what_a_process_had_no_time_to_remove_is_removed_when_the_run_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as inner:
        inner.setattr(checkpoint, "prune", lambda *_, **__: None)
        for step in (10, 20, 30, 40):
            put(run, step)
    retention.prune(run, 30, None, None, later=False)
    assert steps(run) == [20, 30, 40]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_nan_are_damage(run: Path, bad: float):
    put(run, 10)
    number = torch.tensor([1.0, bad])
    save(run, 20, {}, {"network.x": number}, {})
    found = load(run)
    assert value(found) == 10
    assert found.passed_over == (
        f"{run / 'checkpoints' / f'{20:012d}'} is damaged: network.x in its model.safetensors holds NaN or infinity",
    )
    shutil.rmtree(found.path)
    with pytest.raises(UserError, match="holds NaN or infinity"):
        load(run)


def test_a_folder_that_is_no_utf_8_is_read(tmp_path: Path):
    run = tmp_path / os.fsdecode(b"r\xff")
    create_run(run, "spread", CONFIG, make("spread", 1).spec)
    put(run, 10)
    flip(put(run, 20) / "trainer.safetensors", 30)
    found = load(run)
    assert value(found) == 10
    assert len(found.passed_over) == 1
