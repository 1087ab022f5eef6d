"""Checkpoints of a run: written so that a crash loses nothing, read only if they are whole.

runs/NAME/config.json               the environment, the config and the spaces
          checkpoints/STEP/         one checkpoint, complete or not there at all:
              model.safetensors       weights, value statistics
              trainer.safetensors     optimizer, random generators, environment, episodes under way
              state.json              counters, the best evaluation's step, format, checksums of the other two
"""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from mappo._version import __version__
from mappo.errors import UserError
from mappo.runs.directory import FORMAT, check_format, identity, read_json
from mappo.runs.lock import recovery_hint
from mappo.system.files import error_text, flush_to_disk, write_text
from mappo.system.safe_read import MAX_TENSORS, quote, read_header, read_text

_STEP = re.compile(r"[0-9]{12,18}")  # what a checkpoint's directory is called: nothing else there is ours
NUM_KEPT = 2  # checkpoints besides the best: the last, and the one before in case the last is damaged


@dataclass(frozen=True)
class Checkpoint:
    """One that was read and found whole. Tensors by name: `network.*`, `value_norm.*`; `optimizer.*`, ..."""

    path: Path
    state: dict[str, Any]
    model: dict[str, Tensor]
    trainer: dict[str, Tensor]
    passed_over: tuple[str, ...] = ()
    """What is wrong with later checkpoints."""


def save(
    run: Path,
    step: int,
    state: dict[str, Any],
    model: dict[str, Tensor],
    trainer: dict[str, Tensor],
    best: int | None = None,
    every: int | None = None,
) -> Path:
    """Writes one checkpoint, whole or not at all, then prunes old ones.

    The files are written and flushed under a temporary name; the rename is what makes the checkpoint exist.

    Args:
        best: the step of the best evaluation so far, if there was one; that checkpoint stays.
        every: the first checkpoint in each so many steps stays.

    Raises:
        UserError: it could not be written, for example to a full disk; the ones before are untouched.
    """
    folder = run / "checkpoints"
    final = folder / f"{step:012d}"
    temporary = folder / f".{final.name}.tmp"
    try:
        for left in folder.glob(".*.tmp"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir(parents=True)
        sums: dict[str, str] = {}
        for name, tensors in (("model", model), ("trainer", trainer)):
            file = temporary / f"{name}.safetensors"
            save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, file)
            if (run / "config.json").exists():  # made private by default, unlike all other files
                shutil.copymode(run / "config.json", file)
            if file.stat().st_size > MAX_TENSORS:
                raise OSError(f"{file.name} is larger than the {MAX_TENSORS:,} bytes that are read again")
            sums[file.name] = _digest(file)
            flush_to_disk(file)
        described = {"format": FORMAT, "mappo": __version__, "run": identity(run), "step": step, **state}
        described |= {"best_step": best, "sha256": sums}
        sums["state.json"] = _digest_state(described)
        write_text(temporary / "state.json", json.dumps(described, indent=2) + "\n")
        flush_to_disk(temporary)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        flush_to_disk(folder)
        flush_to_disk(run)  # which may have had no checkpoints before
        prune(run, step, best, every)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(f"could not save the checkpoint {final}: {error}; {recovery_hint(run)}") from None
    return final


def prune(run: Path, step: int, best: int | None, every: int | None, later: bool = True) -> None:
    """Removes what is neither among the last nor the best nor one of `every` so many steps.

    Args:
        step: of the last one. later: those behind it too, of a run that was rewound past them, for they are damaged.
    """
    folder = run / "checkpoints"
    earlier = [path for path in _steps(folder) if int(path.name) <= step]
    kept = {int(path.name) for path in earlier[-NUM_KEPT:]} | {best}
    if every is not None:
        first = {int(path.name) // every: int(path.name) for path in reversed(earlier)}
        kept |= {found for part, found in first.items() if part}
    for path in _steps(folder):
        if int(path.name) not in kept and (later or int(path.name) < step):
            shutil.rmtree(path, ignore_errors=True)


def load(run: Path, which: str = "last", until: int | None = None) -> Checkpoint:
    """Reads the `last` checkpoint that is whole, or the `best` one.

    Args:
        until: the last one up to this step.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if which not in ("last", "best"):
        raise UserError(f"checkpoint must be last or best, got {which!r}")
    folder, own, problems = run / "checkpoints", identity(run), list[str]()
    for path in reversed(_steps(folder)):
        if until is not None and int(path.name) > until:
            continue
        try:
            if which == "last":
                return replace(_read_checkpoint(path, own), passed_over=tuple(problems))
            best = _best_step(folder, _read_state(path, own))
        except UserError as error:
            problems.append(str(error))
            continue
        if best is None:
            raise UserError(f"{run} holds no best checkpoint: it was never evaluated; use last")
        try:
            return replace(_read_checkpoint(folder / f"{best:012d}", own), passed_over=tuple(problems))
        except UserError as error:
            raise UserError(f"the best checkpoint cannot be used: {error}; use last") from None
    late = "nothing was saved in it yet" if until is None else f"none of step {until:,} or before is left"
    raise UserError("; ".join(problems) or f"{run} holds no checkpoint: {late}")


def best_step(found: Checkpoint) -> int | None:
    """Which one had the best evaluation up to that which was found; None where there was none, or it is gone."""
    best = _best_step(found.path.parent, found.state)
    return best if best is not None and (found.path.parent / f"{best:012d}").is_dir() else None


def _read_checkpoint(path: Path, run: str | None) -> Checkpoint:
    state, tensors = _read_state(path, run), dict[str, dict[str, Tensor]]()
    for name in ("model", "trainer"):
        file = path / f"{name}.safetensors"
        try:
            read_header(file)  # of what is no such file, or is larger than any, not one more byte is read
            if _digest(file) != state["sha256"].get(file.name):
                raise UserError(f"{file} is damaged: its checksum is not the one in state.json")
            tensors[name] = load_file(file)
        except UserError:
            raise
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(f"cannot read {file}: {quote(error_text(error))}") from None
    return Checkpoint(path, state, tensors["model"], tensors["trainer"])


def _read_state(path: Path, run: str | None) -> dict[str, Any]:
    state = read_json(path / "state.json", f"{path} is not a checkpoint")
    check_format(state.get("format"), str(path))
    if not (type(step := state.get("step")) is int and path.name == f"{step:012d}"):
        raise UserError(f"{path} is damaged: its state.json is of step {quote(repr(step))}")
    sums = state.get("sha256")
    if not isinstance(sums, dict) or cast(dict[str, Any], sums).get("state.json") != _digest_state(state):
        raise UserError(f"{path} is damaged: its state.json does not hold its own checksum")
    if not isinstance(state.get("best_step"), int | None):
        raise UserError(f"{path} is damaged: its state.json has best_step {quote(repr(state['best_step']))}")
    if run is not None and state.get("run", run) != run:  # older versions named none
        raise UserError(f"{path} is not of this run: its state.json names another than config.json does")
    return state


def _best_step(folder: Path, state: dict[str, Any]) -> int | None:
    if "best_step" in state:
        return state["best_step"]
    try:  # older versions kept it in a file
        best = read_text(folder / "best", 100).strip()
    except (OSError, ValueError):
        return None
    return int(best) if _STEP.fullmatch(best) and int(best) <= state["step"] else None


def _steps(folder: Path) -> list[Path]:
    """The checkpoints there seem to be, by their steps."""
    found = [path for path in folder.glob("[0-9]*") if _STEP.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name))


def _digest_state(state: dict[str, Any]) -> str:
    """Of everything in `state.json` but the checksums."""
    text = json.dumps({k: v for k, v in state.items() if k != "sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
