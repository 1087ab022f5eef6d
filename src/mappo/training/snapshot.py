"""The state of a run after its last finished update, to return to from within the next update."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from mappo.algorithms.mappo import MAPPO
from mappo.rollouts.collector import Collector


class Snapshot:
    """Copy of the state of all learners, and of their collector."""

    def __init__(self, agents: Sequence[MAPPO], collector: Collector) -> None:
        self._agents = agents
        self._collector = collector
        self._agent_states = [_copy(agent.state_dict()) for agent in agents]
        self._collector_states = [_copy(collector.state_dict(k)) for k in range(len(agents))]

    def restore(self) -> None:
        """Restore the state. Environments without `state_dict` stay where they are."""
        for agent, state in zip(self._agents, self._agent_states, strict=True):
            agent.load_state_dict(state)
        self._collector.load_state_dict(*self._collector_states)


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in state.items()}
