"""Checkpoints of a run: saved atomically, loaded only if whole.

runs/NAME/config.json               the environment, the config and the spaces
          checkpoints/STEP/         a checkpoint, complete or absent:
              model.safetensors       weights, value statistics
              trainer.safetensors     optimizer, random generators, environment, episodes in progress
              state.json              counters, the best evaluation's step, format, checksums of the other two files

Training calls `save`; resuming, evaluation and `load_actor` call `load`.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from mappo._version import __version__
from mappo.errors import UserError
from mappo.runs.checkpoint_files import Checkpoint as Checkpoint, digest_state, read_checkpoint, read_state
from mappo.runs.config_json import FORMAT
from mappo.runs.directory import saved_run_id
from mappo.runs.hints import recovery_hint
from mappo.runs.retention import prune, remove_own, remove_unfinished
from mappo.runs.steps import STEP_NAME, RefusedError, check_name, checkpoint_paths
from mappo.system.files import complete_folder, digest, flush_to_disk, write_text
from mappo.system.safe_read import MAX_TENSORS, read_text

T = TypeVar("T")

MAX_PROBLEMS = 3  # damaged checkpoints named in a message; the others are counted
MAX_STEPS = 10  # steps named in a message: the nearest


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
    run_id = saved_run_id(run)
    state = {"format": FORMAT, "mappo": __version__, "run": run_id, "step": step, **state}
    try:
        remove_unfinished(final.parent)
        with complete_folder(final, lambda: remove_own(final, run_id)) as folder:
            tensors = {"model": model, "trainer": trainer}
            _write_files(folder, run / "config.json", {**state, "best_step": best}, tensors)
        flush_to_disk(run)  # the first checkpoint adds the folder `checkpoints`
        prune(run, step, best, every)
    except (OSError, SafetensorError) as error:
        raise UserError(f"could not save the checkpoint {final}: {error}; {recovery_hint(run, error)}") from None
    return final


def _write_files(
    folder: Path, config: Path, state: dict[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Write the files of a checkpoint into a folder, with the permissions of the run's config.json."""
    sums: dict[str, str] = {}
    for name, values in tensors.items():
        file = folder / f"{name}.safetensors"
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in values.items()}, file)
        if config.exists():  # safetensors makes private files; all files of a run have equal permissions
            shutil.copymode(config, file)
        if file.stat().st_size > MAX_TENSORS:
            raise OSError(f"{file.name} is larger than the limit of {MAX_TENSORS:,} bytes")
        sums[file.name] = digest(file)
    sums["state.json"] = digest_state(state)
    write_text(folder / "state.json", json.dumps({**state, "sha256": sums}, indent=2) + "\n")


def load(run: Path, which: str | int = "last", until: int | None = None) -> Checkpoint:
    """Load the newest whole checkpoint, the best, or the checkpoint of a step; `Checkpoint.path` is its directory.

    Args:
        run: the run directory.
        which: `last`, `best` or a step, as a number or as its digits.
        until: ignore checkpoints after this step.

    Returns:
        The checkpoint, with the errors of later damaged checkpoints in `passed_over`.

    Raises:
        UserError: no such checkpoint exists, or it is damaged; all are damaged.
    """
    name = check_name(str(which))
    if name == "last":
        found, problems = _newest(run, until, read_checkpoint)
    elif name == "best":
        state, problems = _newest(run, until, read_state)
        found = _read_best(run, state)
    else:
        return read_checkpoint(_path_of_step(run, name), saved_run_id(run))
    return replace(found, passed_over=tuple(problems))


def last_step(run: Path) -> int:
    """Return the step of the newest checkpoint with an intact `state.json`; 0 without a checkpoint.

    Raises:
        UserError: no checkpoint has an intact `state.json`.
    """
    return int(_newest(run, None, read_state)[0]["step"]) if checkpoint_paths(run) else 0


def _path_of_step(run: Path, digits: str) -> Path:
    """Return the directory of the checkpoint of a step; raise UserError with the nearest steps if there is none."""
    paths = checkpoint_paths(run)
    if len(digits) < 19 and (step := int(digits)) in paths:
        return paths[step]
    if not paths:
        raise UserError(f"{run} holds no checkpoint: nothing was saved in it yet")
    wanted = int(digits[:30])
    near = sorted(sorted(paths, key=lambda step: abs(step - wanted))[:MAX_STEPS])
    steps = ", ".join(map(str, near))
    more = f"{len(paths)}, the nearest: " if len(paths) > MAX_STEPS else ""
    raise UserError(f"{run} holds no checkpoint of step {digits[:30]}; there are {more}{steps}")


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
        return read_checkpoint(folder / f"{best:012d}", saved_run_id(run))
    except UserError as error:
        raise UserError(f"the best checkpoint cannot be used: {error}; use last") from None


def best_step(found: Checkpoint) -> int | None:
    """Return the step of the best evaluation up to a checkpoint; None if there is none, or its checkpoint is gone."""
    best = _best_step(found.path.parent, found.state)
    return best if best is not None and (found.path.parent / f"{best:012d}").is_dir() else None


def _best_step(folder: Path, state: dict[str, Any]) -> int | None:
    if "best_step" in state:
        return state["best_step"]
    try:  # the first runs of format 2 have a file in place of the field
        best = read_text(folder / "best", 100).strip()
    except (OSError, ValueError):
        return None
    return int(best) if STEP_NAME.fullmatch(best) and int(best) <= state["step"] else None
