"""Conversion between an agent's own spaces and its row in the padded layout of a `Spec`. Loads no torch."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from mappo.core.spec import ActionHeads, Spec
from mappo.envs.vector.api_checks import check_array, check_bounds, check_mask, short
from mappo.envs.vector.rules import Finding, broken
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
        self.space: Any = space
        self._own_space = space
        self._shape_rule = shape_rule
        self._is_box = isinstance(space, spaces.Box)
        if not self._is_box or len(space.shape) not in (1, 3):
            try:
                self.space = spaces.flatten_space(space)
            except (ValueError, NotImplementedError):
                self.space = None
            # gymnasium flattens a letter to its place in the alphabet: a meaningless number.
            if not isinstance(self.space, spaces.Box) or _has_text(space):
                raise UserError(
                    f"{what} has the space {space}, which does not flatten to a fixed count of numbers: use a Box"
                )
        self._shape = cast("tuple[int, ...]", space.shape if self._is_box else self.space.shape)
        self._dtype = np.dtype(np.uint8 if space.dtype == np.uint8 else np.float32)  # kept as bytes or as floats

    def read(self, value: Any) -> np.ndarray:
        """Return a value as a vector `(size,)`.

        Raises:
            UserError: the value is not in the space.
        """
        try:
            x = np.asarray(value if self._is_box else spaces.flatten(self._own_space, value))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            reason = f"{self._own_space} ({type(error).__name__}: {error})"
            raise UserError(str(broken("obs-space", what=self.what, value=short(value), space=reason))) from error
        finding = check_array(self.what, x, self._shape, self._dtype, code=self._shape_rule)
        # Integers of another size are bytes if all lie in the range of bytes.
        if finding is None and self._dtype == np.uint8 and x.dtype != np.uint8:
            finding = check_bounds(self.what, x, 0, 255)
        if finding is not None:
            raise UserError(str(finding))
        return x.reshape(-1)


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
        self.size = spec.obs_size(index)
        self.choices = np.array(spec.choice_indices(index), dtype=np.intp)
        self._columns = np.array(spec.action_columns(index), dtype=np.intp)
        self._to_channels_last = spec.to_channels_last if len(spec.obs_shape) == 3 else None

    def read_obs(self, value: Any) -> np.ndarray:
        """Return an observation as a vector `(own size,)`.

        Raises:
            UserError: the observation is not in its space.
        """
        if self._is_wrapped and isinstance(value, Mapping):
            if "observation" not in value:
                keys = f"a dict of {', '.join(map(str, cast(Any, value)))}"
                finding = broken("obs-space", what=self.flattener.what, value=keys, space="a dict of observation")
                raise UserError(str(finding))
            value = cast(Any, value)["observation"]
        row = self.flattener.read(value)
        if self._to_channels_last is None:
            return row
        return self._to_channels_last(row.reshape(self.flattener.space.shape)).reshape(-1)

    def read_mask(self, mask: Any) -> np.ndarray:
        """Return an action mask, flat or head by head, as bool `(sum of own heads,)`.

        Raises:
            UserError: the mask has another size, or allows nothing.
        """
        legal = check_mask(self.name, self.heads.categorical, mask)
        if isinstance(legal, Finding):
            raise UserError(str(legal))
        return legal

    def to_env_action(self, action: np.ndarray) -> list[Any]:
        """Return the agent's padded actions `(E, D)` as E actions of its own space."""
        env_actions: Any = self.heads.to_space_action(action[:, self._columns])
        space = self._action_space
        if isinstance(space, spaces.Discrete):
            return env_actions.tolist()
        env_actions = env_actions.astype(space.dtype)
        if isinstance(space, spaces.Box):
            env_actions = env_actions.clip(space.low, space.high)  # bounds in float64 may lie within those in float32
        return [env_actions[i, ...] for i in range(len(env_actions))]


def _has_text(space: Any) -> bool:
    inner: Any = getattr(space, "spaces", ())
    return isinstance(space, spaces.Text) or any(map(_has_text, getattr(inner, "values", lambda: inner)()))
