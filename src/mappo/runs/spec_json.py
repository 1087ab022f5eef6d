"""Who plays, as `config.json` tells it."""

import json
import math
import re
from dataclasses import asdict
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from mappo.core.spec import ActionHeads, Spec
from mappo.errors import UserError

# Of a file: what memory would be taken for before anything is compared.
MAX_AGENTS, MAX_OBS_SIZE, MAX_CHOICES = 10_000, 1 << 26, 1 << 24
_DTYPE = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")


def spec_to_dict(spec: Spec) -> dict[str, Any]:
    """What JSON holds."""
    return {
        "agents": spec.agents,
        "obs": [{"shape": s.shape, "dtype": str(s.dtype)} for s in spec.obs_spaces],
        "heads": [asdict(h) | {"low": _finite(h.low), "high": _finite(h.high)} for h in spec.action_heads],
        "groups": spec.groups,
        "state_shape": spec.state_shape,
        "shared_reward": spec.shared_reward,
    }


def spec_from_dict(data: dict[str, Any]) -> Spec:
    """The inverse.

    Raises:
        UserError, TypeError, ValueError: it is damaged, or larger than anything that was ever trained.
    """
    agents = _list(data, "agents", str)
    if len(agents) > MAX_AGENTS or len(set(agents)) < len(agents) or any(len(name) > 1000 for name in agents):
        raise UserError(f"'agents' should be up to {MAX_AGENTS:,} names, each of them once")
    seen = [(_list(o, "shape", int), field(o, "dtype", str)) for o in _list(data, "obs", dict)]
    for shape, dtype in seen:
        if not _DTYPE.fullmatch(dtype):
            raise UserError(f"'dtype' should be that of an array of numbers, and is {json.dumps(dtype)[:60]}")
        if len(shape) > 8 or min(shape, default=1) < 0:
            raise UserError(f"'shape' should be that of an array, and is {json.dumps(shape)[:60]}")
    state = None if data.get("state_shape", 0) is None else _list(data, "state_shape", int)
    # Spaces hold their bounds: those that are alike are one.
    numbers = sum(math.prod(shape) for shape, _ in set(seen)), math.prod(state or ())
    if max(numbers) > MAX_OBS_SIZE:
        raise UserError(f"its agents observe {max(numbers):,} numbers, and at most {MAX_OBS_SIZE:,} are read")
    boxes = {kind: _box(kind[0], np.dtype(kind[1])) for kind in set(seen)}
    heads = tuple(_heads(h) for h in _list(data, "heads", dict))
    choices = len(agents) * max((sum(h.categorical) + h.size for h in heads), default=0)
    if choices > MAX_CHOICES:
        raise UserError(f"its agents choose among {choices:,} actions, and at most {MAX_CHOICES:,} are read")
    return Spec(
        agents=agents,
        obs_spaces=tuple(boxes[kind] for kind in seen),
        action_heads=heads,
        groups=_list(data, "groups", int),
        state_shape=state,
        shared_reward=field(data, "shared_reward", bool),
    )


def field(data: dict[str, Any], name: str, kind: type) -> Any:
    """What an object of a file holds, of a kind that JSON has."""
    if name not in data:
        raise UserError(f"it has no {name!r}")
    return _checked(name, data[name], kind)


def _list(data: dict[str, Any], name: str, kind: type) -> tuple[Any, ...]:
    return tuple(_checked(name, x, kind) for x in field(data, name, list))


def _checked(name: str, value: Any, kind: type) -> Any:
    fits = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
    if not fits or (kind is int and not -(2**31) <= value < 2**31):
        words = {str: "text", dict: "an object", list: "a list", bool: "true or false", int: "a whole number"}
        raise UserError(f"{name!r} should be {words[kind]}, and is {json.dumps(value)[:60]}")
    return value


def _finite(bounds: tuple[float, ...]) -> list[float | None]:
    """JSON knows no infinity."""
    return [x if math.isfinite(x) else None for x in bounds]


def _heads(data: dict[str, Any]) -> ActionHeads:
    low = tuple(-math.inf if x is None else float(x) for x in field(data, "low", list))
    high = tuple(math.inf if x is None else float(x) for x in field(data, "high", list))
    categorical, start, shape = (_list(data, name, int) for name in ("categorical", "start", "shape"))
    if len(start) != len(categorical) or math.prod(shape) != len(categorical) + len(low):
        raise UserError("'start' and 'shape' should be those of the heads")
    return ActionHeads(categorical, low, high, start, shape)


def _box(shape: tuple[int, ...], dtype: np.dtype[Any]) -> spaces.Box:
    """The widest box of a dtype: a network needs no bounds."""
    if dtype.kind == "f":
        return spaces.Box(-np.inf, np.inf, shape, cast(Any, dtype.type))
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return spaces.Box(low, high, shape, cast(Any, dtype.type))
