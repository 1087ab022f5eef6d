"""`mappo check`: random episodes in an environment of PettingZoo's Parallel API, and a report of all broken rules.

Loads no torch.
"""

import contextlib
import itertools
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from mappo.envs.check.determinism import check_determinism
from mappo.envs.check.other_process import compare_process
from mappo.envs.check.random_play import RandomPlayer
from mappo.envs.check.recorder import Recorder, StopChecking, last_lines
from mappo.envs.check.report import AgentGroup, Report, Violation, show, space_text, workers
from mappo.envs.opponents import find_opponents
from mappo.envs.vector.api_checks import METHODS, check_api, check_image_size, check_same_agents
from mappo.envs.vector.rules import RuleError, broken
from mappo.envs.vector.state_space import first_state
from mappo.envs.vector.team_layout import TeamLayout, ordered_agents
from mappo.envs.vector.time_limit import TimeLimit
from mappo.errors import UserError
from mappo.system.shutdown import CloseLimit

__all__ = ["AgentGroup", "Report", "Violation", "check", "show", "workers"]

_MAX_TIMED_STEPS = 5_000  # enough to call an environment fast
_RIVAL_STEPS = 4_000  # enough to tell opponents by their rewards


def check(
    make: Callable[[], Any],
    episodes: int = 3,
    seed: int = 0,
    *,
    name: str = "",
    max_steps: int = 10_000,  # an evaluation calls longer episodes endless, too
    time_limit: int | None = None,
    seconds: float = 0.0,
    close_limit: CloseLimit = contextlib.nullcontext,
    other_process: bool = False,
) -> Report:
    """Step an environment with random legal actions, and replay the beginning of the first episode.

    Args:
        make: makes a new environment at each call.
        episodes: number of episodes, from the seeds `seed`, `seed + 1`, ...
        seed: seed of the first reset.
        name: name of the environment in the report; by default its own.
        max_steps: an episode of more steps is reported as endless.
        time_limit: last step of an episode, which is truncated there; see `TimeLimit`.
        seconds: processor time for the measured speed; short episodes are repeated, up to 5,000 steps in all.
        close_limit: context for closing the environments.
        other_process: True to compare with the environment in a second process.

    Raises:
        UserError: raised by `make` itself. All other errors are in the report.
    """
    recorder = Recorder(Report(name or "environment", seed))
    make = make if time_limit is None else partial(_make_limited, make, time_limit)
    with _as_findings(recorder):
        with recorder.untimed():
            player = _prepare(recorder, make, name, seed)
        _play(recorder, player, episodes, max_steps, seconds)
        _check_episodes(recorder, player)
        with recorder.untimed():
            is_same = check_determinism(recorder, player.trace, player.env, make, close_limit)
            if other_process and is_same:
                compare_process(recorder, player.trace, player.possible, make)
    return recorder.report


@contextlib.contextmanager
def _as_findings(recorder: Recorder) -> Generator[None]:
    """End the check at `StopChecking`; add any other exception to the report, except for UserError of `make`."""
    try:
        yield
    except StopChecking:
        pass
    except UserError:
        raise
    except Exception as error:  # unreadable values of the environment: a finding, not a traceback
        recorder.add(broken("unreadable", error=last_lines(error)))


def _prepare(recorder: Recorder, make: Callable[[], Any], name: str, seed: int) -> RandomPlayer:
    """Make an environment and all checks before the first step, and describe the agents."""
    report = recorder.report
    env = recorder.call("make", make, passes=UserError)
    report.name = name or _name(env)
    recorder.stop_if(check_api(env))
    possible = ordered_agents(env.possible_agents)
    obs_spaces = {a: recorder.call("observation_space", env.observation_space, a) for a in possible}
    action_spaces = {a: recorder.call("action_space", env.action_space, a) for a in possible}
    recorder.reset(env, seed)
    recorder.stop_if(check_same_agents(env.possible_agents, dict.fromkeys(possible)))
    if callable(getattr(env, "state", None)):
        recorder.call("state", first_state, env)
    try:
        layout = TeamLayout(env)
    except UserError as error:
        recorder.add(error.finding if isinstance(error, RuleError) else broken("spaces", error=error))
        raise StopChecking from None
    spec = layout.spec
    report.agents = spec.agents
    report.shared_reward = spec.shared_reward
    report.state_shape = spec.state_shape
    for group in dict.fromkeys(spec.groups):
        members = [a for a, g in zip(possible, spec.groups, strict=True) if g == group]
        texts = [space_text(space[members[0]]) for space in (obs_spaces, action_spaces)]
        report.groups.append(AgentGroup(tuple(map(str, members)), *texts))
        if finding := check_image_size(members[0], spec.obs_parts[spec.groups.index(group)]):
            recorder.add(finding)
    if finding := check_image_size("", spec.state_parts, "large-state"):
        recorder.add(finding)
    return RandomPlayer(recorder, env, layout, action_spaces, seed)


def _make_limited(make: Callable[[], Any], limit: int) -> Any:
    """Make an environment under a time limit; return an object without the methods as it is, to be reported."""
    env = make()
    return TimeLimit(env, limit, cuts=True) if all(callable(getattr(env, n, None)) for n in METHODS) else env


def _play(recorder: Recorder, player: RandomPlayer, episodes: int, max_steps: int, seconds: float) -> None:
    """Play the episodes, then more of them until the speed is known or an error is found."""
    report = recorder.report
    for recorder.episode in itertools.count(1):
        player.play(report.seed + recorder.episode - 1, max_steps)
        is_played = report.equal_rewards or report.steps >= _RIVAL_STEPS
        needed = seconds if is_played else 20 * seconds
        is_timed = report.steps >= _MAX_TIMED_STEPS or report.cpu_s >= needed or report.wall_s >= 10 * needed
        if "never-ends" in recorder.found or (recorder.episode >= episodes and (is_timed or not report.ok)):
            break
    recorder.episode = 0
    recorder.step = 0


def _check_episodes(recorder: Recorder, player: RandomPlayer) -> None:
    """Check the rules for several episodes together."""
    report = recorder.report
    lengths = report.lengths
    is_fixed = len(lengths) > 1 and len(set(lengths)) == 1 and lengths[0] > 1
    if is_fixed and report.endings["terminated"] == len(lengths):
        recorder.add(broken("limit-as-termination", episodes=len(lengths), step=lengths[0]))
    if sides := find_opponents(report.agents, player.plays):
        recorder.add(broken("opponents", sides=sides))
    longer = [stats for stats in player.episode_stats if stats.num_steps > 1]
    if longer and not any(stats.has_new_obs for stats in longer):
        recorder.add(broken("obs-constant"))
    elif longer and player.has_state and not any(stats.has_new_state for stats in longer):
        recorder.add(broken("state-constant"))


def _name(env: Any) -> str:
    metadata: Any = getattr(env, "metadata", {})
    return str(metadata["name"]) if "name" in metadata else type(env).__name__
