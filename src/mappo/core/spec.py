"""Who plays: agents, what each sees and does, and the padded layout in which tensors hold them side by side.

Loads no torch: the workers that step Python environments read it too, and need numpy alone.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from gymnasium import spaces

from mappo.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class ActionHeads:
    """One agent's action: a choice for each categorical head, then a number for each continuous one.

    `low` and `high` bound the numbers, `start` is what the first choice of each categorical head is called, and
    `shape` that of an action in the agent's own space: `()` for a plain number. `from_space` reads all from a space.
    """

    categorical: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    start: tuple[int, ...] | None = None  # zeros
    shape: tuple[int, ...] | None = None  # (number of heads,); () of one choice alone

    def __post_init__(self) -> None:
        if self.start is None:
            object.__setattr__(self, "start", (0,) * len(self.categorical))
        if self.shape is None:
            object.__setattr__(
                self, "shape", () if (len(self.categorical), self.continuous) == (1, 0) else (self.size,)
            )
        if len(self.low) != len(self.high) or any(not a < b for a, b in zip(self.low, self.high, strict=True)):
            raise UserError(f"each number of an action needs a low bound below its high one: {self.low}, {self.high}")
        if not self.size or any(n < 1 for n in self.categorical):
            raise UserError(f"an agent needs something to choose, got {self}")

    @property
    def continuous(self) -> int:
        return len(self.low)

    @property
    def size(self) -> int:
        return len(self.categorical) + len(self.low)

    @staticmethod
    def from_space(space: spaces.Space[Any]) -> ActionHeads:
        """Of a gymnasium space: Discrete, MultiDiscrete, MultiBinary, or Box of floats.

        Raises:
            UserError: it is another.
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
        """An action of the agent's own space, from its heads side by side: `(*B, size)` -> `(*B, *shape)`.

        Arrays and tensors both; of an agent that only chooses, integers.
        """
        if not self.categorical:
            return columns.reshape((*columns.shape[:-1], *cast(Any, self.shape)))
        start, array = (*cast(Any, self.start), *(0,) * self.continuous), isinstance(columns, np.ndarray)
        if not self.continuous:
            columns = columns.astype(np.int64) if array else columns.long()
        columns = columns + (np.array(start) if array else columns.new_tensor(start))
        return columns.reshape((*columns.shape[:-1], *cast(Any, self.shape)))


@dataclass(frozen=True)
class Spec:
    """All that a network needs to know of an environment. Tuples are in the order of the agents.

    Agents may differ; an environment gives them side by side in one *padded layout*. Observations are images
    `(H, W, C)`, alike for all, or vectors, the shorter ones with zeros behind. Action columns `(D)` are the
    categorical heads, as many as any agent has and each as large as anyone's, then the continuous ones; what an
    agent lacks is a choice of one, or is ignored.
    """

    agents: tuple[str, ...]
    obs_spaces: tuple[spaces.Space[Any], ...]
    action_heads: tuple[ActionHeads, ...]
    groups: tuple[int, ...] = ()  # agents of one group may share parameters; by default those whose spaces are alike
    state_shape: tuple[int, ...] | None = None  # None: the environment has no state of its own
    shared_reward: bool = False  # every agent gets the same number, which is then the team's

    def __post_init__(self) -> None:
        if not len(self.agents) == len(self.obs_spaces) == len(self.action_heads) or not self.agents:
            raise UserError("a Spec needs at least one agent, and an observation space and action heads for each")
        if any(space.shape is None for space in self.obs_spaces):
            raise UserError(f"observations must be arrays, got {self.obs_spaces}: see gymnasium.spaces.flatten_space")
        seen = {cast("tuple[int, ...]", space.shape) for space in self.obs_spaces}
        if len(seen) > 1 and any(len(shape) == 3 for shape in seen):
            raise UserError(f"agents that see images must all see images of one shape, got {sorted(seen, key=str)}")
        if not self.groups:
            kinds = [(s.shape, heads) for s, heads in zip(self.obs_spaces, self.action_heads, strict=True)]
            object.__setattr__(self, "groups", tuple(kinds.index(kind) for kind in kinds))
        order = sorted(set(self.groups))
        if len(self.groups) != len(self.agents):
            raise UserError(f"a Spec of {len(self.agents)} agents got {len(self.groups)} groups")
        object.__setattr__(self, "groups", tuple(order.index(group) for group in self.groups))

    @property
    def num_agents(self) -> int:
        return len(self.agents)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Of each agent's observation, padded: an image `(H, W, C)`, or `(O,)`."""
        shape = cast("tuple[int, ...]", self.obs_spaces[0].shape)
        if len(shape) == 3:
            return (*shape[1:], shape[0]) if self._is_channels_first else shape
        return (max(map(self.obs_size, range(self.num_agents))),)

    @property
    def _is_channels_first(self) -> bool:
        return is_channels_first(cast("tuple[int, ...]", self.obs_spaces[0].shape))

    def to_channels_last(self, image: Any) -> Any:
        """Images of an agent's own space, `(*B, C, H, W)` or `(*B, H, W, C)`, as `(*B, H, W, C)`; arrays or tensors."""
        if not self._is_channels_first:
            return image
        return image.movedim(-3, -1) if hasattr(image, "movedim") else np.moveaxis(image, -3, -1)

    @property
    def obs_dtype(self) -> torch.dtype:
        """uint8 where all observe bytes, else float32."""
        import torch

        return torch.uint8 if self.observes_bytes else torch.float32

    @property
    def observes_bytes(self) -> bool:
        """All agents observe uint8."""
        return all(s.dtype == np.uint8 for s in self.obs_spaces)

    def obs_size(self, agent: int) -> int:
        """Numbers in one agent's own observation, without the padding."""
        return math.prod(cast("tuple[int, ...]", self.obs_spaces[agent].shape))

    @cached_property
    def heads(self) -> tuple[int, ...]:
        """Sizes of the padded categorical heads; N is their sum."""
        own = [h.categorical for h in self.action_heads]
        return tuple(max(sizes) for sizes in itertools.zip_longest(*own, fillvalue=1))

    @property
    def continuous(self) -> int:
        """Padded continuous heads (C)."""
        return max(h.continuous for h in self.action_heads)

    @property
    def action_size(self) -> int:
        """Columns of an action (D)."""
        return len(self.heads) + self.continuous

    @property
    def action_dtype(self) -> torch.dtype:
        """int64, or float32 (torch's default) where any agent has continuous heads."""
        import torch

        return torch.get_default_dtype() if self.continuous else torch.int64

    def action_columns(self, agent: int) -> list[int]:
        """Where one agent's own heads stand among the D columns of an action."""
        own, first = self.action_heads[agent], len(self.heads)
        return [*range(len(own.categorical)), *range(first, first + own.continuous)]

    def choice_indices(self, agent: int) -> list[int]:
        """Where one agent's own choices, head by head, stand among the N of a mask."""
        ends = list(itertools.accumulate(self.heads))
        own = self.action_heads[agent].categorical
        return [end - n + i for size, n, end in zip(own, self.heads, ends, strict=False) for i in range(size)]

    @property
    def static_mask_tensor(self) -> Tensor:
        """`static_mask` as a tensor."""
        import torch

        return torch.as_tensor(self.static_mask)

    @cached_property
    def static_mask(self) -> np.ndarray:
        """Which choices each agent has at all, bool `(A, N)`: of a head that it lacks, the first one."""
        legal = np.zeros((self.num_agents, sum(self.heads)), dtype=bool)
        firsts = [end - n for n, end in zip(self.heads, itertools.accumulate(self.heads), strict=True)]
        for agent, own in enumerate(self.action_heads):
            legal[agent, [*self.choice_indices(agent), *firsts[len(own.categorical) :]]] = True
        return legal

    def parameter_sets(self, sharing: Literal["group", "all", "none"]) -> tuple[int, ...]:
        """Of each agent, the set of parameters that it uses."""
        every = range(self.num_agents)
        return {"group": self.groups, "all": (0,) * self.num_agents, "none": tuple(every)}[sharing]

    def needs_agent_id(self, sharing: Literal["group", "all", "none"]) -> bool:
        """Agents of different groups share parameters, and need an id to be told apart."""
        sets = self.parameter_sets(sharing)
        return any(group != self.groups[sets.index(name)] for group, name in zip(self.groups, sets, strict=True))

    def mismatch(self, other: Spec) -> str:
        """What of another environment's agents is not as it is here; nothing if a policy fits both."""
        shapes = [[s.shape for s in spec.obs_spaces] for spec in (self, other)]
        for what, mine, theirs in (
            ("the agents are", self.agents, other.agents),
            ("they observe arrays of", *shapes),
            ("they act by", self.action_heads, other.action_heads),
        ):
            if mine != theirs:
                return f"{what} {mine} there and {theirs} here"
        return ""

    def team_reward(self, reward: Tensor) -> Tensor:
        """The team's reward `(*B)` of its agents' `(*B, A)`: their sum, or the number that all of them share."""
        return reward[..., 0] if self.shared_reward else reward.sum(-1)


def is_channels_first(shape: tuple[int, ...]) -> bool:
    """Of an image: height and width are the neighbours most alike in size; the last axis is channels if in doubt."""
    first, middle, last = shape
    return max(middle, last) * min(first, middle) < max(first, middle) * min(middle, last)
