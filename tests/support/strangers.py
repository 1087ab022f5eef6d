"""Run directories as a stranger might make them: whole, with true checksums, and of any content."""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mappo.runs import checkpoint

Config = dict[str, Any]


def config_of(run: Path) -> Config:
    return json.loads((run / "config.json").read_text())


def with_config(run: Path, change: Callable[[Config], Any]) -> None:
    """`change` alters what config.json holds, in place."""
    told = config_of(run)
    change(told)
    (run / "config.json").write_text(json.dumps(told))


def last(run: Path) -> Path:
    return sorted((run / "checkpoints").glob("[0-9]*"))[-1]


def sealed(folder: Path, **state: Any) -> None:
    """Makes the checksums of a checkpoint true again; further entries of its state.json take the place of its own."""
    file = folder / "state.json"
    told = json.loads(file.read_text()) | state
    told["sha256"] = {f"{n}.safetensors": digest(folder / f"{n}.safetensors") for n in ("model", "trainer")}
    told["sha256"]["state.json"] = checkpoint.digest_state(told)
    file.write_text(json.dumps(told))


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def header_of(file: Path) -> tuple[dict[str, Any], bytes]:
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(file: Path, change: Callable[[dict[str, Any]], Any], more: bytes = b"") -> None:
    """`change` alters a safetensors header in place; `more` bytes stand behind the others."""
    header, data = header_of(file)
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data + more)


def copied(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to))
