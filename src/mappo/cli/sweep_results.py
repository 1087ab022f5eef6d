"""The command `mappo sweep`, and its output at the end: the best trials, the files, and the next commands to type."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mappo.cli.commands import Sweep
from mappo.cli.results import program_name
from mappo.cli.scoring import note_progress
from mappo.cli.signals import DONE, STOPPED, USER_ERROR, Signals
from mappo.core.user_code import check_code
from mappo.evaluation.number_format import format_return
from mappo.experiments.sweep.results import SweepResults
from mappo.experiments.sweep.run import make_plan, run_sweep
from mappo.system import hardware
from mappo.system.files import shell_path
from mappo.system.safe_read import printable
from mappo.system.shutdown import CloseLimit
from mappo.system.stdio import say

_ROWS = 10


def sweep_and_show(command: Sweep, close_limit: CloseLimit) -> int:
    """Run the trials of a sweep until it is complete or stopped, and show the results; return the exit code."""
    hardware.keep_freed_memory()
    plan = make_plan(command.env, command.space, command.config, command)
    names = [x for setting in plan.space if setting.names_code for x in setting.choices.values()]
    check_code(names, command.allow_code, command.space)
    is_quiet = command.config.run.progress == "off"
    with Signals(close_limit) as signals:
        results = run_sweep(plan, signals, (lambda _: None) if is_quiet else note_progress)
    print_results(results, program_name())
    if results.is_finished:
        return DONE if results.ranking else USER_ERROR
    print(f"\nStopped{signals.reason}; the same command goes on.")
    return 128 + signals.caught if signals.caught else STOPPED


def print_results(results: SweepResults, program: str) -> None:
    """Print the best trials, the files and the next commands.

    Args:
        results: the results so far.
        program: the word to type for `mappo`.
    """
    plan = results.plan
    say(f"\nsweep {plan.options.study} of {plan.env}, {plan.num_trials} trials: {results.describe_counts()}")
    ranking = results.ranking
    if not ranking:
        errors = [f" Trial {trial.number} failed: {trial.error}" for trial in results.trials if trial.error]
        say("No trial is complete." + printable("".join(errors[-1:])))
        return
    over = f"{plan.base.run.seeds} seeds" if plan.base.run.seeds > 1 else "episodes"
    scores = f" Scores are of other episodes, with 95 % intervals over {over}."
    say(f"Ordered by eval_return, the objective.{'' if ranking[0].score is None else scores}")
    Console().print(_table(results))
    say("+ no other trial is both better and cheaper (Pareto front of score and CPU-seconds)\n")
    for label, name in (("all trials", "trials.csv"), ("picture", "trials.png"), ("best settings", "best.json")):
        print(f"  {label:<15} {plan.folder / name}")
    best = shell_path(plan.folder / "best.json")
    seed = plan.base.run.all_seeds.stop
    say("\nThe best of many trials was also lucky. Train its settings again, with other seeds:")
    print(f"  {program} train {plan.env} --config {best} --run.seed {seed} --run.seeds 5")


def _table(results: SweepResults) -> Table:
    """Return the table of the best trials."""
    table = Table()
    for title in ("trial", "eval return", "score, interval", "CPU-s", ""):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("settings")
    for trial in results.ranking[:_ROWS]:
        cost = "" if trial.cpu_s is None else f"{trial.cpu_s:,.0f}"
        values = printable(results.plan.describe_values(trial.values), keep="")
        figures = (str(trial.number), format_return(trial.eval_return or 0.0), trial.score_text, cost)
        table.add_row(*figures, "+" * trial.is_efficient, Text(values))
    return table
