"""Comparison of a file's answers with those of the saved actor. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mappo.deploy.contract import MARGIN_FACTOR, MEMORY_FACTOR
from mappo.deploy.formats import Arrays

# Greedy or sampled choices of the record that may differ: the two best options, or noise and a bound, were too close.
ALLOWED = 1 / 1000


@dataclass(frozen=True)
class Verdict:
    """Comparison of a file with the record.

    Args:
        file: the file's name.
        steps: steps replayed.
        close: steps where the two best logits of a choice are almost equal.
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


def compare(file: str, found: Arrays, record: Arrays, contract: Mapping[str, Any], is_carried: bool = False) -> Verdict:
    """Compare answers `(n, ...)` with those of the record.

    Args:
        file: name of the file that answered.
        found: its answers.
        record: inputs and answers of the saved actor.
        contract: the file's; its `tolerance` bounds the differences.
        is_carried: the file read its own memory: numbers may differ as far as the memory may.
    """
    tolerance: float = contract["tolerance"]
    memory_tolerance = MEMORY_FACTOR * tolerance
    steps = len(record["noise"])
    heads: list[dict[str, Any]] = contract["action"]["heads"]
    choices = [head for head in heads if head["kind"] == "choice"]
    is_close = np.zeros(steps, bool)
    for head in choices:
        is_close |= _is_close(record, head, tolerance)
    differs, samples = (
        (found[name].reshape(steps, -1) != record[name].reshape(steps, -1))[:, : len(choices)].any(-1)
        for name in ("action", "sampled_action")
    )
    error = largest_difference(found, record, len(choices))
    memory_error = _difference(found["memory_out"], record["memory_out"]) if contract["memory"] else 0.0
    differing = int((differs & ~is_close).sum())
    close_differing = int(((differs & is_close) | samples).sum())
    limit = memory_tolerance if is_carried else tolerance
    problems = {
        f"other greedy choices in {differing:,} steps": differing,
        f"other choices in {close_differing:,} steps": close_differing > math.ceil(ALLOWED * steps),
        f"numbers differ by more than {limit:g}": not error <= limit,
        f"the memory differs by more than {memory_tolerance:g}": not memory_error <= memory_tolerance,
    }
    problem = ", ".join(text for text, is_true in problems.items() if is_true)
    return Verdict(file, steps, int(is_close.sum()), differing, close_differing, error, memory_error, problem)


def largest_difference(found: Arrays, expected: Arrays, num_choices: int) -> float:
    """Return the largest difference of logits, means, log standard deviations and the numbers of actions.

    Differences are relative to the size of numbers above 1.

    Args:
        found: outputs by name, `(n, ...)`.
        expected: outputs of another program for the same inputs.
        num_choices: count of the first columns of an action that are choices.
    """
    steps = len(expected["action"])
    errors = [_difference(found[name], expected[name]) for name in ("logits", "mean", "log_std") if name in expected]
    for name in ("action", "sampled_action"):
        x, y = (outputs[name].reshape(steps, -1)[:, num_choices:] for outputs in (found, expected))
        errors.append(_difference(x, y))
    return max(errors)


def _is_close(record: Arrays, head: Mapping[str, Any], tolerance: float) -> np.ndarray:
    """Return the steps in which rounding may decide between the two best legal options of a choice, `(n,)`."""
    span = slice(head["first_logit"], head["first_logit"] + head["options"])
    legal = record["mask"][:, span]
    legal = legal | ~legal.any(-1, keepdims=True)
    logits = np.where(legal, record["logits"][:, span].astype(np.float64), -np.inf)
    if logits.shape[1] < 2:
        return np.zeros(len(logits), bool)
    second, best = np.sort(logits, -1)[:, -2:].T
    # Each of the two numbers may differ by the tolerance, times its size.
    return best - second <= np.maximum(MARGIN_FACTOR * tolerance, 2 * tolerance * np.abs(best))


def _difference(x: np.ndarray, y: np.ndarray) -> float:
    """Return the largest difference, relative to the size of numbers above 1; NaN equals NaN alone."""
    if x.size == 0:
        return 0.0
    x, y = x.astype(np.float64), y.astype(np.float64)
    is_equal = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore"):
        error = np.where(is_equal, 0.0, np.abs(x - y) / np.maximum(np.abs(y), 1.0))
    return float(np.where(np.isnan(error), np.inf, error).max())
