"""The report of `mappo check`, and its page on the terminal. Loads no torch."""

import shutil
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gymnasium import spaces
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from mappo.envs.vector.api_rules import Level
from mappo.system.hardware import usable_cores

_MAX_POOL_SPEED = 20_000  # steps in a CPU second; a pool pays below
# Yellow can hardly be read on a white terminal.
_COLOURS = {"error": "bold red", "warning": "bold magenta"}


@dataclass
class Violation:
    """A broken rule of `RULES`.

    `where` is the environment, agent, episode and step of the first time; `times` is the number of times.
    """

    level: Level
    code: str
    where: str
    message: str
    fix: str
    times: int = 1


@dataclass(frozen=True)
class AgentGroup:
    """Agents with equal spaces, and these spaces as text."""

    agents: tuple[str, ...]
    observes: str
    acts: str


@dataclass
class Report:
    """Facts about an environment, and the broken rules."""

    name: str
    seed: int
    violations: list[Violation] = field(default_factory=list[Violation])
    agents: tuple[str, ...] = ()
    groups: list[AgentGroup] = field(default_factory=list[AgentGroup])
    state_shape: tuple[int, ...] | None = None
    masks: bool = False
    deaths: bool = False  # an agent ended while others went on
    arrivals: bool = False  # an agent came after the reset, or again
    shared_reward: bool = False  # declared by the environment: all agents receive the team's reward
    equal_rewards: bool = True  # observed: at each step, all agents received the same reward
    paid: bool = False  # some reward was not 0
    lengths: list[int] = field(default_factory=list[int])  # steps of each finished episode
    endings: Counter[str] = field(default_factory=Counter[str])  # number of episodes `terminated` and `truncated`
    steps: int = 0
    wall_s: float = 0.0  # time in the environment, resets included
    cpu_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Return True if there is no error; there may be warnings."""
        return not any(v.level == "error" for v in self.violations)

    @property
    def steps_per_second(self) -> float:
        """Return steps in a second of the clock."""
        return self.steps / self.wall_s if self.wall_s else 0.0

    @property
    def steps_per_cpu_second(self) -> float:
        """Return steps in a second of a core's work, however busy the core is."""
        return self.steps / self.cpu_s if self.cpu_s else 0.0


def workers(steps_per_second: float, cores: int) -> int:
    """Return the best number of worker processes for an environment; 0 for the learner's process alone.

    Sending actions to another process and observations back costs about as much as a step at 20,000 steps in a
    second. A pool pays below this speed, with a worker for each core.
    """
    return cores if cores > 1 and 0 < steps_per_second < _MAX_POOL_SPEED else 0


def space_text(space: spaces.Space[Any]) -> str:
    """Return a space in few words."""
    text = " ".join(str(space).split())
    if len(text) > 60 and isinstance(space, spaces.Box):  # bounds for each number would fill the page
        return f"Box({space.low.min():g} to {space.high.max():g}, {space.shape}, {space.dtype})"
    return text


def show(report: Report, console: Console | None = None) -> None:
    """Print a report as a page: the facts, the broken rules with their fixes, and the verdict."""
    console = console or Console(width=min(100, shutil.get_terminal_size((100, 0)).columns))
    console.print(Rule(Text.assemble("mappo check ", (report.name, "bold")), align="left", style="dim"))
    if report.agents:
        console.print(Padding(facts_table(report), (1, 0, 0, 2)))
    for violation in sorted(report.violations, key=lambda v: v.level):  # errors first
        console.print(Padding(_violation_table(violation), (1, 0, 0, 2)))
    console.print(Padding(_verdict(report), (1, 0, 1, 2)))


def facts_table(report: Report) -> Table:
    """Return the facts about the environment, a row each."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    state = "none: the critic reads all observations side by side"
    if report.state_shape is not None:
        state = str(report.state_shape)
    rows = [
        ("agents", f"{len(report.agents)}: {_names(report.agents)}"),
        *_group_rows(report.groups),
        ("state", state),
        ("masks", "yes" if report.masks else "no"),
        ("lives", _lives(report)),
        ("reward", _reward(report)),
        *_episode_rows(report),
        *_speed_rows(report),
    ]
    for label, text in rows:
        table.add_row(label, Text(text))
    return table


def _group_rows(groups: list[AgentGroup]) -> list[tuple[str, str]]:
    texts = [f"observes {group.observes}, acts in {group.acts}" for group in groups]
    if len(groups) == 1:
        return [("each", texts[0])]
    return [(f"group {i + 1}", f"{_names(groups[i].agents)}: {text}") for i, text in enumerate(texts)]


def _lives(report: Report) -> str:
    moves = [(report.deaths, "some die early"), (report.arrivals, "some arrive late")]
    return " and ".join(text for is_so, text in moves if is_so) or "all agents act from the reset to the end"


def _reward(report: Report) -> str:
    if report.shared_reward:
        return "one number for all, counted once (shared_reward)"
    if report.equal_rewards and report.paid and len(report.agents) > 1:
        return "the same for all agents, and added up over them: shared_reward = True counts it once"
    return "each agent's own; the team's is their sum"


def _episode_rows(report: Report) -> list[tuple[str, str]]:
    if not report.lengths:
        return []
    low = min(report.lengths)
    high = max(report.lengths)
    mean = sum(report.lengths) / len(report.lengths)
    span = f"{low:,}" if low == high else f"{low:,} to {high:,} (mean {mean:,.0f})"
    endings = ", ".join(f"{count} {ending}" for ending, count in report.endings.items())
    return [("episodes", f"{span} steps; {endings}")]


def _speed_rows(report: Report) -> list[tuple[str, str]]:
    if not report.steps:
        return []
    cores = usable_cores()
    number = workers(report.steps_per_cpu_second, cores)
    advice = "0: there is one core"
    if cores > 1:
        advice = f"{cores} in training, one for each core"
    if cores > 1 and not number:
        advice += "; these steps are so short that --env.workers 0 trains faster"
    speed = f"{report.steps_per_cpu_second:,.0f} steps in a CPU second, {report.steps_per_second:,.0f} by the clock"
    return [("speed", speed), ("workers", advice)]


def _violation_table(violation: Violation) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, width=7)
    table.add_column(overflow="fold")
    count = f", {violation.times:,} times" if violation.times > 1 else ""
    head = Text.assemble((violation.code, "bold"), (f"  {violation.where}{count}", "dim"))
    table.add_row(Text(violation.level, _COLOURS[violation.level]), head)
    table.add_row("", Text(violation.message))
    table.add_row("", Text.assemble(("fix: ", "green"), violation.fix))
    return table


def _verdict(report: Report) -> Text:
    count = Counter(v.level for v in report.violations)
    text = ", ".join(f"{count[level]} {level}{'s' if count[level] != 1 else ''}" for level in _COLOURS)
    if not report.ok:
        return Text.assemble((text, "bold red"), ": fix the errors before you train")
    return Text.assemble((text, "bold green"), ": ready to train")


def _names(agents: tuple[str, ...]) -> str:
    return ", ".join(agents if len(agents) <= 6 else (*agents[:3], "...", agents[-1]))
