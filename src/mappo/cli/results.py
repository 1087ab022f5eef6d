"""What commands print at their end."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from mappo.config.presets import TWINS
from mappo.envs import is_code
from mappo.errors import UserError
from mappo.system.safe_read import printable


def program_name() -> str:
    """What to type for `mappo` here: its path, where a shell would not find it by its name."""
    program = Path(sys.argv[0])
    if program.name != "mappo" or shutil.which("mappo") is not None or not program.exists():
        return "mappo"
    near = os.path.relpath(program)
    return shlex.quote(near if not near.startswith("..") else str(program))


def show_result(run: Any) -> None:
    """The score, the pictures, and what to type next."""
    from mappo.evaluation.score_run import draw_replay

    package = TWINS[run.env].partition("/")[0] if run.env in TWINS else None
    try:
        print(f"\nScoring 320 games{f' on the {package} package itself (may take minutes)' if package else ''} ...")
        result = run.evaluate(on=package)
    except UserError as error:
        if package is None:
            raise UserError(f"the run is complete, in {run.path}; it could not be scored: {error}") from error
        # The package is not installed: the batched twin gives the same numbers.
        print(f"mappo: {error}; scoring on the built-in {run.env}", file=sys.stderr)
        package, result = None, run.evaluate()
    print_score(result)
    lines, drawn = [("learning curve", run.path / "curve.png")], True
    try:
        lines.append(("replay", draw_replay(run.path, allow_code=True)))
    except UserError as error:
        drawn = False
        print(f"no replay: {error}")
    lines.append(("numbers", run.path / ("metrics.csv" if run.config.run.seeds == 1 else "seed-*/metrics.csv")))
    print()
    for label, path in lines:
        print(f"  {label:<15} {path}")
    print("\nNext:")
    program, path = program_name(), shlex.quote(str(run.path)) + (" --allow-code" if is_code(run.env) else "")
    print(f"  {program} evaluate {path}{f' --on {package}' if package else ''} --episodes 2000")
    if drawn:
        print(f"  {program} play {path} --seed 7")
    print(f"  {program.removesuffix('mappo')}tensorboard --logdir {shlex.quote(str(run.path.parent))}")


def print_score(result: dict[str, Any]) -> None:
    """Print the scores of a policy and of its baselines as a table."""
    from rich.console import Console
    from rich.table import Table

    what = f"{result['env']} ({result['package_version']}), {result['episodes']:,} games"
    seeds = f"; {len(result['by_policy'])} seeds, its intervals over them" if "by_policy" in result else ""
    print(
        f"\n{printable(what)}, {result['policy']} policy, {result['checkpoint']} checkpoint; the team's return{seeds}:"
    )
    table = Table()
    table.add_column("policy")
    for column in ("mean return", "95 % interval", "this run is ahead by"):
        table.add_column(column, justify="right")
    rows = {"this run": result["return_sum"], **result["baselines"]}
    digits = 1 if max(abs(s["mean"]) for s in rows.values()) >= 10 else 3
    for name, s in rows.items():
        low, high = s["ci95"]
        ahead = "difference" in s and "{:+.{n}f}  ({:+.{n}f} to {:+.{n}f})".format(
            s["difference"]["mean"], *s["difference"]["ci95"], n=digits
        )
        table.add_row(name, f"{s['mean']:.{digits}f}", f"{low:.{digits}f} to {high:.{digits}f}", ahead or "")
    Console().print(table)
