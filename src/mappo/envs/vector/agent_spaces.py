"""Between one agent's own spaces and its row of the padded layout of a `Spec`. Loads no torch."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from mappo.core.spec import ActionHeads, Spec
from mappo.errors import UserError


class Flattener:
    """Reads what comes from a space as one array: images `(H, W, C)` or `(C, H, W)`, all else vectors.

    Args:
        told: begins the messages, "agent_0 observed" for example.
        space: any of gymnasium's that has a fixed size; one that is neither a vector nor an image is flattened.

    Raises:
        UserError: the space has no fixed size.
    """

    def __init__(self, told: str, space: Any) -> None:
        self.told, self._own, self._is_box = told, space, isinstance(space, spaces.Box)
        self.space: Any = space
        if not self._is_box or len(space.shape) not in (1, 3):
            try:
                self.space = spaces.flatten_space(space)
            except (ValueError, NotImplementedError):
                self.space = None
            # Letters have a place in an alphabet: gymnasium takes it for a number, which it is not.
            if not isinstance(self.space, spaces.Box) or _has_text(space):
                raise UserError(f"{told} {space}, which does not flatten to numbers of a fixed count: give a Box")
        self._shape = cast("tuple[int, ...]", space.shape if self._is_box else self.space.shape)
        self._bytes = space.dtype == np.uint8

    def read(self, x: Any) -> np.ndarray:
        """Its numbers in one row, `(size,)`."""
        try:
            x = np.asarray(x if self._is_box else spaces.flatten(self._own, x))
        except (KeyError, IndexError, TypeError, ValueError) as e:
            raise UserError(f"{self.told} what is not in its space {self._own}: {type(e).__name__} {e}") from e
        if x.shape != self._shape:
            raise UserError(f"{self.told} an array of shape {x.shape}; its space says {self._shape}")
        if self._bytes and x.dtype.kind == "f":
            raise UserError(f"{self.told} {x.dtype}; its space says uint8")
        if self._bytes and x.dtype != np.uint8 and not ((x >= 0) & (x <= 255)).all():
            raise UserError(f"{self.told} numbers from {x.min()} to {x.max()}; its space says uint8")
        return x.reshape(-1)


class AgentSpaces:
    """One agent: what it sees, may choose and does, in its own form and in the padded layout.

    Args:
        name: the agent's.
        observed: its observation space; PettingZoo's `Dict(observation=..., action_mask=...)` stands for the
            observation alone.
        acted: its action space.

    Raises:
        UserError: a space is of a kind that cannot be used.
    """

    def __init__(self, name: str, observed: Any, acted: Any) -> None:
        self.name, self._acted, self.heads = name, acted, ActionHeads.from_space(acted)
        self._wrapped = True  # a dict that comes holds the observation beside the mask
        if isinstance(observed, spaces.Dict):
            # Ordered, for gymnasium sorts the keys of any other dict.
            rest: OrderedDict[str, Any] = OrderedDict(cast(Any, observed.spaces))
            rest.pop("action_mask", None)
            self._wrapped = set(rest) == {"observation"}
            observed = cast(Any, rest["observation"] if self._wrapped else spaces.Dict(rest))
        self.flat = Flattener(f"{name} observed", observed)
        sizes = self.heads.categorical
        self._firsts = [sum(sizes[:k]) for k in range(len(sizes))]

    def set_columns(self, spec: Spec, index: int) -> None:
        """Remembers where the agent stands, once all agents are known."""
        self.size, self.choices = spec.obs_size(index), np.array(spec.choice_indices(index), dtype=np.intp)
        self._columns = np.array(spec.action_columns(index), dtype=np.intp)
        self._turn = spec.to_channels_last if len(spec.obs_shape) == 3 else None

    def read_obs(self, own: Any) -> np.ndarray:
        """Its observation as a row, `(own size,)`."""
        if self._wrapped and isinstance(own, Mapping):
            if "observation" not in own:
                keys = ", ".join(map(str, cast(Any, own)))
                raise UserError(f"{self.name} observed a dict of {keys}; its space asks for 'observation'")
            own = cast(Any, own)["observation"]
        row = self.flat.read(own)
        return row if self._turn is None else self._turn(row.reshape(self.flat.space.shape)).reshape(-1)

    def read_mask(self, given: Any) -> np.ndarray:
        """Its mask, given flat or head by head, as bool `(sum of own heads,)`."""
        pieces = _pieces(given)
        sizes, heads = tuple(map(len, pieces)), self.heads.categorical
        if sizes not in (heads, (sum(heads),)):
            also = f" or, head by head, {heads}" if len(heads) > 1 else ""
            raise UserError(
                f"{self.name} was given an action mask of shape {sizes}; its actions need ({sum(heads)},){also}"
            )
        mask = np.concatenate(pieces)
        legal = np.logical_or.reduceat(mask, self._firsts) if heads else mask
        if not legal.all():
            where = f" for head {legal.argmin()}, counted from 0" if len(heads) > 1 else ""
            raise UserError(f"{self.name} was given an action mask in which nothing is legal{where}")
        return mask

    def to_env_action(self, chosen: np.ndarray) -> list[Any]:
        """Its rows of actions `(E, D)` as E actions of its own space."""
        own: Any = self.heads.to_space_action(chosen[:, self._columns])
        if isinstance(self._acted, spaces.Discrete):
            return own.tolist()
        own = own.astype(self._acted.dtype)
        if isinstance(self._acted, spaces.Box):
            own = own.clip(self._acted.low, self._acted.high)  # bounds in float64 may lie within those in float32
        return [own[i, ...] for i in range(len(own))]


def _pieces(mask: Any) -> list[np.ndarray]:
    """A mask's innermost arrays, bool, in order."""
    if isinstance(mask, np.ndarray):
        nested = mask.ndim > 1
    else:
        nested = isinstance(mask, list | tuple) and any(
            isinstance(m, list | tuple | np.ndarray) for m in cast(Any, mask)
        )
    if nested:
        return [piece for part in cast(Any, mask) for piece in _pieces(part)]
    return [np.atleast_1d(np.asarray(mask, dtype=bool))]


def _has_text(space: Any) -> bool:
    inner: Any = getattr(space, "spaces", ())
    return isinstance(space, spaces.Text) or any(map(_has_text, getattr(inner, "values", lambda: inner)()))
