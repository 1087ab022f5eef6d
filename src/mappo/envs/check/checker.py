"""`mappo check`: plays an environment of PettingZoo's Parallel API at random, and names what is wrong with it.

Loads no torch.
"""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from gymnasium import spaces

from mappo.envs.check.determinism import check_determinism
from mappo.envs.check.random_play import RandomPlayer
from mappo.envs.check.recorder import Recorder, StopChecking, last_lines
from mappo.envs.check.report import AgentGroup, Report, Violation, show, workers
from mappo.envs.check.rules import Finding
from mappo.envs.vector.team_layout import TeamLayout
from mappo.envs.vector.time_limit import TimeLimit
from mappo.errors import UserError
from mappo.system.shutdown import CloseLimit

__all__ = ["AgentGroup", "Report", "Violation", "check", "show", "workers"]

_METHODS = ("observation_space", "action_space", "reset", "step")
_TIMED = 5_000  # steps: what does so many in less than is asked for is fast, whatever the clock says


def check(
    make: Callable[[], Any],
    episodes: int = 3,
    seed: int = 0,
    *,
    name: str = "",
    max_steps: int = 5_000,
    time_limit: int | None = None,
    seconds: float = 0.0,
    close_limit: CloseLimit = contextlib.nullcontext,
) -> Report:
    """Steps what `make` gives by random legal actions, and the first episode's beginning again.

    Args:
        make: makes one environment at each call.
        episodes: how many to play, from the seeds `seed`, `seed + 1`, ...
        name: of the environment, for the report; by default what it calls itself.
        max_steps: an episode that is longer than this does not end.
        time_limit: the step at which an episode is cut off; see `TimeLimit`.
        seconds: of the processor's time in the environment that its speed is measured by. More episodes are played
            where those asked for are shorter, up to 5,000 steps in all.
        close_limit: context for closing the environments.

    Raises:
        UserError: raised by `make` itself. All else that goes wrong stands in the report.
    """
    notes = Recorder(Report(name or "environment", seed))
    make = make if time_limit is None else partial(_limited, make, time_limit)
    try:
        env = notes.call("make", make, passes=UserError)
        notes.report.name = name or _name(env)
        player = _prepare(notes, env, seed)
        notes.report.wall_s = notes.report.cpu_s = 0.0  # what was only prepared does not count
        for notes.episode in range(1, episodes + 1):
            player.play(seed + notes.episode - 1, max_steps)
            if "never-ends" in notes.found:
                break
        _play_more(notes, player, seconds, max_steps)
        notes.episode = notes.step = 0
        _summarize(notes, player)
        spent = notes.report.wall_s, notes.report.cpu_s
        try:
            check_determinism(notes, player.trace, env, make, close_limit)
        finally:
            notes.report.wall_s, notes.report.cpu_s = spent
    except StopChecking:
        pass
    except UserError:
        raise
    except Exception as error:  # what it gave could not be read: no traceback is owed to that
        notes.add(Finding("unreadable", f"what it gave could not be read: {last_lines(error)}"))
    return notes.report


def _prepare(notes: Recorder, env: Any, seed: int) -> RandomPlayer:
    """What can be asked before the first step."""
    report = notes.report
    if env is None:
        raise notes.stop("none", "the function that makes environments gave None")
    if hasattr(env, "agent_iter"):
        raise notes.stop("turn-based", "its agents act in turns (AEC)")
    missing = [n for n in ("possible_agents", *_METHODS) if not hasattr(env, n)]
    missing += [f"method {n}" for n in _METHODS if n not in missing and not callable(getattr(env, n))]
    if missing:
        raise notes.stop("missing", f"it has no {', no '.join(missing)}")
    possible = list(env.possible_agents)
    if not possible or len(set(possible)) < len(possible):
        raise notes.stop("agents", f"possible_agents is {possible}")
    observes = {a: notes.call("observation_space", env.observation_space, a) for a in possible}
    acts = {a: notes.call("action_space", env.action_space, a) for a in possible}
    notes.reset(env, seed)
    if callable(getattr(env, "state", None)):
        with contextlib.suppress(NotImplementedError):  # PettingZoo's base class
            notes.call("state", env.state, passes=NotImplementedError)
    try:
        spec = TeamLayout(env).spec
    except UserError as error:
        raise notes.stop("spaces", str(error)) from None
    report.agents, report.shared_reward, report.state_shape = spec.agents, spec.shared_reward, spec.state_shape
    for group in dict.fromkeys(spec.groups):
        members = [a for a, g in zip(possible, spec.groups, strict=True) if g == group]
        report.groups.append(
            AgentGroup(tuple(map(str, members)), _describe(observes[members[0]]), _describe(acts[members[0]]))
        )
    return RandomPlayer(notes, env, observes, acts, spec.state_shape is not None, seed)


def _limited(make: Callable[[], Any], limit: int) -> Any:
    """An environment under a time limit; what is none as it is, to be told so."""
    env = make()
    return TimeLimit(env, limit, cuts=True) if all(callable(getattr(env, n, None)) for n in _METHODS) else env


def _play_more(notes: Recorder, player: RandomPlayer, seconds: float, max_steps: int) -> None:
    """Plays until the speed is known, or something is wrong."""
    report = notes.report
    while report.ok and report.steps < _TIMED and report.cpu_s < seconds and report.wall_s < 10 * seconds:
        notes.episode += 1
        player.play(report.seed + notes.episode - 1, max_steps)


def _summarize(notes: Recorder, player: RandomPlayer) -> None:
    """What only all episodes together tell."""
    lengths, count = notes.report.lengths, len(notes.report.lengths)
    if count > 1 and len(set(lengths)) == 1 and lengths[0] > 1 and notes.report.endings["terminated"] == count:
        told = f"all {count} episodes terminated at step {lengths[0]}: this looks like a time limit"
        fix = f"if it is a time limit, report it in truncations, or give --env.time-limit {lengths[0]}"
        notes.add(Finding("limit-as-termination", told, fix=fix))
    longer = [look for look in player.episode_stats if look[0] > 1]
    if longer and not any(observations for _, observations, _ in longer):
        notes.add(Finding("obs-constant", "nothing that anybody observes changes during an episode"))
    elif longer and player.has_state and not any(states for _, _, states in longer):
        notes.add(Finding("state-constant", "state() does not change during an episode, and observations do"))


def _name(env: Any) -> str:
    metadata: Any = getattr(env, "metadata", {})
    return str(metadata["name"]) if "name" in metadata else type(env).__name__


def _describe(space: Any) -> str:
    text = " ".join(str(space).split())
    if len(text) > 60 and isinstance(space, spaces.Box):  # each number has bounds of its own
        return f"Box({space.low.min():g} to {space.high.max():g}, {space.shape}, {space.dtype})"
    return text
