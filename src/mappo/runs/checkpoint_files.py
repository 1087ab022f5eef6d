"""Files of a single checkpoint: read only if whole. `checkpoint` chooses and writes checkpoints of a run."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes, load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from mappo.config.bounds import read_field
from mappo.errors import UserError
from mappo.runs.config_json import check_format, read_json
from mappo.runs.steps import read_error
from mappo.system.files import digest, error_text
from mappo.system.safe_read import check_tensor_file, quote


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, read and found whole. Tensors by name: `network.*`, `value_norm.*`; `optimizer.*`, ..."""

    path: Path
    state: dict[str, Any]
    model: dict[str, Tensor]
    trainer: dict[str, Tensor]
    passed_over: tuple[str, ...] = ()
    """Errors of later checkpoints, which are damaged."""


def read_checkpoint(path: Path, run_id: str | None) -> Checkpoint:
    """Read a checkpoint and check all of its files.

    Args:
        path: directory of the checkpoint.
        run_id: id in the run's `config.json`; None for runs of older versions.

    Raises:
        UserError: a file is missing, damaged, or of another run.
    """
    state = read_state(path, run_id)
    tensors: dict[str, dict[str, Tensor]] = {}
    for name in ("model", "trainer"):
        file = path / f"{name}.safetensors"
        try:
            check_tensor_file(file)  # first: the digest reads the whole file, and a pipe would block
            if digest(file) != state["sha256"].get(file.name):
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


def read_state(path: Path, run_id: str | None) -> dict[str, Any]:
    """Read the `state.json` of a checkpoint; arguments and errors as of `read_checkpoint`."""
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
    if sums.get("state.json") != digest_state(state):
        raise UserError(f"{path} is damaged: its state.json does not hold its own checksum")
    if run_id is not None and state.get("run") != run_id:
        raise UserError(f"{path} is not of this run: its state.json names another run than config.json")
    return state


def digest_state(state: dict[str, Any]) -> str:
    """Return the checksum of all fields in `state.json` except the checksums."""
    text = json.dumps({k: v for k, v in state.items() if k != "sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
