"""Checkpoints of a run: saved atomically, loaded only if whole.

runs/NAME/config.json               the environment, the config and the spaces
          checkpoints/STEP/         a checkpoint, complete or absent:
              model.safetensors       weights, value statistics
              trainer.safetensors     optimizer, random generators, environment, episodes in progress
              state.json              counters, the best evaluation's step, format, checksums of the other two files

Training calls `save`; resuming, evaluation and `load_actor` call `load`.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes, load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from mappo._version import __version__
from mappo.config.bounds import read_field
from mappo.errors import UserError
from mappo.runs.directory import FORMAT, check_format, read_json, saved_run_id
from mappo.runs.hints import recovery_hint
from mappo.runs.retention import prune, remove_own, remove_unfinished
from mappo.runs.steps import STEP_NAME, RefusedError, checkpoint_paths, read_error
from mappo.system.files import error_text, flush_to_disk, write_text
from mappo.system.safe_read import MAX_TENSORS, check_tensor_file, quote, read_text

T = TypeVar("T")

MAX_PROBLEMS = 3  # damaged checkpoints named in a message; the others are counted


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, read and found whole. Tensors by name: `network.*`, `value_norm.*`; `optimizer.*`, ..."""

    path: Path
    state: dict[str, Any]
    model: dict[str, Tensor]
    trainer: dict[str, Tensor]
    passed_over: tuple[str, ...] = ()
    """Errors of later checkpoints, which are damaged."""


def save(
    run: Path,
    step: int,
    state: dict[str, Any],
    model: dict[str, Tensor],
    trainer: dict[str, Tensor],
    best: int | None = None,
    every: int | None = None,
) -> Path:
    """Save a checkpoint atomically, then delete old checkpoints. Return the directory.

    Args:
        run: the run directory.
        step: environment steps so far.
        state: counters and other JSON values.
        model: weights and value statistics.
        trainer: all other tensors needed to resume.
        best: step of the best evaluation so far, if any; its checkpoint stays.
        every: the first checkpoint in each interval of this many steps stays.

    Raises:
        UserError: the checkpoint could not be written, for example to a full disk; earlier checkpoints are untouched.
    """
    final = run / "checkpoints" / f"{step:012d}"
    temporary = final.with_name(f".{final.name}.tmp")
    run_id = saved_run_id(run)
    state = {"format": FORMAT, "mappo": __version__, "run": run_id, "step": step, **state}
    try:
        remove_unfinished(final.parent)
        _write_files(temporary, {**state, "best_step": best}, {"model": model, "trainer": trainer})
        remove_own(final, run_id)
        os.replace(temporary, final)  # the checkpoint exists from here on
        flush_to_disk(final.parent)
        flush_to_disk(run)  # the first checkpoint adds the folder `checkpoints`
        prune(run, step, best, every)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(f"could not save the checkpoint {final}: {error}; {recovery_hint(run, error)}") from None
    return final


def _write_files(folder: Path, state: dict[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write and flush the files of a checkpoint into a new folder."""
    folder.mkdir(parents=True)
    sums: dict[str, str] = {}
    config = folder.parents[1] / "config.json"
    for name, values in tensors.items():
        file = folder / f"{name}.safetensors"
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in values.items()}, file)
        if config.exists():  # safetensors makes private files; all files of a run have equal permissions
            shutil.copymode(config, file)
        if file.stat().st_size > MAX_TENSORS:
            raise OSError(f"{file.name} is larger than the limit of {MAX_TENSORS:,} bytes")
        sums[file.name] = _digest(file)
        flush_to_disk(file)
    sums["state.json"] = _digest_state(state)
    write_text(folder / "state.json", json.dumps({**state, "sha256": sums}, indent=2) + "\n")
    flush_to_disk(folder)


def load(run: Path, which: str = "last", until: int | None = None) -> Checkpoint:
    """Load the newest whole checkpoint, or the best.

    Args:
        run: the run directory.
        which: `last` or `best`.
        until: ignore checkpoints after this step.

    Returns:
        The checkpoint, with the errors of later damaged checkpoints in `passed_over`.

    Raises:
        UserError: no checkpoint exists, or all are damaged.
    """
    if which == "last":
        found, problems = _newest(run, until, _read_checkpoint)
    elif which == "best":
        state, problems = _newest(run, until, _read_state)
        found = _read_best(run, state)
    else:
        raise UserError(f"checkpoint must be last or best, got {which!r}")
    return replace(found, passed_over=tuple(problems))


def _newest(run: Path, until: int | None, read: Callable[[Path, str | None], T]) -> tuple[T, list[str]]:
    """Return the newest checkpoint accepted by `read`, and the errors of later checkpoints."""
    run_id = saved_run_id(run)
    problems: list[str] = []
    for step, path in reversed(checkpoint_paths(run).items()):
        if until is None or step <= until:
            try:
                return read(path, run_id), _first_of(problems)
            except RefusedError:  # no older checkpoint may take the place of one that may be whole
                raise
            except UserError as error:
                problems.append(str(error))
    late = "nothing was saved in it yet" if until is None else f"none of step {until:,} or before is left"
    raise UserError("; ".join(_first_of(problems)) or f"{run} holds no checkpoint: {late}")


def _first_of(problems: list[str]) -> list[str]:
    """Return the first problems, and the number of the others."""
    more = len(problems) - MAX_PROBLEMS
    return problems[:MAX_PROBLEMS] + ([f"{more:,} more checkpoints are damaged"] if more > 0 else [])


def _read_best(run: Path, state: dict[str, Any]) -> Checkpoint:
    folder = run / "checkpoints"
    best = _best_step(folder, state)
    if best is None:
        raise UserError(f"{run} holds no best checkpoint: it was never evaluated; use last")
    try:
        return _read_checkpoint(folder / f"{best:012d}", saved_run_id(run))
    except UserError as error:
        raise UserError(f"the best checkpoint cannot be used: {error}; use last") from None


def best_step(found: Checkpoint) -> int | None:
    """Return the step of the best evaluation up to a checkpoint; None if there is none, or its checkpoint is gone."""
    best = _best_step(found.path.parent, found.state)
    return best if best is not None and (found.path.parent / f"{best:012d}").is_dir() else None


def _read_checkpoint(path: Path, run_id: str | None) -> Checkpoint:
    state = _read_state(path, run_id)
    tensors: dict[str, dict[str, Tensor]] = {}
    for name in ("model", "trainer"):
        file = path / f"{name}.safetensors"
        try:
            check_tensor_file(file)  # first: the digest reads the whole file, and a pipe would block
            if _digest(file) != state["sha256"].get(file.name):
                raise UserError(f"{file} is damaged: its checksum is not the checksum in state.json")
            tensors[name] = _load_tensors(file)
        except UserError:
            raise
        except (OSError, ValueError, SafetensorError) as error:
            raise read_error(f"cannot read {file}: {quote(error_text(error))}", error) from None
    floats = {k: v for k, v in tensors["model"].items() if v.dtype in (torch.float32, torch.float64)}
    if bad := [name for name, x in floats.items() if not x.isfinite().all()]:
        raise UserError(f"{path} is damaged: {quote(bad[0])} in its model.safetensors holds NaN or infinity")
    return Checkpoint(path, state, tensors["model"], tensors["trainer"])


def _load_tensors(file: Path) -> dict[str, Tensor]:
    try:
        str(file).encode()
    except UnicodeEncodeError:  # safetensors writes to paths in other encodings than UTF-8, and cannot open them
        return load_bytes(file.read_bytes())
    return load_file(file)


def _read_state(path: Path, run_id: str | None) -> dict[str, Any]:
    state = read_json(path / "state.json", f"{path} is not a checkpoint")
    check_format(state.get("format"), str(path))
    try:
        step = read_field(state, "step", int)
        sums = read_field(state, "sha256", dict)
        read_field({"best_step": None, **state}, "best_step", int | None)
    except UserError as error:
        raise UserError(f"{path} is damaged: in its state.json {error}") from None
    if path.name != f"{step:012d}":
        raise UserError(f"{path} is damaged: its state.json is of step {step}")
    if sums.get("state.json") != _digest_state(state):
        raise UserError(f"{path} is damaged: its state.json does not hold its own checksum")
    if run_id is not None and state.get("run") != run_id:
        raise UserError(f"{path} is not of this run: its state.json names another run than config.json")
    return state


def _best_step(folder: Path, state: dict[str, Any]) -> int | None:
    if "best_step" in state:
        return state["best_step"]
    try:  # the first runs of format 2 have a file in place of the field
        best = read_text(folder / "best", 100).strip()
    except (OSError, ValueError):
        return None
    return int(best) if STEP_NAME.fullmatch(best) and int(best) <= state["step"] else None


def _digest_state(state: dict[str, Any]) -> str:
    """Return the checksum of all fields in `state.json` except the checksums."""
    text = json.dumps({k: v for k, v in state.items() if k != "sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
