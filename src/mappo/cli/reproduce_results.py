"""`mappo reproduce`: the list of tasks, the trainings of a task, and the verdict."""

import textwrap
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mappo.cli.commands import Reproduce
from mappo.cli.results import program_name
from mappo.cli.scoring import note_progress
from mappo.cli.signals import DONE, STOPPED, Signals
from mappo.config.tasks import TASKS, Peer, Task, find_task
from mappo.evaluation.number_format import format_return
from mappo.experiments.reproduce.verdict import Interval, Verdict, judge
from mappo.system import hardware
from mappo.system.shutdown import CloseLimit
from mappo.system.stdio import say, terminal_width


def list_or_reproduce(command: Reproduce, close_limit: CloseLimit) -> int:
    """Print the list of tasks, or train a task and print the verdict; return the exit code."""
    if not command.list and command.task is not None:
        return _reproduce(find_task(command.task), command.seeds, close_limit)
    _list_tasks([find_task(command.task)] if command.task else [*TASKS.values()])
    return DONE


def _list_tasks(tasks: list[Task]) -> None:
    """Print the returns published here, and below them those of others."""
    rows = [row for task in tasks for row in (_task_row(task), *map(_peer_row, task.peers))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    commands = {task.name: _ours(task) for task in tasks}
    for name, value, steps in [("task", "return", "steps"), *rows]:
        print(f"{name:<{widths[0]}}  {value:>{widths[1]}}  {steps:>{widths[2]}}")
        if name in commands:
            print(textwrap.fill(commands[name], terminal_width(), initial_indent="    ", subsequent_indent="    "))
    say("\nReturns are the team's. Intervals are 95 %, over seeds. CPU-minutes are of a seed, on an AMD EPYC (Zen 5).")
    for line in _sources(tasks):
        print(textwrap.fill(line, terminal_width(), subsequent_indent="  "))


def _reproduce(task: Task, seeds: int, close_limit: CloseLimit) -> int:
    from mappo.experiments.reproduce.run import repeat_task

    hardware.keep_freed_memory()
    folder = Path("runs", "reproduce", task.name)
    say(f"{task.name}: {_count(seeds, 'training')} of {task.steps:,} steps, in {folder}")
    with Signals(close_limit) as signals:
        row = repeat_task(task, seeds, folder, signals, note_progress)
    if row is None:
        say(f"Stopped{signals.reason} and saved.  Go on with:  {program_name()} reproduce {task.name} --seeds {seeds}")
        return 128 + signals.caught if signals.caught else STOPPED
    say(f"\n{task.name}, {task.policy} actions, {row.num_games:,} games of each seed; the team's return:")
    _print_verdict(task, row.returns, judge(row.returns, task.returns))
    print(f"\n  {'row':<15} {folder / 'row.json'}")
    return DONE


def _print_verdict(task: Task, returns: list[float], verdict: Verdict) -> None:
    """Print the returns of the seeds, beside the published returns and those of others."""
    table = Table()
    for title in ("", "return", "95 % interval", "seeds"):
        table.add_column(title, justify="right" if title else "left", no_wrap=bool(title))
    for seed, value in enumerate(returns, start=1):
        table.add_row(f"seed {seed}", format_return(value), "", "")
    table.add_row("mean", format_return(verdict.mean), _interval(verdict.interval), str(len(returns)))
    if verdict.published is not None:
        interval = _interval(verdict.published_interval)
        table.add_row("published", format_return(verdict.published), interval, str(len(task.returns)))
    for peer in task.peers:
        table.add_row(f"{_name(peer)}, {peer.steps:,} steps", format_return(peer.value), "", "")
    Console(highlight=False).print(table)
    say(f"Verdict: {verdict.word} ({verdict.meaning}).")


def _task_row(task: Task) -> tuple[str, str, str]:
    return task.name, _published(task), f"{task.steps:,}"


def _peer_row(peer: Peer) -> tuple[str, str, str]:
    return f"  {_name(peer)}", format_return(peer.value), f"{peer.steps:,}"


def _name(peer: Peer) -> str:
    return peer.name + ("" if peer.mark == "V" else " (unverified)")


def _published(task: Task) -> str:
    if not task.returns:
        return "-"
    verdict = judge(task.returns, task.returns)
    return format_return(verdict.mean) + (f" ({_interval(verdict.interval)})" if verdict.interval else "")


def _ours(task: Task) -> str:
    preset = f"mappo train {task.env}" + ("" if task.preset == "default" else f" --preset {task.preset}")
    settings = "".join(f", {name} {value}" for name, value in task.settings.items() if name != "run.total_steps")
    seeds = f"; {_count(len(task.returns), 'seed')}, {task.policy}" if task.returns else "; not measured"
    minutes = f", {task.cpu_minutes:g} CPU-minutes" if task.cpu_minutes is not None else ""
    return f"{preset}{settings}{seeds}{minutes}"


def _sources(tasks: list[Task]) -> list[str]:
    """Return a line for each source of the numbers of others, with its mark and conversion."""
    lines: dict[str, None] = {}
    for peer in (peer for task in tasks for peer in task.peers):
        lines[f"{peer.name.partition(' ')[0]}: {peer.describe_source()}"] = None
    return [*lines]


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else " to ".join(map(format_return, interval))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
