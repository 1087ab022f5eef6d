"""What batched environments share whose episodes all begin and end together, at a time limit."""

from torch import Tensor

from mappo.types import TimeStep


def time_step(everyone: Tensor, obs: Tensor, next_obs: Tensor, reward: Tensor, *, first: bool, ended: bool) -> TimeStep:
    """A `TimeStep` without state, masks or deaths; whether it is the first or the last is known on the host.

    Args:
        everyone: `(E, A)`, all True. obs, next_obs: `(E, A, O)`. reward: `(E, A)`.
    """
    nobody = ~everyone
    return TimeStep(
        obs=obs,
        state=None,
        mask=None,
        active=everyone,
        is_first=everyone if first else nobody,
        reward=reward,
        terminated=nobody,
        ended=(everyone if ended else nobody)[:, 0],
        next_obs=next_obs,
        next_state=None,
        next_active=everyone,
    )
