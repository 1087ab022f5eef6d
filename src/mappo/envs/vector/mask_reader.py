"""Reader of the action masks of a team. Loads no torch."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import numpy as np

from mappo.core.spec import Spec
from mappo.envs.vector.agent_spaces import AgentSpaces
from mappo.envs.vector.api_checks import mask_pieces
from mappo.envs.vector.rules import RuleError, broken

_NUMBERS = "?bBhHiIlLqQefd"  # dtypes, as characters
_REMEMBERED = 1 << 20  # bytes of masks


class MaskReader:
    """Reader of the masks of all agents at once.

    Args:
        agent_spaces: the agents, in order.
        spec: the padded layout.
    """

    def __init__(self, agent_spaces: Sequence[AgentSpaces], spec: Spec) -> None:
        self._agent_spaces = agent_spaces
        sizes = [size for agent in agent_spaces for size in agent.heads.categorical]
        ends = list(itertools.accumulate(sizes, initial=0))
        self._head_starts = ends[:-1]
        self._numbers = np.ones(ends[-1], np.float32)  # of the masks of all agents, side by side
        self._ones = self._numbers.copy()
        self._known = dict[bytes, np.ndarray]()  # the legal choices of masks that broke no rule
        counts = [sum(agent.heads.categorical) for agent in agent_spaces]
        self._parts = np.split(self._numbers, list(itertools.accumulate(counts))[:-1])
        width = sum(spec.heads)
        places = [j * width + choice for j in range(spec.num_agents) for choice in spec.choice_indices(j)]
        # Places of these numbers in a flat mask (A * N). The other places keep the static mask.
        self._places = np.array(places, np.intp) if len(places) < spec.static_mask.size else slice(None)

    def read(
        self,
        observations: Mapping[Any, Any],
        infos: Mapping[Any, Any],
        active: Sequence[bool],
        over: Collection[Any],
        legal: np.ndarray,
    ) -> int:
        """Write the masks of active agents to `legal` `(A, N)`, which holds the static mask at first.

        An agent without a mask may choose anything. A bad mask of an active agent that is `over` is left out.

        Returns:
            The number of an agent with a mask, counted from 1; 0 if no agent has a mask.

        Raises:
            RuleError: a mask breaks a rule.
        """
        first = 0
        for j, (agent_spaces, part) in enumerate(zip(self._agent_spaces, self._parts, strict=True)):
            agent = agent_spaces.name
            mask = find_mask(agent, observations[agent], infos.get(agent), agent in over) if active[j] else None
            if mask is None:
                part.fill(1)
                continue
            is_array = type(mask) is np.ndarray and mask.shape == part.shape and mask.dtype.char in _NUMBERS
            if agent in over or not is_array:
                try:
                    mask = agent_spaces.read_mask(mask)
                except RuleError:
                    if agent not in over:
                        raise
                    mask = True
            part[...] = mask
            first = first or (j + 1 if part.size else 0)
        is_legal = self._known.get(self._numbers.tobytes())
        legal.reshape(-1)[self._places] = self._check(first > 0) if is_legal is None else is_legal
        return first

    def _check(self, is_masked: bool) -> np.ndarray:
        """Return the legal choices of all agents, `(sum of sizes,)`, and remember them.

        Raises:
            RuleError: a mask holds other numbers than 0 and 1, or leaves a head without a legal choice.
        """
        is_legal = self._numbers == self._ones
        if is_masked:
            has_zeros_and_ones = np.count_nonzero(is_legal) == np.count_nonzero(self._numbers)
            if not (has_zeros_and_ones and np.logical_or.reduceat(is_legal, self._head_starts).all()):
                for agent_spaces, part in zip(self._agent_spaces, self._parts, strict=True):
                    agent_spaces.read_mask(part)
        if (len(self._known) + 1) * self._numbers.nbytes > _REMEMBERED:
            self._known.clear()
        self._known[self._numbers.tobytes()] = is_legal
        return is_legal


def find_mask(agent: Any, observation: Any, info: Any, is_over: bool = False) -> Any:
    """Return an agent's action mask as the environment returned it, or None.

    Args:
        agent: the agent's name.
        observation: its observation, maybe with a mask.
        info: its info, maybe with a mask.
        is_over: True for an agent with an end at this step, whose masks may be bad.

    Raises:
        RuleError: observation and info hold different masks.
    """
    # Comparing types spares arrays and dicts the slow `isinstance`.
    is_dict = type(observation) is not np.ndarray and isinstance(observation, Mapping)
    mask = cast(Any, observation).get("action_mask") if is_dict else None
    other = cast(Any, info).get("action_mask") if type(info) is dict or isinstance(info, Mapping) else None
    if mask is None or other is None:
        return other if mask is None else mask
    pieces, other_pieces = ([piece.tolist() for piece in mask_pieces(x)] for x in (mask, other))
    if pieces != other_pieces and not is_over:
        raise RuleError(broken("mask-twice", agent))
    return mask
