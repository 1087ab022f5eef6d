"""A run directory: what is in it, how it is written so that a crash loses nothing, how it is read again.

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
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

import mappo
from mappo.actor import Actor
from mappo.config import Config
from mappo.errors import UserError
from mappo.networks import build_network, heads_of
from mappo.types import ActionHeads, Spec

FORMAT = 1
KEPT = 2  # checkpoints besides the best: the last, and the one before in case the last is damaged


@dataclass(frozen=True)
class Checkpoint:
    """One that was read and found whole. Tensors by name: `network.*`, `value_norm.*`; `optimizer.*`, ..."""

    path: Path
    state: dict[str, Any]
    model: dict[str, Tensor]
    trainer: dict[str, Tensor]


def create_run(path: Path, env: str, config: Config, spec: Spec) -> None:
    """Makes the directory of a new run, and writes `config.json`.

    Raises:
        UserError: it exists, or cannot be written.
    """
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise UserError(f"{path} exists: choose another --run.name, or go on with it: mappo resume {path}") from None
    except OSError as error:
        raise UserError(f"cannot make {path}: {error.strerror}") from None
    described = {
        "format": FORMAT,
        "mappo": mappo.__version__,
        "torch": torch.__version__,
        "env": env,
        "config": config.to_dict(),
        "spec": _spec_to_dict(spec),
    }
    _write(path / "config.json", json.dumps(described, indent=2) + "\n")


def read_run(path: Path) -> tuple[str, Config, Spec]:
    """Environment, config and spaces of a run directory.

    Raises:
        UserError: it is not one, or was written by a later version.
    """
    data = _read_json(path / "config.json", f"{path} is not a run directory")
    if data.get("format") != FORMAT:
        raise UserError(f"{path}: config.json has format {data.get('format')!r}, this version reads {FORMAT}")
    try:
        return str(data["env"]), Config.from_dict(data["config"]), _spec_from_dict(data["spec"])
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path / 'config.json'} is damaged: {type(error).__name__} {error}") from None


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
            sums[file.name] = _digest(file)
            _flush(file)
        described = {"format": FORMAT, "mappo": mappo.__version__, "step": step, **state, "sha256": sums}
        _write(temporary / "state.json", json.dumps(described, indent=2) + "\n")
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        _flush(folder)
        if best:
            _write(folder / "best", final.name + "\n")
        keep = {f.name for f in _steps(folder)[-KEPT:]} | {_best(folder)}
        for old in _steps(folder):
            if old.name not in keep:
                shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(
            f"could not save the checkpoint {final}: {error}; free some space or mend the permissions, "
            f"then `mappo resume {run}`: the checkpoints before are whole"
        ) from None
    return final


def load(run: Path, which: str = "last") -> Checkpoint:
    """Reads the `last` checkpoint that is whole, or the `best` one.

    Raises:
        UserError: there is none, or it is damaged.
    """
    folder = run / "checkpoints"
    if which == "best" and (name := _best(folder)) is not None:
        return _read_checkpoint(folder / name)
    problems: list[str] = []
    for path in reversed(_steps(folder)):
        try:
            return _read_checkpoint(path)
        except UserError as error:
            problems.append(str(error))
    raise UserError("; ".join(problems) or f"{run} holds no checkpoint: nothing was saved in it yet")


def load_actor(path: str | Path, *, checkpoint: str = "last", sampled: bool = False, device: str = "cpu") -> Actor:
    """The policy of a run, alone: it needs no environment and no config.

    Args:
        path: the run directory. checkpoint: `last` or `best`.
        sampled: draw actions, in place of the likeliest.

    Returns:
        `actor(obs, memory=None, *, mask=None, is_first=None) -> (action, memory)`; see `Actor`.

    Raises:
        UserError: there is no run, or its checkpoint is damaged.
    """
    _, config, spec = read_run(Path(path))
    found = load(Path(path), checkpoint)
    network = build_network(spec, config, seed=0)
    try:
        network.load_state_dict(part(found.model, "network"))
    except RuntimeError as error:
        raise UserError(f"{found.path} does not fit {path}/config.json: {error}") from None
    generator = torch.Generator(device)
    generator.manual_seed(0)
    network.to(device).requires_grad_(False)
    return Actor(network.logit, network.obs_size, heads_of(spec), sampled, generator)


def flat(prefix: str, tensors: dict[str, Any]) -> dict[str, Tensor]:
    """Nested dicts of tensors as one, names joined by dots, the prefix first."""
    result: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = f"{prefix}.{key}"
        result |= flat(name, cast(dict[str, Any], value)) if isinstance(value, dict) else {name: value}
    return result


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The inverse of `flat`, one level deep: what stands under a prefix, without it."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + ".")}


def _read_checkpoint(path: Path) -> Checkpoint:
    state = _read_json(path / "state.json", f"{path} is not a checkpoint")
    if state.get("format") != FORMAT:
        raise UserError(f"{path} has format {state.get('format')!r}; this version reads {FORMAT}")
    sums = state.get("sha256")
    if not isinstance(sums, dict):
        raise UserError(f"{path} is damaged: its state.json holds no checksums")
    tensors: dict[str, dict[str, Tensor]] = {}
    for name in ("model", "trainer"):
        file = path / f"{name}.safetensors"
        try:
            if _digest(file) != cast(dict[str, Any], sums).get(file.name):
                raise UserError(f"{file} is damaged: its checksum is not the one in state.json")
            tensors[name] = load_file(file)
        except (OSError, SafetensorError) as error:
            raise UserError(f"cannot read {file}: {error}") from None
    return Checkpoint(path, state, tensors["model"], tensors["trainer"])


def _read_json(file: Path, otherwise: str) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{otherwise}: there is no {file.name} in it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{otherwise}: {file.name} cannot be read ({error})") from None
    if not isinstance(data, dict):
        raise UserError(f"{otherwise}: {file.name} does not hold an object")
    return cast(dict[str, Any], data)


def _steps(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("[0-9]*") if p.is_dir()) if folder.is_dir() else []


def _best(folder: Path) -> str | None:
    try:
        name = (folder / "best").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return name if name.isdigit() else None


def _write(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)


def _flush(path: Path) -> None:
    """To the disk itself; a directory cannot be opened for that on every system."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (PermissionError, IsADirectoryError):
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _spec_to_dict(spec: Spec) -> dict[str, Any]:
    return {
        "agents": spec.agents,
        "obs": [{"shape": s.shape, "dtype": str(s.dtype)} for s in spec.obs_spaces],
        "heads": [{"categorical": h.categorical, "continuous": h.continuous} for h in spec.action_heads],
        "groups": spec.groups,
        "state_shape": spec.state_shape,
        "shared_reward": spec.shared_reward,
    }


def _spec_from_dict(data: dict[str, Any]) -> Spec:
    return Spec(
        agents=tuple(data["agents"]),
        obs_spaces=tuple(
            spaces.Box(-np.inf, np.inf, tuple(o["shape"]), np.dtype(o["dtype"]).type) for o in data["obs"]
        ),
        action_heads=tuple(ActionHeads(tuple(h["categorical"]), h["continuous"]) for h in data["heads"]),
        groups=tuple(data["groups"]),
        state_shape=None if data["state_shape"] is None else tuple(data["state_shape"]),
        shared_reward=bool(data["shared_reward"]),
    )
