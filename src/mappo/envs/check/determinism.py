"""Whether the same seed and actions give the same game again. Loads no torch."""

import copy
import hashlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from mappo.envs.check.recorder import Recorder
from mappo.envs.check.rules import Finding
from mappo.envs.check.spaces import leaves
from mappo.envs.vector.time_limit import TimeLimit
from mappo.system.shutdown import CloseLimit

Digests = dict[str, bytes]  # by agent, of all that it was given


@dataclass
class Trace:
    """How an episode began, from the seed `seed`: what was given, and what was sent and given at each step."""

    seed: int
    start: Digests = field(default_factory=Digests)
    steps: list[tuple[dict[str, Any], Digests]] = field(default_factory=list[tuple[dict[str, Any], Digests]])


def check_determinism(
    notes: Recorder, trace: Trace, env: Any, make: Callable[[], Any], close_limit: CloseLimit = nullcontext
) -> None:
    """Plays it on the same object, on another, and on both side by side; then closes them."""
    other = notes.call("make", make)
    if _bare(other) is _bare(env):
        notes.add(Finding("same-object", "the function gave one object twice"))
    envs = {"the same environment": env} | ({"another one": other} if _bare(other) is not _bare(env) else {})
    alike = [_replay(notes, trace, {which: one}) for which, one in envs.items()]
    if all(alike) and len(envs) > 1:
        _replay(notes, trace, envs)
    for one in envs.values():
        if callable(close := getattr(one, "close", None)):
            with close_limit():
                notes.call("close", close)


def _bare(env: Any) -> Any:
    return env.env if isinstance(env, TimeLimit) else env


def _replay(notes: Recorder, trace: Trace, envs: dict[str, Any]) -> bool:
    """Each of them, stepped in turn, does as the trace says."""
    alone = len(envs) == 1
    for which, env in envs.items():
        obs, _ = notes.reset(env, trace.seed)
        if agent := _differing(trace.start, digests(obs)):
            told = f"reset(seed={trace.seed}) on {which} gives other observations than the first time"
            notes.add(Finding("seed-reset" if alone else "entangled", told, agent))
            return False
    for step, (actions, before) in enumerate(trace.steps, start=1):
        for which, env in envs.items():
            given = notes.step_env(env, copy.deepcopy(actions))
            if agent := _differing(before, digests(*given[:4])):
                told = f"the same seed and actions on {which} go another way from step {step} on"
                if not alone:
                    told = f"two of them, stepped in turn, go another way than one alone, from step {step} on"
                notes.add(Finding("seed-steps" if alone else "entangled", told, agent))
                return False
    return True


def digest(x: Any) -> bytes:
    """Of all arrays and numbers within, bit for bit."""
    result = hashlib.blake2b(digest_size=16)
    for leaf in leaves(x):
        result.update(f"{leaf.dtype}{leaf.shape}".encode())
        result.update(repr(leaf).encode() if leaf.dtype.kind == "O" else leaf.tobytes())
    return result.digest()


def digests(*dicts: Mapping[str, Any]) -> Digests:
    """By agent, of what it has in each of them."""
    return {a: digest([d[a] for d in dicts if a in d]) for a in dict.fromkeys(a for d in dicts for a in d)}


def _differing(one: Digests, other: Digests) -> str:
    return next((str(a) for a in {**one, **other} if one.get(a) != other.get(a)), "")
