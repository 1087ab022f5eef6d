"""What one agent sees and may do, held against its spaces. Loads no torch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from mappo.envs.check.rules import Finding, short


def check_observation(agent: str, space: Any, own: Any, what: str = "its observation") -> Iterator[Finding]:
    """An observation against its space, part by part."""
    if isinstance(space, spaces.Dict):
        parts: dict[str, Any] = {k: s for k, s in cast(Any, space.spaces).items() if k != "action_mask"}
        if set(parts) != {"observation"} or isinstance(own, Mapping):
            if not isinstance(own, Mapping) or any(k not in own for k in parts):
                yield Finding(
                    "obs-space", f"{what} is {short(own)}; its space says a dict of {', '.join(parts)}", agent
                )
                return
            for key, part in parts.items():
                yield from check_observation(agent, part, own[key], f"{key!r} of {what}")
            return
        space = parts["observation"]
    elif isinstance(own, Mapping) and "observation" in own:
        own = cast(Any, own)["observation"]
    if not isinstance(space, spaces.Box):
        if not _contains(space, own):
            yield Finding("obs-space", f"{what} is {short(own)}, which is not in {space}", agent)
        return
    x = _array(own)
    if x is None:
        yield Finding("obs-space", f"{what} is {short(own)}; its space says numbers", agent)
    elif x.shape != space.shape:
        yield Finding("obs-shape", f"{what} has the shape {x.shape}; its space says {space.shape}", agent)
    elif x.dtype.kind == "f" and np.dtype(cast(Any, space.dtype)).kind != "f":
        yield Finding("obs-kind", f"{what} is {x.dtype}; its space says {space.dtype}", agent)
    elif not np.isfinite(x).all():
        yield Finding("not-finite", f"{what} holds {x[~np.isfinite(x)][0]}", agent)
    else:
        if x.dtype != space.dtype:
            yield Finding("obs-dtype", f"{what} is {x.dtype}; its space says {space.dtype}", agent)
        outside = (x < space.low) | (x > space.high)
        if outside.any():
            low, high, value = space.low[outside][0], space.high[outside][0], x[outside][0]
            yield Finding("obs-bounds", f"{what} holds {value:g}; its space says {low:g} to {high:g}", agent)


def find_mask(own: Any, info: Any) -> Any:
    """What is given as an agent's mask, or None."""
    if isinstance(own, Mapping) and "action_mask" in own:
        return cast(Any, own)["action_mask"]
    return cast(Any, info).get("action_mask") if isinstance(info, Mapping) else None


def check_mask(agent: str, heads: Sequence[int], given: Any) -> Finding | np.ndarray:
    """A mask as bool `(sum of heads,)`, or what is wrong with it."""
    parts: list[Any] = list(given if type(given) in (list, tuple) else cast(Any, np.atleast_1d(given)))
    pieces = [_array(part) for part in parts] if any(np.ndim(part) for part in parts) else [_array(given)]
    if any(piece is None for piece in pieces):
        return Finding("mask-values", f"its mask is {short(given)}", agent)
    flat = [cast(np.ndarray, piece).ravel() for piece in pieces]
    sizes = tuple(map(len, flat))
    if sizes not in (tuple(heads), (sum(heads),)):
        return Finding("mask-size", f"its mask has {sum(sizes)} numbers; its actions need {sum(heads)}", agent)
    x = np.concatenate(flat)
    if not np.isin(x, (0, 1)).all():
        return Finding("mask-values", f"its mask holds {x[~np.isin(x, (0, 1))][0]}", agent)
    mask = x.astype(bool)
    ends = np.cumsum(heads)
    for head, (end, size) in enumerate(zip(ends, heads, strict=True)):
        if not mask[end - size : end].any():
            which = f" for choice {head + 1} of {len(heads)}" if len(heads) > 1 else ""
            return Finding("mask-empty", f"its mask leaves nothing legal{which}", agent)
    return mask


def leaves(x: Any) -> list[np.ndarray]:
    """All arrays within, in order; arrays are not copied."""
    if isinstance(x, Mapping):
        x = list(cast(Any, x).values())
    if isinstance(x, list | tuple):
        return [leaf for part in cast(Any, x) for leaf in leaves(part)]
    return [np.asarray(x)]


def _array(x: Any) -> np.ndarray | None:
    """Numbers, or None where there are none."""
    try:
        array = np.asarray(x)
    except (TypeError, ValueError):
        return None
    return array if array.dtype.kind in "biuf" else None


def _contains(space: Any, x: Any) -> bool:
    try:
        return bool(space.contains(x))
    except Exception:  # of any type, for the observation is
        return False
