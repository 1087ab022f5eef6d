"""Replays of an episode, to test its dependence on seed and actions alone. Loads no torch."""

import copy
import hashlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from mappo.envs.check.recorder import Recorder, last_lines
from mappo.envs.check.spaces import leaves
from mappo.envs.vector.rules import broken
from mappo.envs.vector.time_limit import TimeLimit
from mappo.system.shutdown import CloseLimit

Digests = dict[str, bytes]  # a digest for each agent, of all its values


@dataclass
class Trace:
    """The beginning of an episode: its seed, the first observations, then actions and results of each step."""

    seed: int
    start: Digests = field(default_factory=Digests)
    steps: list[tuple[dict[str, Any], Digests]] = field(default_factory=list[tuple[dict[str, Any], Digests]])


def check_determinism(
    recorder: Recorder, trace: Trace, env: Any, make: Callable[[], Any], close_limit: CloseLimit = nullcontext
) -> bool:
    """Replay an episode in the same environment, in another, and in both side by side; then close them.

    Returns True if all results are as in the episode.

    Args:
        recorder: takes the findings.
        trace: the episode.
        env: the environment of the episode.
        make: makes another environment.
        close_limit: context for closing the environments.
    """
    other = recorder.call("make", make)
    envs = {"the same environment": env}
    if _unwrap(other) is _unwrap(env):
        recorder.add(broken("same-object", kind=type(_unwrap(env)).__name__))
    else:
        envs["another environment"] = other
    is_same = [replay(recorder, trace, {which: each}) for which, each in envs.items()]
    if all(is_same) and len(envs) > 1:
        is_same.append(replay(recorder, trace, envs))
    for each in envs.values():
        if callable(close := getattr(each, "close", None)):
            with close_limit():
                _close(recorder, close)
    return all(is_same)


def _close(recorder: Recorder, close: Callable[[], Any]) -> None:
    try:
        close()
    except Exception as error:  # after training, this is a warning too
        recorder.add(broken("close-raised", error=last_lines(error)))


def _unwrap(env: Any) -> Any:
    return env.env if isinstance(env, TimeLimit) else env


def replay(recorder: Recorder, trace: Trace, envs: dict[str, Any]) -> bool:
    """Replay an episode in each environment, stepped in turn; return True if all results are as in the trace."""
    is_alone = len(envs) == 1
    for which, env in envs.items():
        obs, _ = recorder.reset(env, trace.seed)
        if agent := _differing(trace.start, digests(obs)):
            alone = broken("seed-reset", agent, seed=trace.seed, which=which)
            recorder.add(alone if is_alone else broken("entangled", agent, moment="reset"))
            return False
    for step, (actions, expected) in enumerate(trace.steps, start=1):
        for which, env in envs.items():
            result = recorder.step_env(env, copy.deepcopy(actions))
            if agent := _differing(expected, digests(*result[:4])):
                alone = broken("seed-steps", agent, which=which, step=step)
                recorder.add(alone if is_alone else broken("entangled", agent, moment=f"step {step}"))
                return False
    return True


def digest(x: Any) -> bytes:
    """Return a digest of all arrays and numbers within a value, bit for bit."""
    result = hashlib.blake2b(digest_size=16)
    for leaf in leaves(x):
        result.update(f"{leaf.dtype}{leaf.shape}".encode())
        result.update(repr(leaf).encode() if leaf.dtype.kind == "O" else leaf.tobytes())
    return result.digest()


def digests(*dicts: Mapping[str, Any]) -> Digests:
    """Return for each agent a digest of its entries in all dicts."""
    agents = dict.fromkeys(a for d in dicts for a in d)
    return {a: digest([d[a] for d in dicts if a in d]) for a in agents}


def _differing(expected: Digests, actual: Digests) -> str:
    """Return the first agent with different digests, or ""."""
    return next((str(a) for a in {**expected, **actual} if expected.get(a) != actual.get(a)), "")
