"""Output of the commands at their end: scores, files and the next commands to type."""

import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mappo.cli.scoring import Scored, note_progress, twin_package
from mappo.config import Config
from mappo.core.user_code import allow_flag
from mappo.errors import UserError
from mappo.evaluation.number_format import return_format
from mappo.evaluation.options import REPLAY_EPISODES, REPLAY_SECONDS, ReplayOptions
from mappo.runs.names import seed_paths
from mappo.system.files import shell_path
from mappo.system.safe_read import printable
from mappo.system.shutdown import CloseLimit
from mappo.system.stdio import say

# Episodes for a closer score than that at the end of a run.
CLOSER = 2000


def program_name() -> str:
    """Return the word to type for `mappo`: its path if a shell would not find the name."""
    program = Path(sys.argv[0])
    if program.name != "mappo" or shutil.which("mappo") is not None or not program.exists():
        return "mappo"
    relative = os.path.relpath(program)
    return shell_path(Path(relative) if not relative.startswith("..") else program)


def show_result(run: Any, scored: Scored | None, close_limit: CloseLimit, program: str) -> None:
    """Print the score of a run, draw a replay, and print both with the next commands.

    Args:
        run: a complete `Run`.
        scored: result of `score_complete`.
        close_limit: context for closing environments.
        program: the word to type for `mappo`.
    """
    package = twin_package(run) if scored is None else scored.package
    episodes = CLOSER if scored is None else _show_score(run, scored, program)
    replay, page = make_pictures(run, close_limit)
    metrics = run.path / ("metrics.csv" if run.config.run.seeds == 1 else "seed-*/metrics.csv")
    files = {"learning curve": run.path / "curve.png", "replay": replay, "numbers": metrics, "report": page}
    print()
    for label, path in files.items():
        if path is not None:
            print(f"  {label:<15} {path}")
    print("\nNext:")
    path = shell_path(run.path) + allow_flag(run.env, run.config.network.encoder)  # the learner plays no part
    print(f"  {program} evaluate {path}{f' --on {package}' if package else ''} --episodes {episodes}")
    if replay is not None:
        print(f"  {program} play {path} --seed 7")
    print(f"  {program} report {shell_path(run.path)}")
    print(f"  {program.removesuffix('mappo')}tensorboard --logdir {shell_path(run.path.parent)}")


def make_pictures(run: Any, close_limit: CloseLimit) -> tuple[Path | None, Path | None]:
    """Draw the replay, and write the page, of a complete run; return both files, None for a file without success."""
    from mappo.experiments.report.report import report_at_end

    replay, no_replay = _draw_replay(run, close_limit)
    return replay, report_at_end(run.path, no_replay)


def track_rest(path: Path, config: Config) -> None:
    """Send what a complete run has not sent so far, such as its replay, to its trackers (`run.track`)."""
    from mappo.runs.trackers.processes import TrackerProcesses

    if config.run.track:  # an environment may have removed the current folder
        with TrackerProcesses(config.run.track, path, seed_paths(path, config), Path.cwd()):
            pass


def _draw_replay(run: Any, close_limit: CloseLimit) -> tuple[Path | None, str]:
    """Draw the replay at the end of a run; return the file, None without a replay, and why none could be drawn."""
    from mappo.evaluation.score_run import draw_replay

    settings = run.config.run
    if settings.replay_episodes == 0:
        return None, ""
    print(f"Drawing a replay, {settings.eval_policy} policy ...")
    try:
        path = draw_replay(
            run.path,
            ReplayOptions(episodes=settings.replay_episodes or REPLAY_EPISODES, allow_code=True),
            close_limit=close_limit,
            on_step=_progress(run, "replay"),
            budget_s=REPLAY_SECONDS if settings.replay_episodes is None else math.inf,
        )
    except UserError as error:
        say(f"no replay: {error}")
        return None, str(error)
    return path, ""


def _progress(run: Any, work: str) -> Callable[[float], None] | None:
    """Return a callback for each step that prints the progress of the work, unless run.progress is off."""
    from mappo.evaluation.progress import progress_notes

    return None if run.config.run.progress == "off" else progress_notes(work, note_progress)


def _show_score(run: Any, scored: Scored, program: str) -> int:
    """Print a score and draw it into the curve; return the number of episodes for a closer score."""
    from mappo.training.summary import draw_scored_curve

    result = scored.result
    print_score(result)
    draw_scored_curve(run, result)
    if result["episodes"] == scored.episodes:
        return CLOSER
    say(
        f"Episodes are long, {result['episode_length']:,.0f} steps: {result['episodes']} were scored in place of "
        f"{scored.episodes}. For more: {program} evaluate, or --run.score-episodes."
    )
    return scored.episodes


def print_score(result: dict[str, Any]) -> None:
    """Print the scores of a policy and of its baselines as a table.

    Args:
        result: see `evaluate_run`.
    """
    from rich.console import Console
    from rich.table import Table

    title = f"{result['env']} ({result['package_version']}), {result['episodes']:,} episodes"
    num_seeds = len(result.get("by_policy", [0]))
    name = result["checkpoint"]
    checkpoint = f"step {int(name):,} checkpoint" if name.isdecimal() else f"{name} checkpoint"
    say(f"\n{printable(title)}, {checkpoint}; the team's return:")
    if num_seeds > 1:
        say(f"(intervals of the run are over its {num_seeds} seeds, those of the baselines over episodes)")
    table = Table()
    table.add_column("policy", no_wrap=True)
    for column in ("mean return", "95 % interval", f"{result['policy']} is ahead by"):
        table.add_column(column, justify="right", no_wrap=column == "mean return")  # the others break at a space
    scores = {f"run ({policy})": score["return_sum"] for policy, score in sorted(result["scores"].items())}
    scores |= result["baselines"]
    number = return_format(*(score["mean"] for score in scores.values()))
    for name, score in scores.items():
        ahead = ""
        if "difference" in score:
            difference = score["difference"]
            interval = _interval(difference, f"+{number}")
            ahead = format(difference["mean"], f"+{number}") + (f"  ({interval})" if interval else "")
        table.add_row(name, format(score["mean"], number), _interval(score, number), ahead)
    Console().print(table)


def _interval(score: dict[str, Any], number: str) -> str:
    """Format the interval of a mean; a single value has none."""
    return "" if score["ci95"] is None else " to ".join(format(bound, number) for bound in score["ci95"])
