"""Trainings of a task, a run for each seed, and their scores. A repetition goes on where it was stopped."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mappo import envs
from mappo.config import Config
from mappo.config.bounds import read_field
from mappo.config.tasks import Task
from mappo.envs.names import find_family, require_package
from mappo.errors import StopTraining
from mappo.evaluation.options import EvaluateOptions
from mappo.evaluation.progress import progress_notes
from mappo.evaluation.score_run import evaluate_run
from mappo.experiments.compare.finding import FoundRun
from mappo.experiments.compare.record import Record, read_record
from mappo.experiments.reproduce.row import Row, describe_training, write_row
from mappo.experiments.sweep.trial_files import cpu_seconds
from mappo.runs.config_json import RESUMABLE_SETTINGS, read_json, read_run_settings
from mappo.runs.length import steps_done
from mappo.system.files import write_text
from mappo.system.shutdown import Interrupts
from mappo.training.run import load_run
from mappo.training.train import train

Note = Callable[[str], None]


def repeat_task(task: Task, seeds: int, folder: Path, interrupts: Interrupts, note: Note) -> Row | None:
    """Train and score the seeds 1 to `seeds` of a task, and write the row of the finished seeds after each.

    Args:
        task: the task.
        seeds: number of seeds.
        folder: folder of the runs and of `row.json`.
        interrupts: interruptions; a stopped repetition goes on when this function is called again.
        note: shows a line.

    Returns:
        The row of all seeds; None if the repetition was stopped.

    Raises:
        UserError: a package is missing, or a run in the folder has other settings or is damaged.
    """
    _check_packages(task)
    row: Row | None = None
    for seed in range(1, seeds + 1):
        path = folder / f"seed-{seed}"
        try:
            if not _train(task, seed, path, interrupts):
                return None
            _score(task, path, interrupts, note)
        except StopTraining:
            return None
        row = _make_row(task, folder, seed, seeds)
        write_row(folder / "row.json", row)
        note(f"seed {seed} of {task.name}: return {row.returns[-1]:.3f}")
    return row


def _check_packages(task: Task) -> None:
    """Raise `UserError`, before any training, if a package of the task is missing."""
    names = [task.env] if task.package is None else [task.env, envs.original_name(task.env, task.package)]
    for found in filter(None, map(find_family, names)):
        require_package(found[0])


def _train(task: Task, seed: int, path: Path, interrupts: Interrupts) -> bool:
    """Train a seed to the end, unless it is trained; return False if the training was stopped."""
    config = _seed_config(task, seed, path)
    if (path / "config.json").exists():
        _, saved, _ = read_run_settings(path)
        if steps_done(path, saved)[0] >= saved.end_step and not saved.differences(config, RESUMABLE_SETTINGS):
            return True  # where the settings differ, `train` names them
    _record_training(path)
    return train(task.env, config, stop=interrupts).finished


def _seed_config(task: Task, seed: int, path: Path) -> Config:
    run = replace(task.config.run, seed=seed, dir=str(path), exists="resume")
    return replace(task.config, run=run)


def _training_file(path: Path) -> Path:
    """Return the file beside a run with the sources and machines of its training."""
    return path.with_name(f"{path.name}.json")


def _record_training(path: Path) -> None:
    """Add the present sources and machine to those of the run, if they are others."""
    known = _trained_by(path)
    now = describe_training()
    if now not in known:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(_training_file(path), json.dumps({"trained_by": [*known, now]}, indent=2) + "\n")


def _trained_by(path: Path) -> list[Any]:
    file = _training_file(path)
    if not file.exists():
        return []
    return [*read_field(read_json(file, f"{file} cannot be used"), "trained_by", tuple[dict[str, Any], ...])]


def _score(task: Task, path: Path, interrupts: Interrupts, note: Note) -> None:
    """Score a complete run on the original package, unless it is scored."""
    record = _record(path)
    score = record.score
    env = task.env if task.package is None else envs.original_name(task.env, task.package)
    if score is not None and record.final_returns and score.env == env and score.num_episodes >= task.episodes:
        return
    note(f"scoring {path.name} of {task.name} over {task.episodes:,} games of {env} (may take minutes)")
    options = EvaluateOptions(task.episodes, task.package, sampled=task.policy == "sampled")
    on_step = progress_notes("score", note, interrupts)
    evaluate_run(path, options, close_limit=interrupts.close_limit, on_step=on_step)


def _record(path: Path) -> Record:
    env, config, _ = read_run_settings(path)
    return read_record(FoundRun(path, env, config), config.run.seed, path)


def _make_row(task: Task, folder: Path, done: int, seeds: int) -> Row:
    paths = [folder / f"seed-{seed}" for seed in range(1, done + 1)]
    costs = [
        {"cpu_minutes": round(cpu_seconds(load_run(path)) / 60, 2), "trained_by": _trained_by(path)} for path in paths
    ]
    return Row(task.name, {"command": f"mappo reproduce {task.name} --seeds {seeds}"}, list(map(_record, paths)), costs)
