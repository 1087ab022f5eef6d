"""Conversion between an agent's own spaces and its row in the padded layout of a `Spec`. Loads no torch."""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from mappo.core.obs_inputs import inputs_of
from mappo.core.observations import parts_of
from mappo.core.spec import ActionHeads, Spec
from mappo.envs.vector.api_checks import check_mask
from mappo.envs.vector.rules import Finding, RuleError, broken
from mappo.envs.vector.space_readers import reader, undeclared
from mappo.errors import UserError


class Flattener:
    """Reader of the values of a space: images `(H, W, C)` or `(C, H, W)` stay images, all else becomes vectors.

    Args:
        what: the values, for messages, such as `the observation of agent_0`.
        space: a gymnasium space of a fixed size; a space of neither vectors nor images is flattened.
        shape_rule: the rule against values of another shape.

    Raises:
        UserError: the space has no fixed size.
    """

    def __init__(self, what: str, space: Any, shape_rule: str = "obs-shape") -> None:
        self.what = what
        self.own_space = space
        self.space: Any = space
        is_box = isinstance(space, spaces.Box)
        if not is_box or len(space.shape) not in (1, 3):
            try:
                self.space = spaces.flatten_space(space)
            except (ValueError, NotImplementedError):
                self.space = None
            # gymnasium flattens a letter to its place in the alphabet: a meaningless number.
            if not isinstance(self.space, spaces.Box) or _has_text(space):
                raise UserError(
                    f"{what} has the space {space}, which does not flatten to a fixed count of numbers: use a Box"
                )
        self.size = math.prod(self.space.shape)
        keep = np.uint8 if self.space.dtype == np.uint8 else np.float32  # kept as bytes or as floats
        # Returns a value as an array in the shape of its Box, or as a vector, and raises a RuleError for a bad value.
        self.read = reader(what, space, shape_rule, keep).read
        self._shape: Any = space.shape if is_box or isinstance(space, spaces.MultiBinary) else self.space.shape
        self.parts = parts_of(cast(Any, space))
        self.inputs = inputs_of(cast(Any, space))

    def own_part(self, row: np.ndarray) -> np.ndarray:
        """Return the view of padded rows, `(*B, H, W, C)` or `(*B, O)`, in the shape that `read` returns."""
        if row.shape[-3:] == self._shape:
            return row
        if len(self._shape) == 3 and row.shape[-3:] == (*self._shape[1:], self._shape[0]):
            return np.moveaxis(row, -1, -3)
        return row[..., : self.size].reshape((*row.shape[:-1], *self._shape))


class AgentSpaces:
    """Observations, masks and actions of an agent, in the agent's own form and in the padded layout.

    Args:
        name: the agent's name.
        obs_space: its observation space; PettingZoo's `Dict(observation=..., action_mask=...)` stands for the
            observation alone.
        action_space: its action space.

    Raises:
        UserError: the kind of a space is not supported.
    """

    def __init__(self, name: str, obs_space: Any, action_space: Any) -> None:
        self.name = name
        self.heads = ActionHeads.from_space(action_space)
        self._action_space = action_space
        self._is_wrapped = True  # a dict holds the observation beside the mask
        if isinstance(obs_space, spaces.Dict):
            # An ordered dict keeps its order: gymnasium sorts the keys of any other dict.
            subspaces: OrderedDict[str, Any] = OrderedDict(cast(Any, obs_space.spaces))
            subspaces.pop("action_mask", None)
            self._is_wrapped = set(subspaces) == {"observation"}
            obs_space = cast(Any, subspaces["observation"] if self._is_wrapped else spaces.Dict(subspaces))
        self.flattener = Flattener(f"the observation of {name}", obs_space)

    def set_columns(self, spec: Spec, index: int) -> None:
        """Store the agent's place in the padded layout, once the spaces of all agents are known."""
        self._columns = np.array(spec.action_columns(index), dtype=np.intp)

    def read_obs(self, value: Any) -> np.ndarray:
        """Return an observation in the shape of its Box, or as a vector; not necessarily a copy.

        Raises:
            RuleError: the observation is not in its space.
        """
        return self.flattener.read(self.unwrapped(value))

    def unwrapped(self, value: Any) -> Any:
        """Return an observation without the dict that holds it beside its mask.

        Raises:
            RuleError: the dict holds no observation.
        """
        if not self._is_wrapped or not isinstance(value, Mapping):
            return value
        held = cast("Mapping[Any, Any]", value)
        if "observation" not in held:
            keys = f"a dict of {', '.join(map(str, held))}"
            fact = "a dict of observation"
            raise RuleError(broken("obs-space", what=self.flattener.what, value=keys, space=fact))
        return held["observation"]

    def check_keys(self, value: Any) -> Iterator[Finding]:
        """Find keys in a readable observation that its space does not declare."""
        for what, keys in undeclared(self.flattener.what, self.flattener.own_space, self.unwrapped(value)):
            yield broken("obs-extra", str(self.name), what=what, keys=keys)

    def read_mask(self, mask: Any) -> np.ndarray:
        """Return an action mask, flat or head by head, as bool `(sum of own heads,)`.

        Raises:
            RuleError: the mask has another size or other values than 0 and 1, or allows nothing.
        """
        legal = check_mask(self.name, self.heads.categorical, mask)
        if isinstance(legal, Finding):
            raise RuleError(legal)
        return legal

    def to_env_action(self, action: np.ndarray) -> list[Any]:
        """Return the agent's padded actions `(E, D)` as E actions of its own space."""
        space = self._action_space
        env_actions: Any = self.heads.to_space_action(action[:, self._columns])
        if isinstance(space, spaces.Discrete):
            return env_actions.tolist()
        env_actions = env_actions.astype(space.dtype)
        if isinstance(space, spaces.Box):
            env_actions = env_actions.clip(space.low, space.high)  # bounds in float64 may lie within those in float32
        return [env_actions[i, ...] for i in range(len(env_actions))]


def _has_text(space: Any) -> bool:
    inner: Any = getattr(space, "spaces", ())
    return isinstance(space, spaces.Text) or any(map(_has_text, getattr(inner, "values", lambda: inner)()))
