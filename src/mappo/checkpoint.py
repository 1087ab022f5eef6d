"""Checkpoints of a run: written so that a crash loses nothing, read only if they are whole.

runs/NAME/config.json               the environment, the config and the spaces
          checkpoints/STEP/         one checkpoint, complete or not there at all:
              model.safetensors       weights, value statistics
              trainer.safetensors     optimizer, random generators, environment, episodes under way
              state.json              counters, format, checksums of the other two
          checkpoints/best          the STEP of the best evaluation
"""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

import mappo
from mappo.actor import Actor
from mappo.errors import UserError
from mappo.networks import build_actor
from mappo.policy import Policy
from mappo.rundir import FORMAT, check_format, flush, read_json, read_run, seed_paths, write_text
from mappo.state import misfit, part
from mappo.untrusted import read_header, read_text, shown

_STEP = re.compile(r"[0-9]{12,18}")  # what a checkpoint's directory is called: nothing else there is ours
KEPT = 2  # checkpoints besides the best: the last, and the one before in case the last is damaged


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
    best: bool,
) -> Path:
    """Writes one checkpoint, whole or not at all, then points `best` to it if it is, then prunes old ones.

    The files are written and flushed under a temporary name; the rename is what makes the checkpoint exist.

    Raises:
        UserError: it could not be written, for example to a full disk; the ones before are untouched.
    """
    folder = run / "checkpoints"
    final = folder / f"{step:012d}"
    temporary = folder / f".{final.name}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        sums: dict[str, str] = {}
        for name, tensors in (("model", model), ("trainer", trainer)):
            file = temporary / f"{name}.safetensors"
            save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, file)
            if (run / "config.json").exists():  # made private by default, unlike all other files
                shutil.copymode(run / "config.json", file)
            sums[file.name] = _digest(file)
            flush(file)
        described = {"format": FORMAT, "mappo": mappo.__version__, "step": step, **state, "sha256": sums}
        sums["state.json"] = _digest_state(described)
        write_text(temporary / "state.json", json.dumps(described, indent=2) + "\n")
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        flush(folder)
        if best:
            write_text(folder / "best", final.name + "\n")
        # Later ones are of a run that was rewound past them, because they are damaged.
        kept = [f.name for f in _steps(folder) if f.name <= final.name][-KEPT:]
        for old in _steps(folder):
            if old.name not in (*kept, _best(folder)):
                shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(
            f"could not save the checkpoint {final}: {error}; free some space or mend the permissions, "
            f"then `mappo resume {run}`: the checkpoints before are whole"
        ) from None
    return final


def load(run: Path, which: str = "last", until: int | None = None) -> Checkpoint:
    """Reads the `last` checkpoint that is whole, or the `best` one.

    Args:
        until: the last one up to this step.

    Raises:
        UserError: there is none, or it is damaged.
    """
    folder = run / "checkpoints"
    if which not in ("last", "best"):
        raise UserError(f"checkpoint must be last or best, got {which!r}")
    if which == "best":
        if (name := _best(folder)) is None:
            raise UserError(f"{run} holds no best checkpoint: it was never evaluated; use last")
        return _read_checkpoint(folder / name)
    problems: list[str] = []
    for path in reversed(_steps(folder)):
        if until is not None and int(path.name) > until:
            continue
        try:
            return replace(_read_checkpoint(path), passed_over=tuple(problems))
        except UserError as error:
            problems.append(str(error))
    late = "nothing was saved in it yet" if until is None else f"none of step {until:,} or before is left"
    raise UserError("; ".join(problems) or f"{run} holds no checkpoint: {late}")


def forget_best_behind(run: Path, step: int) -> None:
    """A run that goes on from a step may have had a better policy later: that one will never have been."""
    name = _best(run / "checkpoints")
    if name is not None and int(name) > step:
        (run / "checkpoints" / "best").unlink()


def load_actor(path: str | Path, *, checkpoint: str = "last", sampled: bool = False, device: str = "cpu") -> Actor:
    """The policy of a run, alone: it needs no environment and no config.

    Args:
        path: the run directory. checkpoint: `last` or `best`.
        sampled: draw actions, in place of the likeliest.

    Returns:
        `actor(obs, memory=None, *, mask=None, is_first=None) -> (action, memory)` for the team, see `Actor`;
        `actor.agent(NAME)` is one agent's, with its own observations and actions.

    Raises:
        UserError: there is no run, or its checkpoint is damaged.
    """
    _, config, spec = read_run(Path(path))
    if config.run.seeds > 1:
        raise UserError(f"{path} holds {config.run.seeds} seeds: name one, such as {seed_paths(Path(path), config)[0]}")
    found = load(Path(path), checkpoint)
    weights = part(part(found.model, "network"), "actor")
    with torch.device("meta"):  # takes no memory, whatever the config asks for
        wanted = build_actor(spec, config.network).state_dict()
    if difference := misfit(weights, wanted):
        raise UserError(f"{found.path} does not fit {path}/config.json: {difference}")
    tower = build_actor(spec, config.network)
    tower.load_state_dict(part(part(found.model, "network"), "actor"))
    generator = torch.Generator(device)
    generator.manual_seed(0)
    tower.to(device).requires_grad_(False)
    return Actor(Policy(spec, config.network, tower, device), sampled, generator)


def _read_checkpoint(path: Path) -> Checkpoint:
    state = read_json(path / "state.json", f"{path} is not a checkpoint")
    check_format(state.get("format"), str(path))
    if not (type(step := state.get("step")) is int and path.name == f"{step:012d}"):
        raise UserError(f"{path} is damaged: its state.json is of step {shown(repr(step))}")
    sums = state.get("sha256")
    if not isinstance(sums, dict) or cast(dict[str, Any], sums).get("state.json") != _digest_state(state):
        raise UserError(f"{path} is damaged: its state.json does not hold its own checksum")
    tensors: dict[str, dict[str, Tensor]] = {}
    for name in ("model", "trainer"):
        file = path / f"{name}.safetensors"
        try:
            read_header(file)  # of what is no such file, or is larger than any, not one more byte is read
            if _digest(file) != cast(dict[str, Any], sums).get(file.name):
                raise UserError(f"{file} is damaged: its checksum is not the one in state.json")
            tensors[name] = load_file(file)
        except UserError:
            raise
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(f"cannot read {file}: {shown(str(error))}") from None
    return Checkpoint(path, state, tensors["model"], tensors["trainer"])


def _steps(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("[0-9]*") if _STEP.fullmatch(p.name) and p.is_dir()) if folder.is_dir() else []


def _best(folder: Path) -> str | None:
    try:
        name = read_text(folder / "best", 100).strip()
    except (OSError, ValueError):
        return None
    return name if _STEP.fullmatch(name) else None


def _digest_state(state: dict[str, Any]) -> str:
    """Of everything in `state.json` but the checksums."""
    text = json.dumps({k: v for k, v in state.items() if k != "sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
