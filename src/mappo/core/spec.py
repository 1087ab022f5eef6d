"""Description of an environment: agents, observation spaces, action heads, and their padded layout in tensors.

Networks are built from a `Spec`. Loads no torch: workers that step Python environments import this module too.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from gymnasium import spaces

from mappo.config.settings import EnvOptions
from mappo.core.obs_inputs import ObsInput, flat_inputs
from mappo.core.observations import ObsPart, channels_last, is_channels_first, part_shapes, parts_of
from mappo.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

UNBOUNDED = 1e30  # float32's largest numbers stand for no bounds


@dataclass(frozen=True)
class ActionHeads:
    """Heads of an agent's action: a choice for each categorical head, then a number for each continuous head."""

    categorical: tuple[int, ...] = ()  # number of choices of each categorical head
    low: tuple[float, ...] = ()  # lower bound of each continuous head
    high: tuple[float, ...] = ()  # upper bound of each continuous head
    start: tuple[int, ...] | None = None  # number of the first choice of each categorical head; by default zeros
    shape: tuple[int, ...] | None = None  # of an action in the agent's space; by default (size,), () for one choice

    def __post_init__(self) -> None:
        if self.start is None:
            object.__setattr__(self, "start", (0,) * len(self.categorical))
        if self.shape is None:
            object.__setattr__(self, "shape", () if len(self.categorical) == self.size == 1 else (self.size,))
        if len(self.low) != len(self.high) or any(not a < b for a, b in zip(self.low, self.high, strict=True)):
            raise UserError(f"each number of an action needs a low bound below its high one: {self.low}, {self.high}")
        if not self.size or any(n < 1 for n in self.categorical):
            raise UserError(f"an agent needs something to choose, got {self}")

    @property
    def continuous(self) -> int:
        """Number of continuous heads."""
        return len(self.low)

    @property
    def size(self) -> int:
        """Number of heads."""
        return len(self.categorical) + len(self.low)

    @staticmethod
    def from_space(space: spaces.Space[Any]) -> ActionHeads:
        """Return the heads of a gymnasium space: Discrete, MultiDiscrete, MultiBinary, or Box of floats.

        Raises:
            UserError: the space is of another kind.
        """
        if isinstance(space, spaces.Discrete):
            return ActionHeads((int(space.n),), start=(int(space.start),), shape=())
        if isinstance(space, spaces.MultiDiscrete):
            sizes, start = (np.asarray(x).ravel().tolist() for x in cast(Any, (space.nvec, space.start)))
            return ActionHeads(tuple(sizes), start=tuple(start), shape=space.shape)
        if isinstance(space, spaces.MultiBinary):
            return ActionHeads((2,) * math.prod(space.shape), shape=space.shape)
        if isinstance(space, spaces.Box) and np.issubdtype(cast(Any, space.dtype), np.floating):
            low, high = (bound.astype(float).ravel().tolist() for bound in cast(Any, (space.low, space.high)))
            return ActionHeads(low=tuple(low), high=tuple(high), shape=space.shape)
        raise UserError(
            f"actions in {space} are not supported: use Discrete, MultiDiscrete, MultiBinary or Box of floats"
        )

    def to_space_action(self, columns: Any) -> Any:
        """Convert actions to the agent's own space: an array or tensor `(*B, size)` of heads to `(*B, *shape)`.

        Without continuous heads the result holds integers.
        """
        if not self.categorical:
            return columns.reshape((*columns.shape[:-1], *cast(Any, self.shape)))
        start = (*cast(Any, self.start), *(0,) * self.continuous)
        is_array = isinstance(columns, np.ndarray)
        if not self.continuous:
            columns = cast(Any, columns).astype(np.int64) if is_array else columns.long()
        columns = columns + (np.array(start) if is_array else columns.new_tensor(start))
        return columns.reshape((*columns.shape[:-1], *cast(Any, self.shape)))


@dataclass(frozen=True)
class Spec:
    """Description of an environment, sufficient to build networks. Tuples are in the order of the agents.

    Agents may differ. Tensors hold all agents side by side in a *padded layout*:

    - Observations are images `(H, W, C)`, of equal shape for all agents, or vectors, padded with zeros. A vector may
      hold images: see `obs_parts`.
    - Action columns `(D)` are the categorical heads, then the continuous heads. Number and sizes of heads are the
      maxima over agents. A missing categorical head has a single choice; a missing continuous head is ignored.
    """

    agents: tuple[str, ...]
    obs_spaces: tuple[spaces.Space[Any], ...]
    action_heads: tuple[ActionHeads, ...]
    groups: tuple[int, ...] = ()  # agents of a group may share parameters; by default: equal spaces
    state_shape: tuple[int, ...] | None = None  # None: the environment has no state
    shared_reward: bool = False  # all agents get the same number: the team's reward
    late_rewards: bool = True  # agents that are gone may be paid; runs of earlier versions left such rewards out
    obs_parts: tuple[tuple[ObsPart, ...], ...] = ()  # parts of each observation; by default those of `obs_spaces`
    state_parts: tuple[ObsPart, ...] = ()  # parts of the state; empty: numbers without bounds, or an image
    obs_inputs: tuple[tuple[ObsInput, ...], ...] = ()  # arrays of each observation; by default a single one

    def __post_init__(self) -> None:
        if not len(self.agents) == len(self.obs_spaces) == len(self.action_heads) or not self.agents:
            raise UserError("a Spec needs at least one agent, and an observation space and action heads for each")
        if None in self._shapes:
            raise UserError(f"observations must be arrays, got {self.obs_spaces}: see gymnasium.spaces.flatten_space")
        object.__setattr__(self, "obs_parts", self.obs_parts or tuple(map(parts_of, self.obs_spaces)))
        object.__setattr__(self, "obs_inputs", self.obs_inputs or flat_inputs(self.obs_spaces, self.obs_parts))
        if not self.groups:
            kinds = list(zip(self._shapes, map(part_shapes, self.obs_parts), self.action_heads, strict=True))
            object.__setattr__(self, "groups", tuple(map(kinds.index, kinds)))
        elif len(self.groups) != len(self.agents):
            raise UserError(f"a Spec of {len(self.agents)} agents got {len(self.groups)} groups")
        object.__setattr__(self, "groups", tuple(map(sorted(set(self.groups)).index, self.groups)))

    @property
    def num_agents(self) -> int:
        """Number of agents (A)."""
        return len(self.agents)

    @cached_property
    def _shapes(self) -> list[Any]:
        return [space.shape for space in self.obs_spaces]

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of each agent's observation, padded: an image `(H, W, C)` if all agents see one, else `(O,)`."""
        if len(self._shapes[0]) == 3 and len(set(self._shapes)) == 1:
            return channels_last(self._shapes[0])
        return (max(map(math.prod, self._shapes)),)

    def to_channels_last(self, image: Any) -> Any:
        """Convert images of the agents' space, `(*B, C, H, W)` or `(*B, H, W, C)`, array or tensor, to the latter."""
        if not is_channels_first(self._shapes[0]):
            return image
        return image.movedim(-3, -1) if hasattr(image, "movedim") else np.moveaxis(image, -3, -1)

    @property
    def obs_dtype(self) -> torch.dtype:
        """Dtype of observations: uint8 if all agents observe bytes, else float32."""
        import torch

        return torch.uint8 if self.observes_bytes else torch.float32

    @property
    def observes_bytes(self) -> bool:
        """True if all agents observe uint8."""
        return all(s.dtype == np.uint8 for s in self.obs_spaces)

    def obs_size(self, agent: int) -> int:
        """Return the size of an agent's own observation, without padding."""
        return math.prod(self._shapes[agent])

    @cached_property
    def heads(self) -> tuple[int, ...]:
        """Sizes of the padded categorical heads; the sum is N."""
        return tuple(map(max, itertools.zip_longest(*(h.categorical for h in self.action_heads), fillvalue=1)))

    @property
    def continuous(self) -> int:
        """Number of padded continuous heads (C)."""
        return max(h.continuous for h in self.action_heads)

    @property
    def action_size(self) -> int:
        """Number of columns of an action (D)."""
        return len(self.heads) + self.continuous

    @property
    def action_dtype(self) -> torch.dtype:
        """Dtype of actions: int64, or torch's default (float32) if any agent has continuous heads."""
        import torch

        return torch.get_default_dtype() if self.continuous else torch.int64

    def action_columns(self, agent: int) -> list[int]:
        """Return the indices of an agent's own heads among the D columns of an action."""
        heads = self.action_heads[agent]
        return [*range(len(heads.categorical)), *range(len(self.heads), len(self.heads) + heads.continuous)]

    def choice_indices(self, agent: int) -> list[int]:
        """Return the indices of an agent's own choices, head by head, among the N entries of a mask."""
        sizes = self.action_heads[agent].categorical
        return [first + i for first, size in zip(self._first_choices, sizes, strict=False) for i in range(size)]

    @property
    def _first_choices(self) -> list[int]:
        return [0, *itertools.accumulate(self.heads)][: len(self.heads)]

    @cached_property
    def static_mask(self) -> np.ndarray:
        """Choices of each agent in the padded layout, bool `(A, N)`. A missing head has its first choice alone."""
        legal = np.zeros((self.num_agents, sum(self.heads)), dtype=bool)
        for agent, heads in enumerate(self.action_heads):
            legal[agent, self.choice_indices(agent) + self._first_choices[len(heads.categorical) :]] = True
        return legal

    @property
    def static_mask_tensor(self) -> Tensor:
        """`static_mask` as a tensor."""
        import torch

        return torch.as_tensor(self.static_mask)

    def parameter_sets(self, sharing: Literal["group", "all", "none"]) -> tuple[int, ...]:
        """Return the index of each agent's parameter set."""
        return {"group": self.groups, "all": (0,) * self.num_agents, "none": tuple(range(self.num_agents))}[sharing]

    def needs_agent_id(self, sharing: Literal["group", "all", "none"], choice: bool | None = None) -> bool:
        """Return `choice`, by default True if agents of different groups share parameters: an id tells them apart."""
        sets = self.parameter_sets(sharing)
        return len(set(zip(self.groups, sets, strict=True))) > len(set(sets)) if choice is None else choice

    def mismatch(self, other: Spec) -> str:
        """Return the first difference to another environment's agents; "" if a policy fits both environments."""
        for subject, mine, theirs in (
            ("the agents are", self.agents, other.agents),
            ("they observe arrays of", self._shapes, other._shapes),
            ("they act by", self.action_heads, other.action_heads),
        ):
            if mine != theirs:
                return f"{subject} {mine} there and {theirs} here"
        for agent, *parts in zip(self.agents, *(map(part_shapes, x.obs_parts) for x in (self, other)), strict=True):
            if parts[0] != parts[1] and min(map(len, parts)) > 1:  # runs of earlier versions know a single part
                return f"{agent} observes parts of {parts[0]} there and {parts[1]} here"
        return ""

    def fit_options(self, options: EnvOptions) -> EnvOptions:
        """Return the options by which an environment gives the numbers of a run with this Spec."""
        return replace(options, agents=self.agents, late_rewards=self.late_rewards)

    def team_reward(self, reward: Tensor) -> Tensor:
        """Return the team's reward `(*B)` from the agents' rewards `(*B, A)`: the sum, or the number common to all."""
        return reward[..., 0] if self.shared_reward else reward.sum(-1)
