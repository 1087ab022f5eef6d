"""`contract.json`: all that a user of an exported policy must know, as data. Loads no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, cast

from mappo._version import __version__
from mappo.config.bounds import above, at_most, read_field
from mappo.deploy.labels import Labels
from mappo.errors import UserError
from mappo.system.files import digest, error_text, write_text
from mappo.system.safe_read import MAX_JSON, MAX_TENSORS, open_plain, parse_json, quote, read_text

if TYPE_CHECKING:
    from mappo.core.obs_inputs import ObsInput
    from mappo.core.spec import ActionHeads
    from mappo.deploy.agent_policy import AgentPolicy

FORMAT = 1
CONTRACT = "contract.json"
CHECK = "check.safetensors"
# A file answers as the saved actor does if its numbers differ by less than the contract's `tolerance`, times their size
# where that is above 1, and if it takes the same greedy choice wherever the two best logits differ by more than
# `MARGIN_FACTOR` times the tolerance. A memory carried from step to step may differ by `MEMORY_FACTOR` times as much.
TOLERANCE = 1e-5
MARGIN_FACTOR = 10
MEMORY_FACTOR = 10
MAX_TOLERANCE = 1e-2
BATCH = "batch"

_MEANINGS = {
    "mask": "True where a choice is legal, head by head; a head without a legal choice may choose anything",
    "memory": "memory_out of the step before; anything where is_first",
    "is_first": "True at the first step of an episode or of a life: the memory starts at zero",
    "noise": "uniform in [0, 1), a number for each head, for sampled_action alone; any value else",
    "action": "the most probable action, in the agent's own space",
    "sampled_action": "an action drawn by the noise, in the agent's own space",
    "logits": "scores of all choices, head by head, before the mask",
    "mean": "means of the continuous heads, before the bounds",
    "log_std": "logarithms of the standard deviations of the continuous heads, before the bounds",
    "memory_out": "the memory for the next step",
}


def make_contract(
    policy: AgentPolicy,
    agent: str,
    origin: Mapping[str, Any],
    tolerance: float = TOLERANCE,
    labels: Labels = MappingProxyType({}),
) -> dict[str, Any]:
    """Describe the policy of an agent.

    Args:
        policy: the agent's.
        agent: its name.
        origin: `env`, `run`, `checkpoint`, `step`, `precision`, of the run.
        tolerance: largest difference of a file's numbers from the record; see `rounding_tolerance`.
        labels: names and units of the agent's numbers; see `read_labels`.
    """
    import torch

    example = policy.example_inputs(1)
    inputs = {x.name: _describe_input(x) for x in policy.reader.inputs}
    return {
        "format": FORMAT,
        "mappo": __version__,
        "torch": torch.__version__,
        **origin,
        "agent": agent,
        "inputs": [_describe(name, x, inputs.get(name, {})) for name, x in example.items()],
        "outputs": [_describe(name, x, {}) for name, x in policy(example).items()],
        "observation": {"names": labels.get("observation_names"), "units": labels.get("observation_units")},
        "action": _describe_action(policy.heads, policy.distribution.is_squashed, labels),
        "memory": policy.memory_size,
        "tolerance": tolerance,
        "layers": describe_layers(policy),
    }


def _describe(name: str, x: Any, more: dict[str, Any]) -> dict[str, Any]:
    dtype = str(x.dtype).removeprefix("torch.")
    meaning = {} if name not in _MEANINGS else {"meaning": _MEANINGS[name]}
    return {"name": name, "shape": [BATCH, *x.shape[1:]], "dtype": dtype, **meaning, **more}


def _describe_input(array: ObsInput) -> dict[str, Any]:
    """Return keys, meaning and range of an array of the observation."""
    kind = "an integer for each choice, counted from start" if array.choices else "numbers in the environment's units"
    facts: dict[str, Any] = {"keys": array.path, "meaning": kind}
    if array.choices:
        return facts | {"options": array.choices, "start": array.start}
    return facts | {"low": _finite(array.low), "high": _finite(array.high)} if array.low else facts


def _describe_action(heads: ActionHeads, is_squashed: bool, labels: Labels) -> dict[str, Any]:
    """Return shape and heads of an action, in the order of its flat numbers."""
    described: list[dict[str, Any]] = []
    first = 0
    for count, start in zip(heads.categorical, cast("tuple[int, ...]", heads.start), strict=True):
        described.append({"kind": "choice", "options": count, "start": start, "first_logit": first})
        first += count
    for low, high in zip(_finite(heads.low), _finite(heads.high), strict=True):
        bounds = "tanh" if is_squashed else "clip"
        described.append({"kind": "number", "low": low, "high": high, "bounds": bounds})
    for key in ("name", "unit"):
        for head, text in zip(described, labels.get(f"action_{key}s", ()), strict=False):
            head[key] = text
    return {"shape": heads.shape, "heads": described}


def describe_layers(policy: AgentPolicy) -> list[dict[str, Any]]:
    """Return the layers with numbers of their own, in the order of computation: name, kind, sizes, count of numbers."""
    from torch import nn

    kinds: dict[type, tuple[str, tuple[str, ...]]] = {
        nn.Linear: ("linear", ("in_features", "out_features")),
        nn.LayerNorm: ("layer_norm", ()),
        nn.Conv2d: ("conv2d", ("in_channels", "out_channels", "kernel_size", "stride", "padding")),
    }
    layers: list[dict[str, Any]] = []
    for name, module in cast("Iterable[tuple[str, nn.Module]]", policy.named_modules()):
        tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        if tensors:
            kind, keys = kinds.get(type(module), (type(module).__name__, ()))
            sizes = {key: getattr(module, key) for key in keys}
            counts = {key: x.numel() for key, x in tensors.items()}
            layers.append({"name": name or "policy", "kind": kind, **sizes, "numbers": counts})
    return layers


def _finite(bounds: Sequence[float]) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in bounds]  # JSON has no infinity


def write_contract(folder: Path, contract: Mapping[str, Any]) -> None:
    """Write `contract.json` with size and checksum of each other file in the folder."""
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": digest(file)}
        for file in sorted(folder.iterdir())
        if file.name != CONTRACT
    }
    write_text(folder / CONTRACT, json.dumps({**contract, "files": files}, indent=2) + "\n")


def read_contract(folder: Path) -> dict[str, Any]:
    """Read `contract.json`, and compare the checksums of all files.

    Raises:
        UserError: the folder holds no exported policy, or a file is damaged or missing.
    """
    file = folder / CONTRACT
    try:
        contract = parse_json(read_text(file, MAX_JSON))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no exported policy: {file.name}: {quote(error_text(error))}") from None
    if not isinstance(contract, dict) or cast("dict[str, Any]", contract).get("format") != FORMAT:
        raise UserError(f"{file} is not of format {FORMAT}: export the policy again, or use the version that wrote it")
    data = {"tolerance": TOLERANCE, **cast("dict[str, Any]", contract)}  # older contracts name none
    read_field(data, "tolerance", Annotated[float, above(0), at_most(MAX_TOLERANCE)])
    for name, facts in read_field(data, "files", dict).items():
        if not name.isprintable() or Path(name).name != name:
            raise UserError(f"{file} is damaged: {quote(name)!r} is no name of a file; export the policy again")
        path = folder / name
        try:
            open_plain(path, MAX_TENSORS).close()  # a pipe or a device would have no end
            actual = digest(path)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path}: {error_text(error)}; export the policy again") from None
        if not isinstance(facts, dict) or actual != cast("dict[str, Any]", facts).get("sha256"):
            raise UserError(f"{path} is damaged: its checksum is not the checksum in {CONTRACT}; export it again")
    return data
