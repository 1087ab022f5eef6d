"""The end of a training: score, replay and page of a complete run, and the command for all that a stop left out."""

import time
from pathlib import Path
from typing import Any

from mappo.cli.results import make_pictures, show_result, track_rest
from mappo.cli.scoring import Scored, score_complete
from mappo.cli.signals import DONE, STOPPED, Signals, Stopped
from mappo.config import Config
from mappo.core.user_code import allow_flag
from mappo.runs.length import is_complete
from mappo.runs.names import seed_paths
from mappo.runs.steps import checkpoint_paths
from mappo.system.files import shell_path
from mappo.system.shutdown import CloseLimit
from mappo.system.stdio import say


def end_training(run: Any, scored: Scored | None, signals: Signals, started: float, program: str) -> int:
    """Show how a training ended, and the score if the run is complete in time; return the exit code.

    Args:
        run: the `Run`.
        scored: score by several processes, if there is one.
        signals: what has stopped the run.
        started: `time.monotonic()` at the start of the training.
        program: the word to type for `mappo`.
    """
    caught = signals.caught
    if not run.finished:
        say(f"Stopped at step {run.step:,}{signals.reason} and saved.  {_go_on(run, program)}")
        return 128 + caught if caught else STOPPED
    if caught:
        _say_missing(run, "stopped", program)
        return 128 + caught
    if scored is not None or not has_no_time_left(run, started, bool(signals.warned), program):
        complete(run, scored, signals.close_limit, program)
    return DONE


def has_no_time_left(run: Any, started: float, is_warned: bool, program: str) -> bool:
    """Return whether a complete run must not be scored any more; say so.

    Args:
        run: a complete `Run`.
        started: `time.monotonic()` at the start of the training.
        is_warned: a signal has announced the end of the job.
        program: the word to type for `mappo`.
    """
    limit = run.config.run.time_limit
    is_over = limit is not None and time.monotonic() - started >= 60 * limit
    if is_over or is_warned:
        _say_missing(run, "run.time-limit is over" if is_over else "the job is about to end", program)
    return is_over or is_warned


def complete(run: Any, scored: Scored | None, close_limit: CloseLimit, program: str) -> None:
    """Score a complete run, unless `scored` is its score, and show all results.

    Raises:
        Stopped: by a signal; the command that makes the missing results was printed.
    """
    try:
        show_result(run, scored or score_complete(run, close_limit), close_limit, program)
        track_rest(run.path, run.config)
    except Stopped:
        _say_missing(run, "stopped", program)
        raise


def make_missing(path: Path, config: Config, close_limit: CloseLimit) -> None:
    """Draw the replay, and write the page, of a scored run if a stop left them out; send the rest to its trackers."""
    if missing := missing_results(path, config):
        from mappo.training.run import load_run

        say(f"{path} lacks its {' and '.join(missing)}; trying again")
        make_pictures(load_run(path, allow_code=True), close_limit)
    track_rest(path.absolute(), config)


def missing_results(path: Path, config: Config) -> list[str]:
    """Return which of score, replay and report a complete run lacks. Files of a shorter run do not count."""
    checkpoints = [found for seed_path in seed_paths(path, config) for found in checkpoint_paths(seed_path).values()]
    trained_at = max((checkpoint.stat().st_mtime for checkpoint in checkpoints), default=0.0)
    missing = [] if is_complete(path, config) else ["score"]
    pages = {"replay": path / "replay.gif", "report": path / "report.html"}
    if config.run.replay_episodes == 0:
        del pages["replay"]
    return missing + [name for name, file in pages.items() if not file.exists() or file.stat().st_mtime < trained_at]


def _say_missing(run: Any, reason: str, program: str) -> None:
    """Say which results of a complete run are missing, and why."""
    *others, last = missing_results(run.path, run.config) or ["pictures in its trackers"]
    names = f"{', '.join(others)} and {last}" if others else last
    say(f"Finished and saved in {run.path}, without its {names}: {reason}.  {_go_on(run, program)}")


def _go_on(run: Any, program: str) -> str:
    return f"Go on with:  {program} resume {shell_path(run.path)}{allow_flag(run.env, *run.config.named_code)}"
