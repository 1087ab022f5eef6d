"""The findings of a check, and guarded calls of the environment's code. Loads no torch."""

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from mappo.envs.check.report import Report, Violation
from mappo.envs.vector.api_checks import check_return, check_seed
from mappo.envs.vector.rules import RULES, Finding, RuleError, broken
from mappo.envs.vector.team_layout import listed_agents
from mappo.system.tracebacks import is_own_code


class StopChecking(Exception):
    """Signal to end the check: nothing more can be learned about the environment."""


class Recorder:
    """A report in the making, and the moment of the check: `episode` and `step` count from 1."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.episode = 0
        self.step = 0
        self.found: dict[str, Violation] = {}

    def add(self, *findings: Finding | None) -> None:
        """Add findings to the report, where each rule has the place of its first break and a count."""
        for finding in findings:
            if finding is None:
                continue
            if finding.code in self.found:
                self.found[finding.code].times += 1
                continue
            moment = [f"episode {self.episode}", f"step {self.step}" if self.step else "reset"] if self.episode else []
            where = ", ".join([self.report.name, *filter(None, [finding.agent, *moment])])
            level = RULES[finding.code].level
            self.found[finding.code] = Violation(level, finding.code, where, finding.message, finding.fix)
            self.report.violations.append(self.found[finding.code])

    def stop_if(self, finding: Finding | None) -> None:
        """Add a finding, and end the check.

        Raises:
            StopChecking: there is a finding.
        """
        if finding is not None:
            self.add(finding)
            raise StopChecking

    def call(self, name: str, function: Callable[..., Any], *args: Any, passes: Any = (), **kwargs: Any) -> Any:
        """Call the environment's code, and measure its time.

        Args:
            name: the call, for messages.
            function: the code.
            args: positional arguments of the code.
            passes: exceptions to pass on.
            kwargs: keyword arguments of the code.

        Raises:
            StopChecking: the code raised another exception.
        """
        wall = time.perf_counter()
        cpu = time.process_time()
        try:
            return function(*args, **kwargs)
        except passes:
            raise
        except KeyboardInterrupt:  # Ctrl-C of the user
            raise
        except BaseException as error:
            seedless = check_seed(error) if name == "reset" else None
            self.add(seedless or broken("raised", call=name, error=last_lines(error)))
            raise StopChecking from None
        finally:
            self.report.wall_s += time.perf_counter() - wall
            self.report.cpu_s += time.process_time() - cpu

    @contextlib.contextmanager
    def untimed(self) -> Generator[None]:
        """Leave the measured time as it was before the context."""
        wall = self.report.wall_s
        cpu = self.report.cpu_s
        try:
            yield
        finally:
            self.report.wall_s = wall
            self.report.cpu_s = cpu

    def reset(self, env: Any, seed: int) -> tuple[Any, Any]:
        """Reset the environment; return observations and infos."""
        result = self.call("reset", env.reset, seed=seed % 2**31)  # as in training
        self.stop_if(check_return("reset", result))
        try:
            agents = listed_agents(env)
        except RuleError as error:
            agents = set[Any]()
            self.stop_if(error.finding)
        if not agents:
            self.stop_if(broken("nobody", agents=env.agents))
        obs, infos = result
        return obs, {} if infos is None else infos

    def step_env(self, env: Any, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Step the environment; return observations, rewards, terminations, truncations and infos."""
        result = self.call("step", env.step, actions)
        self.stop_if(check_return("step", result))
        obs, rewards, terminations, truncations, infos = result
        return obs, rewards, terminations, truncations, {} if infos is None else infos


def last_lines(error: BaseException) -> str:
    """Return an error with its last lines of code: lines of the user's code, if there are any."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not is_own_code(f.filename)]
    user_frames = [f for f in frames if "site-packages" not in f.filename] or frames
    try:
        folder = f"{Path.cwd()}{os.sep}"
    except FileNotFoundError:  # the environment removed it
        folder = ""
    lines = [f"\n{f.filename.removeprefix(folder)}, line {f.lineno}, in {f.name}: {f.line}" for f in user_frames[-3:]]
    return f"{type(error).__name__}: {error}{''.join(lines)}"
