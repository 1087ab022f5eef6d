"""Replay of `check.safetensors` by the files of an exported policy. Loads no torch: a file is proven where it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save  # pyright: ignore[reportUnknownVariableType]

from mappo.deploy.comparison import Verdict, compare
from mappo.deploy.contract import CHECK, CONTRACT, read_contract
from mappo.deploy.formats import MODULES, Arrays, FormatName, Runner, UnavailableError, get_format
from mappo.errors import UserError
from mappo.system.files import error_text
from mappo.system.safe_read import check_tensor_file, quote

PIECE = 256  # steps of a batch
SINGLES = 20  # steps answered one by one


def verify(folder: Path, allow_code: bool = False) -> list[Verdict]:
    """Replay the record with each file of an exported policy.

    Args:
        folder: of one agent.
        allow_code: run files that are programs, `policy.c` and `policy.pt2`; otherwise they are skipped.

    Raises:
        UserError: the folder holds no exported policy or programs alone, or a file is damaged or does not belong to the
            contract.
    """
    contract = read_contract(folder)
    record = read_record(folder)
    verdicts: list[Verdict] = []
    for name in MODULES:
        kind = get_format(name)
        if not _names(contract, name):
            continue
        if kind.RUNS_CODE and not allow_code:
            verdicts.append(Verdict(kind.FILES[0], skipped="a program: add --allow-code if you trust the folder"))
            continue
        try:
            verdicts.append(replay(kind.FILES[0], kind.open(contract, folder), record, contract))
        except UnavailableError as error:
            verdicts.append(Verdict(kind.FILES[0], skipped=str(error)))
        except UserError:
            raise
        except Exception as error:  # of a runtime, or of numpy for a contract of other arrays
            cause = quote(f"{type(error).__name__}: {error}")
            raise UserError(
                f"{folder / kind.FILES[0]} cannot be replayed: it does not belong to {CONTRACT} and {CHECK}, "
                f"or is damaged ({cause}); export the policy again"
            ) from None
    if not verdicts:
        raise UserError(f"{folder / CONTRACT} names no file to replay: export the policy again")
    if not allow_code and all(get_format(name).RUNS_CODE for name in MODULES if _names(contract, name)):
        raise UserError(f"{folder} holds programs alone: add --allow-code to run them, if you trust the folder")
    return verdicts


def _names(contract: Mapping[str, Any], name: FormatName) -> bool:
    """Return whether a contract names a file of the format."""
    return get_format(name).FILES[0] in contract["files"]


def write_record(folder: Path, record: Arrays) -> None:
    """Write `check.safetensors`, readable like the other files: safetensors makes private files."""
    (folder / CHECK).write_bytes(save({name: np.ascontiguousarray(x) for name, x in record.items()}))


def read_record(folder: Path) -> dict[str, np.ndarray]:
    """Read `check.safetensors`.

    Raises:
        UserError: the file is missing or damaged.
    """
    file = folder / CHECK
    try:
        check_tensor_file(file)
        return load_file(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"cannot read {file}: {error_text(error)}; export the policy again") from None


def replay(file: str, run: Runner, record: Arrays, contract: Mapping[str, Any]) -> Verdict:
    """Compare the answers of a file with the record.

    Steps come in batches. The first steps of a file without a memory come singly. A file with a memory is replayed a
    second time, step by step: each step reads the memory returned by the file, so that rounding adds up.

    Args:
        file: its name.
        run: the file in use.
        record: inputs and answers of the saved actor.
        contract: the file's.
    """
    steps = len(record["noise"])
    inputs = {x["name"]: record[x["name"]] for x in contract["inputs"]}
    batches = [1] * min(steps, SINGLES) + [PIECE] * (steps // PIECE + 1)
    verdict = compare(file, _answers(run, inputs, batches, has_memory=False), record, contract)
    if not contract["memory"]:
        return verdict
    carried = compare(file, _answers(run, inputs, [1] * steps, has_memory=True), record, contract, is_carried=True)
    problems = dict.fromkeys(filter(None, (verdict.problem, carried.problem)))
    return replace(verdict, memory_error=carried.memory_error, problem=", ".join(problems))


def _answers(run: Runner, inputs: Arrays, sizes: Sequence[int], has_memory: bool) -> Arrays:
    """Return the outputs for all steps, in batches of the sizes; with `has_memory` each batch reads the last memory."""
    answers: list[dict[str, np.ndarray]] = []
    for rows in _pieces(len(inputs["noise"]), sizes):
        memory = {"memory": answers[-1]["memory_out"]} if has_memory and answers else {}
        answers.append(run({name: x[rows] for name, x in inputs.items()} | memory))
    return {name: np.concatenate([outputs[name] for outputs in answers]) for name in answers[0]}


def _pieces(steps: int, sizes: Sequence[int]) -> Iterator[slice]:
    start = 0
    for size in sizes:
        if start < steps:
            yield slice(start, min(start + size, steps))
        start += size
