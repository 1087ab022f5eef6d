"""What a check writes down while it runs, and how it calls the code of others. Loads no torch."""

import os
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from mappo.envs.check.report import Report, Violation
from mappo.envs.check.rules import RULES, Finding
from mappo.system.tracebacks import is_own_code


class StopChecking(Exception):
    """Nothing more can be learned of this environment."""


class Recorder:
    """A report in the making, and where in the game it is: `episode` and `step` count from 1."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.episode, self.step = 0, 0
        self.found: dict[str, Violation] = {}

    def add(self, *findings: Finding) -> None:
        """Each rule is reported where it was first broken."""
        for finding in findings:
            if finding.code in self.found:
                self.found[finding.code].times += 1
                continue
            level, fix = RULES[finding.code]
            moment = [f"episode {self.episode}", f"step {self.step}" if self.step else "reset"] if self.episode else []
            where = ", ".join([self.report.name, *filter(None, [finding.agent, *moment])])
            self.found[finding.code] = Violation(level, finding.code, where, finding.message, finding.fix or fix)
            self.report.violations.append(self.found[finding.code])

    def stop(self, code: str, message: str) -> StopChecking:
        """To be raised: adds the finding."""
        self.add(Finding(code, message))
        return StopChecking()

    def call(self, what: str, function: Callable[..., Any], *args: Any, passes: Any = (), **kwargs: Any) -> Any:
        """Runs code of the environment's, and times it; exceptions `passes` are let through.

        Raises:
            Stop: it raised another.
        """
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            return function(*args, **kwargs)
        except passes:
            raise
        except KeyboardInterrupt:  # the user's
            raise
        except BaseException as error:
            seedless = what == "reset" and isinstance(error, TypeError) and "'seed'" in str(error)
            code = "reset-seed" if seedless else "raised"
            raise self.stop(code, f"{what} raised {last_lines(error)}") from None
        finally:
            self.report.wall_s += time.perf_counter() - wall
            self.report.cpu_s += time.process_time() - cpu

    def reset(self, env: Any, seed: int) -> tuple[Any, Any]:
        """Observations and infos."""
        given = self.call("reset", env.reset, seed=seed)
        if not _dicts(given, 2):
            raise self.stop("reset-return", f"reset returned {_kinds(given)}")
        if not isinstance(getattr(env, "agents", None), list | tuple):
            raise self.stop("missing", "it has no agents, a list of who is there, after reset")
        if not env.agents:
            raise self.stop("nobody", "reset left nobody on agents")
        return given

    def step_env(self, env: Any, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Observations, rewards, terminations, truncations and infos."""
        given = self.call("step", env.step, actions)
        if not _dicts(given, 5):
            raise self.stop("step-return", f"step returned {_kinds(given)}")
        return given


def last_lines(error: BaseException) -> str:
    """The error, and where it came from: lines of the user's code, if any are in it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not is_own_code(f.filename)]
    own = [f for f in frames if "site-packages" not in f.filename] or frames
    here = f"{Path.cwd()}{os.sep}"
    lines = [f"\n{f.filename.removeprefix(here)}, line {f.lineno}, in {f.name}: {f.line}" for f in own[-3:]]
    return f"{type(error).__name__}: {error}{''.join(lines)}"


def _dicts(given: Any, count: int) -> bool:
    return isinstance(given, tuple) and [isinstance(part, Mapping) for part in cast(Any, given)] == [True] * count


def _kinds(given: Any) -> str:
    if isinstance(given, tuple):
        return f"({', '.join(type(part).__name__ for part in cast(Any, given))})"
    return type(given).__name__
