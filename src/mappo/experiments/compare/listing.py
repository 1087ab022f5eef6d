"""`mappo runs`: a line for each run directory in a folder. Loads no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mappo.config import Config
from mappo.envs.names import preset
from mappo.errors import UserError
from mappo.evaluation.statistics import summarize, summarize_policies
from mappo.experiments.compare.finding import FoundRun, find_runs
from mappo.experiments.compare.grouping import describe, settings_of
from mappo.experiments.compare.record import Record, read_record

# The least finished seed speaks for the run.
_STATES = ("running", "stopped", "complete")


@dataclass(frozen=True)
class RunInfo:
    """Summary of a run directory.

    Args:
        path: run directory.
        env: environment of the run.
        seeds: the seeds.
        step: environment steps done by each seed.
        total_steps: environment steps of the complete run.
        state: running, stopped or complete.
        source: `score` (episodes after the training), `evaluation` (episodes during training), or "" without either.
        score: `summarize` over seeds, or of the episodes of a single seed; None without a score.
        changes: settings that differ from the preset, as a text.
    """

    path: Path
    env: str
    seeds: tuple[int, ...]
    step: int
    total_steps: int
    state: str
    source: str
    score: dict[str, Any] | None
    changes: str


def list_runs(folder: str | Path = "runs") -> tuple[list[RunInfo], list[str]]:
    """Return a summary of each run in a folder and its subfolders, and the errors of damaged runs.

    Raises:
        UserError: the folder is missing, or holds no run.
    """
    found = find_runs([folder])
    problems = list(found.problems)
    infos: list[RunInfo] = []
    for run in found.runs:
        try:
            infos.append(_summarize_run(run))
        except UserError as error:
            problems.append(str(error))
    return infos, problems


def _summarize_run(run: FoundRun) -> RunInfo:
    records = [read_record(run, seed, path) for seed, path in run.seeds]
    states = {record.state for record in records}
    source, score = _score(records)
    return RunInfo(
        run.path,
        run.env,
        tuple(record.seed for record in records),
        min(record.step for record in records),
        run.config.end_step,
        next(state for state in _STATES if state in states),
        source,
        score,
        _describe_changes(run.env, run.config),
    )


def _score(records: list[Record]) -> tuple[str, dict[str, Any] | None]:
    """Return the kind of the score and its summary: over seeds, or over the episodes of a single seed."""
    finals = [record.final_returns for record in records]
    if all(returns is not None for returns in finals):
        values = [np.array([*(returns or {}).values()]) for returns in finals]
        size = min(map(len, values))
        return "score", summarize_policies(np.stack([x[:size] for x in values]))
    steps = [record.last_evaluation() for record in records]
    means = [record.mean_at(step) for record, step in zip(records, steps, strict=True) if step is not None]
    return ("evaluation", summarize(np.array(means))) if len(means) == len(records) else ("", None)


def _describe_changes(env: str, config: Config) -> str:
    try:
        base = settings_of(preset(env))
    except UserError:  # no such environment here, as for runs of a user's own objects
        base = settings_of(Config())
    values = settings_of(config)
    return describe(values, [name for name, value in values.items() if value != base.get(name)])
