"""Tasks of `mappo reproduce`: presets, their measured returns, and the numbers of others. Imports no torch.

The table is `tasks.json`. `mappo envs ENV` shows the measured returns too; nothing unmeasured is in the table.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mappo.config.config import Config
from mappo.config.presets import presets_of
from mappo.errors import UserError, suggest

Policy = Literal["greedy", "sampled"]
# How sure a number of others is.
MARKS = {"V": "verified in the source's files", "P": "unverified: read from a picture", "R": "unverified: recalled"}


@dataclass(frozen=True)
class Peer:
    """A number published by others.

    Args:
        name: system and algorithm.
        value: return in the convention of the task.
        steps: environment steps.
        source: publication or files.
        mark: one of `MARKS`.
        conversion: from the published number to `value`; empty if they are equal.
    """

    name: str
    value: float
    steps: int
    source: str
    mark: str
    conversion: str = ""

    def describe_source(self) -> str:
        """Return source, mark and conversion as a sentence."""
        return f"{self.source} ({MARKS[self.mark]}){'; ' if self.conversion else ''}{self.conversion}."


@dataclass(frozen=True)
class Task:
    """A training that anybody can repeat, with its returns as measured here and by others.

    Args:
        name: name on the command line.
        env: environment of the training.
        preset: name of the preset.
        settings: changes of the preset, by dotted names.
        package: package of the original environment, for the score; None to score in the environment itself.
        episodes: scored episodes of each seed and policy.
        policy: greedy or sampled.
        returns: mean return of the team for each seed; empty if not measured.
        cpu_minutes: CPU-minutes of a training on a core of an AMD EPYC (Zen 5); None if not measured.
        baselines: mean returns of the baselines over as many episodes.
        peers: numbers of others.
    """

    name: str
    env: str
    preset: str = "default"
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    package: str | None = None
    episodes: int = 2000
    policy: Policy = "greedy"
    returns: tuple[float, ...] = ()
    cpu_minutes: float | None = None
    baselines: Mapping[str, float] = field(default_factory=dict[str, float])
    peers: tuple[Peer, ...] = ()

    @cached_property
    def config(self) -> Config:
        """Return the settings of a training: the preset with the changes of the task."""
        config = Config.from_dict(self.settings, presets_of(self.env)[self.preset])
        return replace(config, run=replace(config.run, eval_policy=self.policy))

    @property
    def steps(self) -> int:
        """Return the environment steps of a training."""
        return self.config.run.total_steps


def _read_tasks() -> dict[str, Task]:
    rows = json.loads(Path(__file__).with_name("tasks.json").read_text(encoding="utf-8"))
    return {row["name"]: _read_task(**row) for row in rows}


def _read_task(returns: Sequence[float] = (), peers: Sequence[Any] = (), **fields: Any) -> Task:
    return Task(returns=tuple(returns), peers=tuple(Peer(**peer) for peer in peers), **fields)


TASKS = _read_tasks()


def find_task(name: str) -> Task:
    """Return the task of a name.

    Raises:
        UserError: there is no such task; the message lists all.
    """
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}{suggest(name, TASKS)} There are: {', '.join(TASKS)}")
    return TASKS[name]


def measured(env: str, preset: str) -> Task | None:
    """Return the measured task of a preset, possibly of another number of steps; None if there is none."""
    tasks = (t for t in TASKS.values() if (t.env, t.preset) == (env, preset) and t.returns)
    return next((t for t in tasks if set(t.settings) <= {"run.total_steps"}), None)
