"""Reader of the action masks of a team. Loads no torch."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import numpy as np

from mappo.core.spec import Spec
from mappo.envs.vector.agent_spaces import AgentSpaces
from mappo.envs.vector.rules import RuleError


class MaskReader:
    """Reader of the masks of all agents at once.

    Args:
        agent_spaces: the agents, in order.
        spec: the padded layout.
    """

    def __init__(self, agent_spaces: Sequence[AgentSpaces], spec: Spec) -> None:
        self._agent_spaces = agent_spaces
        self._static_mask = spec.static_mask
        self._joined = np.zeros(spec.static_mask.shape, np.float32)  # (A, N), the numbers of all masks
        starts = list(itertools.accumulate(spec.heads, initial=0))
        self._head_starts = [j * starts[-1] + start for j in range(spec.num_agents) for start in starts[:-1]]

    def read(
        self,
        observations: Mapping[Any, Any],
        infos: Mapping[Any, Any],
        active: Sequence[bool],
        over: Collection[Any],
        legal: np.ndarray,
    ) -> int:
        """Write the masks of active agents to `legal` `(A, N)`; an agent without a mask may choose anything.

        An agent that is `over`, and still active, may have been meant to be dead: a bad mask of it is left out.

        Returns:
            The number of an agent with a mask, counted from 1; 0 if no agent has a mask.

        Raises:
            RuleError: a mask breaks a rule.
        """
        first = 0
        self._joined[...] = self._static_mask
        for j, agent_spaces in enumerate(self._agent_spaces):
            agent = agent_spaces.name
            mask = find_mask(observations[agent], infos.get(agent)) if active[j] else None
            if mask is None:
                continue
            if agent in over or not agent_spaces.mask_fits(mask):
                try:
                    mask = agent_spaces.read_mask(mask)
                except RuleError:
                    if agent not in over:
                        raise
                    continue
            self._joined[j, agent_spaces.choices] = mask
            first = first or (j + 1 if len(mask) else 0)
        np.equal(self._joined, 1, out=legal)
        if first and not self._are_good(legal):
            for agent_spaces, row in zip(self._agent_spaces, self._joined, strict=True):
                agent_spaces.read_mask(row[agent_spaces.choices])
        return first

    def _are_good(self, legal: np.ndarray) -> bool:
        """Return True if all masks hold 0 and 1 alone, and a legal choice for each head."""
        head_is_legal = np.logical_or.reduceat(legal.reshape(-1), self._head_starts)
        has_zeros_and_ones = np.count_nonzero(legal) == np.count_nonzero(self._joined)
        return has_zeros_and_ones and np.count_nonzero(head_is_legal) == head_is_legal.size


def find_mask(observation: Any, info: Any) -> Any:
    """Return an agent's action mask as the environment returned it, or None."""
    # Comparing types spares arrays and dicts the slow `isinstance`.
    if type(observation) is not np.ndarray and isinstance(observation, Mapping) and "action_mask" in observation:
        return cast(Any, observation)["action_mask"]
    return cast(Any, info).get("action_mask") if type(info) is dict or isinstance(info, Mapping) else None
