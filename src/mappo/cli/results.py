"""Output of the commands at their end: scores, files and the next commands to type."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from mappo.config.presets import TWINS
from mappo.envs import is_code
from mappo.errors import UserError
from mappo.evaluation.options import EvaluateOptions
from mappo.system.files import shell_path
from mappo.system.safe_read import printable
from mappo.system.shutdown import CloseLimit


def program_name() -> str:
    """Return the word to type for `mappo`: its path if a shell would not find the name."""
    program = Path(sys.argv[0])
    if program.name != "mappo" or shutil.which("mappo") is not None or not program.exists():
        return "mappo"
    relative = os.path.relpath(program)
    return shell_path(Path(relative) if not relative.startswith("..") else program)


def show_result(run: Any, close_limit: CloseLimit) -> None:
    """Score a run, draw a replay, and print both with the next commands.

    Args:
        run: a complete `Run`.
        close_limit: context for closing environments.
    """
    from mappo.evaluation.score_run import draw_replay

    package = _score(run, close_limit)
    files = [("learning curve", run.path / "curve.png")]
    has_replay = True
    try:
        files.append(("replay", draw_replay(run.path, allow_code=True, close_limit=close_limit)))
    except UserError as error:
        has_replay = False
        print(f"no replay: {error}")
    files.append(("numbers", run.path / ("metrics.csv" if run.config.run.seeds == 1 else "seed-*/metrics.csv")))
    print()
    for label, path in files:
        print(f"  {label:<15} {path}")
    print("\nNext:")
    program = program_name()
    path = shell_path(run.path) + (" --allow-code" if is_code(run.env) else "")
    print(f"  {program} evaluate {path}{f' --on {package}' if package else ''} --episodes 2000")
    if has_replay:
        print(f"  {program} play {path} --seed 7")
    print(f"  {program.removesuffix('mappo')}tensorboard --logdir {shell_path(run.path.parent)}")


def _score(run: Any, close_limit: CloseLimit) -> str | None:
    """Score a run, on the original package if known, and print the score; return the package used."""
    from mappo.evaluation.score_run import evaluate_run

    package = TWINS[run.env].partition("/")[0] if run.env in TWINS else None
    options = EvaluateOptions(on=package, allow_code=True)
    where = f" on the {package} package itself (may take minutes)" if package else ""
    print(f"\nScoring {options.episodes} episodes{where} ...")
    try:
        result = evaluate_run(run.path, options, close_limit=close_limit)
    except UserError as error:
        if package is None:
            raise UserError(f"the run is complete, in {run.path}; it could not be scored: {error}") from error
        # The package is not installed: the built-in environment gives the same numbers.
        print(f"mappo: {error}; scoring on the built-in {run.env}", file=sys.stderr)
        package = None
        result = evaluate_run(run.path, EvaluateOptions(allow_code=True), close_limit=close_limit)
    print_score(result)
    return package


def print_score(result: dict[str, Any]) -> None:
    """Print the scores of a policy and of its baselines as a table.

    Args:
        result: see `evaluate_run`.
    """
    from rich.console import Console
    from rich.table import Table

    title = f"{result['env']} ({result['package_version']}), {result['episodes']:,} episodes"
    seeds = f"; {len(result['by_policy'])} seeds, its intervals over them" if "by_policy" in result else ""
    print(
        f"\n{printable(title)}, {result['policy']} policy, {result['checkpoint']} checkpoint; the team's return{seeds}:"
    )
    table = Table()
    table.add_column("policy")
    for column in ("mean return", "95 % interval", "this run is ahead by"):
        table.add_column(column, justify="right")
    scores = {"this run": result["return_sum"], **result["baselines"]}
    digits = 1 if max(abs(score["mean"]) for score in scores.values()) >= 10 else 3
    for name, score in scores.items():
        low, high = score["ci95"]
        ahead = ""
        if "difference" in score:
            difference = score["difference"]
            ahead = "{:+.{n}f}  ({:+.{n}f} to {:+.{n}f})".format(difference["mean"], *difference["ci95"], n=digits)
        table.add_row(name, f"{score['mean']:.{digits}f}", f"{low:.{digits}f} to {high:.{digits}f}", ahead)
    Console().print(table)
