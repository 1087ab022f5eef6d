"""Replay of `check.safetensors` by the files of an exported policy. Loads no torch: a file is proven where it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save  # pyright: ignore[reportUnknownVariableType]

from mappo.deploy.contract import CHECK, CONTRACT, MARGIN, MEMORY_TOLERANCE, TOLERANCE, read_contract
from mappo.deploy.formats import MODULES, Arrays, FormatName, Runner, UnavailableError, get_format
from mappo.errors import UserError
from mappo.system.files import error_text
from mappo.system.safe_read import check_tensor_file, quote

# Greedy or sampled choices of the record that may differ: the two best options, or noise and a bound, were too close.
ALLOWED = 1 / 1000
PIECE = 256  # steps of a batch
SINGLES = 20  # steps answered one by one


@dataclass(frozen=True)
class Verdict:
    """Comparison of a file with the record.

    Args:
        file: the file's name.
        steps: steps replayed.
        close: steps where the two best logits of a choice differ by less than `MARGIN`.
        differing: steps with another greedy choice although its logits are not close.
        close_differing: steps with another greedy choice among close logits, or another sampled choice.
        error: largest difference of a number, and `memory_error` of the memory, over the size of the number.
        problem: reason why the file is refused; "" if it answers as the saved actor does.
        skipped: reason why the file could not be run here; "" if it was.
    """

    file: str
    steps: int = 0
    close: int = 0
    differing: int = 0
    close_differing: int = 0
    error: float = 0.0
    memory_error: float = 0.0
    problem: str = ""
    skipped: str = ""

    def __str__(self) -> str:
        if self.skipped:
            return f"{self.file}: not replayed, {self.skipped}"
        memory = f", of the memory {self.memory_error:.1e}" if self.memory_error else ""
        close = f"; in {self.close:,} of them two options are almost equal" if self.close else ""
        facts = f"{self.steps:,} steps, largest difference of a number {self.error:.1e}{memory}{close}"
        return f"{self.file}: WRONG, {self.problem} ({facts})" if self.problem else f"{self.file}: right, {facts}"


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


def compare(file: str, found: Arrays, record: Arrays, contract: Mapping[str, Any], is_carried: bool = False) -> Verdict:
    """Compare answers `(n, ...)` with those of the record.

    Args:
        file: name of the file that answered.
        found: its answers.
        record: inputs and answers of the saved actor.
        contract: the file's.
        is_carried: the file read its own memory: numbers may differ as far as the memory may.
    """
    tolerance = MEMORY_TOLERANCE if is_carried else TOLERANCE
    steps = len(record["noise"])
    heads: list[dict[str, Any]] = contract["action"]["heads"]
    choices = [k for k, head in enumerate(heads) if head["kind"] == "choice"]
    is_close = np.zeros(steps, bool)
    for k in choices:
        is_close |= _margins(record, heads[k]) <= MARGIN
    differs, samples = (
        (found[name].reshape(steps, -1)[:, choices] != record[name].reshape(steps, -1)[:, choices]).any(-1)
        for name in ("action", "sampled_action")
    )
    error = 0.0
    for name in ("logits", "mean", "log_std"):
        if name in record:
            error = max(error, _difference(found[name], record[name]))
    for name in ("action", "sampled_action"):
        pair = [x[name].reshape(steps, -1)[:, len(choices) :] for x in (found, record)]
        error = max(error, _difference(*pair))
    memory_error = _difference(found["memory_out"], record["memory_out"]) if contract["memory"] else 0.0
    differing = int((differs & ~is_close).sum())
    close_differing = int(((differs & is_close) | samples).sum())
    problems = {
        f"other greedy choices in {differing:,} steps": differing,
        f"other choices in {close_differing:,} steps": close_differing > math.ceil(ALLOWED * steps),
        f"numbers differ by more than {tolerance:g}": not error <= tolerance,
        f"the memory differs by more than {MEMORY_TOLERANCE:g}": not memory_error <= MEMORY_TOLERANCE,
    }
    problem = ", ".join(text for text, is_true in problems.items() if is_true)
    return Verdict(file, steps, int(is_close.sum()), differing, close_differing, error, memory_error, problem)


def _margins(record: Arrays, head: Mapping[str, Any]) -> np.ndarray:
    """Return the difference of the two best legal logits of a choice, `(n,)`; infinite for a single legal option."""
    span = slice(head["first_logit"], head["first_logit"] + head["options"])
    legal = record["mask"][:, span]
    legal = legal | ~legal.any(-1, keepdims=True)
    logits = np.where(legal, record["logits"][:, span].astype(np.float64), -np.inf)
    if logits.shape[1] < 2:
        return np.full(len(logits), np.inf)
    best = np.sort(logits, -1)[:, -2:]
    return best[:, 1] - best[:, 0]


def _difference(x: np.ndarray, y: np.ndarray) -> float:
    """Return the largest difference, relative to the size of numbers above 1; NaN equals NaN alone."""
    if x.size == 0:
        return 0.0
    x, y = x.astype(np.float64), y.astype(np.float64)
    is_equal = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore"):
        error = np.where(is_equal, 0.0, np.abs(x - y) / np.maximum(np.abs(y), 1.0))
    return float(np.where(np.isnan(error), np.inf, error).max())
