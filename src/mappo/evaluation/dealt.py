"""Episodes dealt out over the processes of a run: each plays a slice of each batch, and all have all returns.

The episodes, their random numbers and the order of batches are those of a single process.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mappo.backend.ranks import ALONE, Ranks
from mappo.core.protocols import Sampling, TeamPolicy
from mappo.core.slices import equal_slices
from mappo.core.spec import Spec
from mappo.errors import StopTraining, UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Episodes:
    """Undiscounted raw returns of each agent `(N, A)` and of the team `(N,)`, and lengths `(N,)`, of N episodes."""

    returns: np.ndarray
    team_returns: np.ndarray
    lengths: np.ndarray

    def first(self, count: int) -> "Episodes":
        """Return the first episodes."""
        return Episodes(self.returns[:count], self.team_returns[:count], self.lengths[:count])


class CutOffError(UserError):
    """Raised if episodes reach no end: workers are lost again and again, or an episode goes on for ever.

    Later episodes may succeed.
    """


@dataclass(frozen=True)
class Deal:
    """Processes which play episodes together.

    Args:
        ranks: the processes, with the same policy. The environment of each has room for its slice of a batch.
        num_envs: episodes of a batch, over all processes; None for as many as the environment of a single process has.
    """

    ranks: Ranks = ALONE
    num_envs: int | None = None

    def play(
        self,
        play: Callable[[TeamPolicy, Sequence[int]], Episodes],
        policy: TeamPolicy,
        spec: Spec,
        seeds: Sequence[int],
    ) -> Episodes:
        """Play a batch of episodes; return the whole batch in each process.

        Args:
            play: plays episodes of a policy from reset seeds.
            policy: acts for all agents.
            spec: the environment's.
            seeds: reset seeds of the batch.

        Raises:
            StopTraining, UserError: see `together`.
        """
        if self.ranks.size == 1:
            return play(policy, seeds)
        part = equal_slices(len(seeds), self.ranks.size)[self.ranks.rank]
        dealt_policy = _OwnNoise(policy, spec, part.start, self.num_envs or len(seeds))
        played = together(self.ranks, lambda: play(dealt_policy, seeds[part]) if seeds[part] else None)
        # A column for each episode, set by one process: the sum is exact.
        table = torch.zeros(spec.num_agents + 2, len(seeds), dtype=torch.float64)
        if played is not None:
            columns = np.vstack([played.returns.T, played.team_returns, played.lengths])
            table[:, part] = torch.from_numpy(columns)
        *returns, team_returns, lengths = self.ranks.sum(table).numpy()
        dealt_policy.skip_batch(int(lengths.max()))
        return Episodes(np.stack(returns, 1), team_returns, lengths.astype(np.int64))


class _OwnNoise:
    """A policy that samples the actions of some episodes by the random numbers they have among all.

    Args:
        policy: the policy; see `Sampling`.
        spec: the environment's.
        first: row of the first of the episodes.
        num_envs: rows of all episodes.
    """

    def __init__(self, policy: TeamPolicy, spec: Spec, first: int, num_envs: int) -> None:
        self._policy = policy
        self._row = spec.num_agents * spec.action_size
        self._first = first
        self._num_envs = num_envs
        found = policy.generator if isinstance(policy, Sampling) else None
        self._generator = found or torch.Generator()  # other policies draw nothing
        self._start = self._generator.get_state()

    def __call__(self, obs: Tensor, memory: Any = None, **others: Any) -> tuple[Tensor, Any]:
        before = self._generator.get_state()
        self._skip(self._first)
        result = self._policy(obs, memory, **others)
        self._generator.set_state(before)
        self._skip(self._num_envs)
        return result

    def skip_batch(self, steps: int) -> None:
        """Leave the generator as after the steps of the whole batch: other episodes may be longer."""
        self._generator.set_state(self._start)
        for _ in range(steps):
            self._skip(self._num_envs)

    def _skip(self, rows: int) -> None:
        torch.rand(rows * self._row, generator=self._generator, device=self._generator.device)


def together(ranks: Ranks, work: Callable[[], T]) -> T:
    """Do work in all processes; where it fails in some, raise the same error in all.

    Args:
        ranks: the processes.
        work: must not call methods of `ranks`.

    Raises:
        StopTraining: a process was stopped.
        UserError: the work of a process failed; a `CutOffError` if no other error was found.
    """
    if ranks.size == 1:
        return work()
    results: list[T] = []
    error: BaseException | None = None
    try:
        results.append(work())
    except (UserError, StopTraining, KeyboardInterrupt) as caught:
        error = caught
    severity = _severity(error)
    [worst] = ranks.largest(severity)
    if not worst:
        return results[0]
    if worst == _STOP:
        raise error if error is not None and severity == _STOP else StopTraining
    text = ranks.first_text(str(error) if severity == worst else "")
    raise CutOffError(text) if worst == _CUT_OFF else UserError(text)


_CUT_OFF = 1
_FAILURE = 2
_STOP = 3


def _severity(error: BaseException | None) -> int:
    """Return which of several errors counts, the larger."""
    if error is None:
        return 0
    if isinstance(error, CutOffError):
        return _CUT_OFF
    return _FAILURE if isinstance(error, UserError) else _STOP
