"""Length of a saved run: whether it is complete, and a change of its `run.total_steps`. Loads no torch."""

import json
import time
from dataclasses import replace
from pathlib import Path

from mappo.config import Config
from mappo.errors import LostError, UserError
from mappo.runs.config_json import read_config_json, read_run_settings
from mappo.runs.lock import lock_directory
from mappo.runs.names import seed_paths
from mappo.runs.scores import read_score
from mappo.runs.steps import checkpoint_paths
from mappo.system.files import write_text


def steps_done(path: Path, config: Config) -> list[int]:
    """Return the step of the last checkpoint of each seed; 0 without a checkpoint."""
    return [max(checkpoint_paths(seed_path), default=0) for seed_path in seed_paths(path, config)]


def is_complete(path: Path, config: Config) -> bool:
    """Return whether all updates of a run are done and scored, by its files; `run.score_episodes` 0 asks for no score.

    Raises:
        UserError: a score is damaged.
    """
    end = config.end_step
    if any(step < end for step in steps_done(path, config)):
        return False
    scores = [read_score(seed_path) for seed_path in seed_paths(path, config)]
    is_scored = all(score is not None and score.step >= end for score in scores)
    return is_scored or (config.run.score_episodes == 0 and (path / "curve.png").exists())


def change_length(path: Path, total_steps: int, is_first: bool = True) -> list[str]:
    """Change `run.total_steps` of a run and of its seeds, in their `config.json`. Return notes for the user.

    The checkpoints stay. Learning rates and the entropy weight are annealed over the new length from now on.

    Args:
        path: run directory.
        total_steps: the new length, at least the steps done.
        is_first: False for a process that waits until the first process of the run has made the change.

    Raises:
        UserError: the run is longer already, or another process trains in it.
        LostError: the first process does not make the change.
    """
    _, config, _ = read_run_settings(path)
    longer = replace(config, run=replace(config.run, total_steps=total_steps))
    done = max(steps_done(path, config))
    if longer.end_step < done:
        raise UserError(f"{path} has done {done:,} steps: --total-steps must be at least that, got {total_steps:,}")
    if not is_first:
        _wait_for(path, total_steps, config.run.lost_after)
        return []
    # The run's own file comes last: a change that was interrupted is made again.
    for directory in dict.fromkeys([*seed_paths(path, config), path]):
        _write(directory, total_steps)
    if total_steps == config.run.total_steps:
        return []
    return [f"{path} goes on from step {done:,} to {total_steps:,}", *_annealing_note(config, longer, done)]


def _write(path: Path, total_steps: int) -> None:
    """Write a run's length into `config.json`, with the first length for the run's id."""
    data = read_config_json(path)
    settings = data["config"]["run"]
    if settings["total_steps"] == total_steps:
        return
    data.setdefault("first_total_steps", settings["total_steps"])
    settings["total_steps"] = total_steps
    with lock_directory(path):
        write_text(path / "config.json", json.dumps(data, indent=2) + "\n")


def _wait_for(path: Path, total_steps: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while read_run_settings(path)[1].run.total_steps != total_steps:
        if time.monotonic() > end:
            raise LostError(f"the first process has not changed the length of {path} within {seconds:g} s")
        time.sleep(0.1)


def _annealing_note(config: Config, longer: Config, done: int) -> list[str]:
    """Return a sentence about annealed settings, which go on at other values."""
    updates = done // config.steps_per_update
    before = config.schedule(updates)
    after = longer.schedule(updates)
    changes = [f"{name} {before[name]:.3g} to {after[name]:.3g}" for name in before if before[name] != after[name]]
    if not changes:
        return []
    return [f"annealed over {longer.run.total_steps:,} steps from now on, so that these change: {', '.join(changes)}"]
