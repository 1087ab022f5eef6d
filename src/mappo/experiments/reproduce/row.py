"""A row: the returns of all seeds of a task, game by game, and how they came about. Loads no torch.

`mappo reproduce` writes rows, and `results/` keeps those behind the published numbers.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mappo._version import __version__
from mappo.config import Config
from mappo.config.bounds import read_field
from mappo.errors import UserError
from mappo.experiments.compare.record import Record
from mappo.runs.config_json import read_json
from mappo.runs.scores import Score
from mappo.system import hardware
from mappo.system.files import write_text

FORMAT = 1
# Evaluations of a seed in a row: a curve needs no more.
MAX_EVALUATIONS = 200
_DIGITS = 4  # of returns


@dataclass(frozen=True)
class Row:
    """The seeds of a task.

    Args:
        task: name of the task.
        facts: command, versions and machine.
        records: a record for each seed, with its score and evaluations.
        costs: for each seed its CPU-minutes, and the commits that trained it.
    """

    task: str
    facts: Mapping[str, Any]
    records: Sequence[Record]
    costs: Sequence[Mapping[str, Any]]

    @property
    def returns(self) -> list[float]:
        """Return the mean return of each seed."""
        return [float(np.mean([*(record.final_returns or {}).values()])) for record in self.records]

    @property
    def num_games(self) -> int:
        """Return the number of games of each seed; a score made by hand may have more than the task asks for."""
        return min(_score_of(record).num_episodes for record in self.records)


def describe_training() -> dict[str, Any]:
    """Return the sources and the machine of a training that begins now."""
    state = hardware.git_state(Path(__file__).parents[2])
    return {
        "mappo": __version__,
        "commit": None if state is None else state[0] + "+changes" * state[1],
        "torch": hardware.package_version("torch"),
        "python": platform.python_version(),
        "cpu": hardware.cpu_model(),
        "cores": hardware.usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def write_row(file: Path, row: Row) -> None:
    """Write a row as JSON, a line for each seed."""
    first = row.records[0]
    score = _score_of(first)
    head = {
        "format": FORMAT,
        "task": row.task,
        **row.facts,
        "env": first.env,
        "scored_on": score.env,
        "package_version": score.package_version,
        "first_game": score.seed,
        "policy": first.policy,
        "config": _without_place(first.config),
        "baselines": {name: _rounded(returns) for name, returns in score.baselines.items()},
    }
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    seeds = ",\n".join(f"    {json.dumps(_seed_of(*pair))}" for pair in zip(row.records, row.costs, strict=True))
    lines.append(f'  "seeds": [\n{seeds}\n  ]')
    write_text(file, "{\n" + ",\n".join(lines) + "\n}\n")


def read_row(file: Path) -> Row:
    """Read a row.

    Raises:
        UserError: the file is missing, is damaged, or has another format.
    """
    data = read_json(file, f"{file} cannot be used")
    if data.get("format") != FORMAT:
        raise UserError(f"{file} has format {data.get('format')!r}, this version reads {FORMAT}")
    try:
        config = Config.from_dict(read_field(data, "config", dict))
        seeds: tuple[dict[str, Any], ...] = read_field(data, "seeds", tuple[dict[str, Any], ...])
        records = [_record_of(file, data, config, seed) for seed in seeds]
        costs = [{name: seed.get(name) for name in ("cpu_minutes", "trained_by")} for seed in seeds]
        facts = {"command": read_field(data, "command", str)}
        return Row(read_field(data, "task", str), facts, records, costs)
    except (KeyError, TypeError, ValueError) as error:  # UserError is a ValueError
        raise UserError(f"{file} is damaged: {error}") from None


def published_returns(row: Row) -> list[float]:
    """Return the returns of a row as the table of tasks holds them: with two decimals, below 10 with three."""
    return [round(value, 2 if abs(value) >= 10 else 3) for value in row.returns]


def _seed_of(record: Record, cost: Mapping[str, Any]) -> dict[str, Any]:
    """Return a seed's part of a row."""
    keep = np.unique(np.linspace(0, len(record.eval_steps) - 1, MAX_EVALUATIONS).round().astype(int))
    steps = record.eval_steps[keep] if len(record.eval_steps) else ()
    means = record.eval_returns[keep] if len(record.eval_steps) else ()
    return {
        "seed": record.seed,
        "step": record.step,
        **cost,
        "evaluations": [[int(step), round(float(mean), _DIGITS)] for step, mean in zip(steps, means, strict=True)],
        "returns": {policy: _rounded(returns) for policy, returns in _score_of(record).returns.items()},
    }


def _record_of(file: Path, data: Mapping[str, Any], config: Config, seed: Mapping[str, Any]) -> Record:
    evaluations = np.array(seed["evaluations"], dtype=float).reshape(-1, 2)
    score = Score(
        data["scored_on"],
        data["package_version"],
        int(seed["step"]),
        int(data["first_game"]),
        seed["returns"],
        data["baselines"],
    )
    return Record(
        path=file.with_suffix("") / f"seed-{seed['seed']}",
        env=str(data["env"]),
        config=config,
        seed=int(seed["seed"]),
        step=score.step,
        eval_steps=evaluations[:, 0],
        eval_returns=evaluations[:, 1],
        eval_games={},
        score=score,
        run=file.with_suffix("") / f"seed-{seed['seed']}",
        label=str(data["task"]),
    )


def _score_of(record: Record) -> Score:
    if record.score is None:
        raise ValueError(f"{record.path} has no score")
    return record.score


def _rounded(returns: Sequence[float]) -> list[float]:
    return [round(value, _DIGITS) for value in returns]


def _without_place(config: Config) -> dict[str, Any]:
    """Return the settings without name, directory and seed."""
    settings = config.to_dict()
    for name in ("name", "dir", "seed"):
        del settings["run"][name]
    return settings
