"""What `mappo check` found, and how it is shown. Loads no torch."""

import shutil
from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from mappo.envs.check.rules import Level
from mappo.system.hardware import usable_cores

_POOL_BELOW = 20_000
_COLOURS = {"error": "bold red", "warning": "bold yellow"}


@dataclass
class Violation:
    """A rule that the environment breaks: see `check_rules.RULES`.

    `where` is the environment, agent, episode and step of the first time, and `times` how often it was seen.
    """

    level: Level
    code: str
    where: str
    message: str
    fix: str
    times: int = 1


@dataclass(frozen=True)
class AgentGroup:
    """Agents whose spaces are alike, and these spaces."""

    agents: tuple[str, ...]
    observes: str
    acts: str


@dataclass
class Report:
    """What was found in an environment, and what is wrong with it."""

    name: str
    seed: int
    violations: list[Violation] = field(default_factory=list[Violation])
    agents: tuple[str, ...] = ()
    groups: list[AgentGroup] = field(default_factory=list[AgentGroup])
    state_shape: tuple[int, ...] | None = None
    masks: bool = False
    deaths: bool = False  # someone ended while others went on
    arrivals: bool = False  # someone came after the reset, or again
    shared_reward: bool = False  # as it says itself: all agents are given one number, the team's
    equal_rewards: bool = True  # as it was: at each step, all were given the same number
    paid: bool = False  # someone was given a reward other than 0
    lengths: list[int] = field(default_factory=list[int])  # of the episodes that ended
    endings: Counter[str] = field(default_factory=Counter[str])  # how many were `terminated`, how many `truncated`
    steps: int = 0
    wall_s: float = 0.0  # in the environment, resets included
    cpu_s: float = 0.0

    @property
    def ok(self) -> bool:
        """There is no error; there may be warnings."""
        return not any(v.level == "error" for v in self.violations)

    @property
    def steps_per_second(self) -> float:
        """By the clock."""
        return self.steps / self.wall_s if self.wall_s else 0.0

    @property
    def steps_per_cpu_second(self) -> float:
        """Of one core, whatever else it is busy with."""
        return self.steps / self.cpu_s if self.cpu_s else 0.0


def workers(steps_per_second: float, cores: int) -> int:
    """How many processes should step an environment; 0: none but the one that trains.

    To send actions to another process and observations back costs about as much as a step where there are 20,000 in a
    second: a pool pays below that, with one worker for each core.
    """
    return cores if cores > 1 and 0 < steps_per_second < _POOL_BELOW else 0


def show(report: Report, console: Console | None = None) -> None:
    """Prints a report as a page: what was found, what is wrong and how to mend it, and the verdict."""
    console = console or Console(width=min(100, shutil.get_terminal_size((100, 0)).columns))
    console.print(Rule(Text.assemble("mappo check ", (report.name, "bold")), align="left", style="dim"))
    if report.agents:
        console.print(Padding(_print_facts(report), (1, 0, 0, 2)))
    for violation in sorted(report.violations, key=lambda v: v.level):  # errors first
        console.print(Padding(_describe(violation), (1, 0, 0, 2)))
    console.print(Padding(_verdict(report), (1, 0, 1, 2)))


def _print_facts(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    rows = [("agents", f"{len(report.agents)}: {_names(report.agents)}")]
    for i, group in enumerate(report.groups):
        label = f"group {i + 1}" if len(report.groups) > 1 else "each"
        who = f"{_names(group.agents)}: " if len(report.groups) > 1 else ""
        rows += [(label, f"{who}observes {group.observes}, acts in {group.acts}")]
    state = "none: the critic reads all observations side by side"
    rows += [("state", f"{report.state_shape}" if report.state_shape is not None else state)]
    rows += [("masks", "yes" if report.masks else "no")]
    moves = [what for what, seen in (("some die early", report.deaths), ("some arrive late", report.arrivals)) if seen]
    rows += [("lives", " and ".join(moves) or "all are there from the reset to the end"), ("reward", _reward(report))]
    if report.lengths:
        low, high, mean = min(report.lengths), max(report.lengths), sum(report.lengths) / len(report.lengths)
        span = f"{low:,}" if low == high else f"{low:,} to {high:,} (mean {mean:,.0f})"
        rows += [("episodes", f"{span} steps; " + ", ".join(f"{n} {how}" for how, n in report.endings.items()))]
    if report.steps:
        speed, count = report.steps_per_cpu_second, usable_cores()
        number = workers(speed, count)
        why = f"one for each core: a pool pays below {_POOL_BELOW:,} steps in a CPU second"
        if not number:
            why = "there is one core" if count == 1 else "another process would cost more than it saves"
        rows += [("speed", f"{speed:,.0f} steps in a CPU second, {report.steps_per_second:,.0f} by the clock")]
        rows += [("workers", f"{number} ({why})")]
    for label, text in rows:
        table.add_row(label, Text(text))
    return table


def _reward(report: Report) -> str:
    if report.shared_reward:
        return "one number for all, counted once (shared_reward)"
    if report.equal_rewards and report.paid and len(report.agents) > 1:
        return "the same for all at each step, and counted for each: shared_reward = True counts it once"
    return "each agent's own; the team's is their sum"


def _describe(violation: Violation) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, width=7)
    table.add_column(overflow="fold")
    often = f", seen {violation.times:,} times" if violation.times > 1 else ""
    head = Text.assemble((violation.code, "bold"), (f"  {violation.where}{often}", "dim"))
    table.add_row(Text(violation.level, _COLOURS[violation.level]), head)
    table.add_row("", Text(violation.message))
    table.add_row("", Text.assemble(("fix: ", "green"), violation.fix))
    return table


def _verdict(report: Report) -> Text:
    count = Counter(v.level for v in report.violations)
    told = ", ".join(f"{count[level]} {level}{'s' if count[level] != 1 else ''}" for level in _COLOURS)
    if not report.ok:
        return Text.assemble((told, "bold red"), ": mend the errors before you train")
    return Text.assemble((told, "bold green"), ": ready to train")


def _names(agents: tuple[str, ...]) -> str:
    return ", ".join(agents if len(agents) <= 6 else (*agents[:3], "...", agents[-1]))
