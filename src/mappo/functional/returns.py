"""Advantages and returns of trajectories, as pure functions over any batch shape `(T, *B)`.

Two flags mark the two kinds of ends. `done`: the episode ended by itself and nothing follows, so the next value is
zero. `traj_flag`: the trajectory is cut here (a time limit, the end of a life, the end of the batch). No advantage
flows back across a cut, but `next_value` still counts. `done` cuts as well.

`next_value[t]` is V(s_{t+1}) of the state reached by the action, *before* any reset. Flags are boolean or 0/1 and may
lack trailing axes of the reward, such as `(T, E)` against `(T, E, A)`. Inputs are never changed.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from mappo.functional.shapes import append_axes, check_alike


class gae_data(NamedTuple):
    """Input of `gae`; each `(T, *B)`, flags may lack trailing axes. `traj_flag=None` means `done`."""

    value: Tensor
    next_value: Tensor
    reward: Tensor
    done: Tensor | None = None
    traj_flag: Tensor | None = None


def gae(data: gae_data | Sequence[Tensor | None], gamma: float = 0.99, lambda_: float = 0.97) -> Tensor:
    """Compute generalised advantage estimates, arXiv:1506.02438, equation 16, in their recursive form.

        delta_t = r_t + gamma * (1 - done_t) * V(s_{t+1}) - V(s_t)
        A_t     = delta_t + gamma * lambda * (1 - cut_t) * A_{t+1},    cut_t = done_t or traj_flag_t

    Args:
        data: `gae_data`, or five tensors in its order.
        gamma: discount factor, in [0, 1].
        lambda_: in [0, 1]; 0 gives the TD error, 1 the Monte-Carlo return minus the value.

    Returns:
        Advantages `(T, *B)`. Gradients flow through them: call `gae` under `torch.no_grad()` for a policy loss.

    Raises:
        ValueError: a shape does not fit.
        TypeError: a value or reward is not floating point.
    """
    value, next_value, reward, done, traj_flag = gae_data(*cast(gae_data, data))
    alive, flows = _flags(next_value, reward, done, traj_flag)
    check_alike("reward", reward, value=value)
    delta = reward + gamma * alive * next_value - value
    decay = (gamma * lambda_ * flows).expand_as(delta)
    advantage = torch.zeros_like(delta[0])
    backwards: list[Tensor] = []
    for delta_t, decay_t in zip(reversed(delta.unbind()), reversed(decay.unbind()), strict=True):
        advantage = torch.addcmul(delta_t, decay_t, advantage)
        backwards.append(advantage)
    return torch.stack(backwards[::-1])


def discounted_return(
    next_value: Tensor,
    reward: Tensor,
    done: Tensor | None = None,
    traj_flag: Tensor | None = None,
    gamma: float = 0.99,
) -> Tensor:
    """Compute the discounted return, G_t = r_t + gamma * G_{t+1}, Sutton & Barto (2018), equation 3.9.

    Where a trajectory is cut without being done, and at the last step, `next_value` stands for the rest of the return.
    Pass zeros to sum the rewards of the batch alone.

    Args:
        next_value: V(s_{t+1}), `(T, *B)`.
        reward: `(T, *B)`.
        done: `(T, *B)`, trailing axes may be missing; None for never.
        traj_flag: as `done`.
        gamma: discount factor, in [0, 1].

    Returns:
        Returns `(T, *B)`.

    Raises:
        ValueError: a shape does not fit.
        TypeError: a value or reward is not floating point.
    """
    alive, flows = _flags(next_value, reward, done, traj_flag)
    bootstrap = gamma * alive * next_value
    flows = (flows != 0).expand_as(reward)
    total = bootstrap[-1] + reward[-1]  # the batch ends here, whatever the flags say
    backwards = [total]
    for t in range(len(reward) - 2, -1, -1):
        total = reward[t] + torch.where(flows[t], gamma * total, bootstrap[t])
        backwards.append(total)
    return torch.stack(backwards[::-1])


def n_step_return(
    next_value: Tensor,
    reward: Tensor,
    done: Tensor | None = None,
    traj_flag: Tensor | None = None,
    gamma: float = 0.99,
    n: int = 5,
) -> Tensor:
    """Compute n-step returns, n rewards and then the value, Sutton & Barto (2018), equation 7.1, up to each cut.

        G^(k)_t = r_t + gamma * (1 - done_t) * (V(s_{t+1}) if k = 1 or cut_t else G^(k-1)_{t+1})

    Args:
        next_value: V(s_{t+1}), `(T, *B)`.
        reward: `(T, *B)`.
        done: `(T, *B)`, trailing axes may be missing; None for never.
        traj_flag: as `done`.
        gamma: discount factor, in [0, 1].
        n: number of rewards, at least 1.

    Returns:
        Returns `(T, *B)`.

    Raises:
        ValueError: a shape does not fit, or n < 1.
        TypeError: a value or reward is not floating point.
    """
    if n < 1:
        raise ValueError(f"n_step_return: n must be at least 1, got {n}")
    alive, flows = _flags(next_value, reward, done, traj_flag)
    cut = (flows == 0).expand_as(reward).clone()
    cut[-1].fill_(True)  # the batch ends here, whatever the flags say
    rest = next_value
    result = reward + gamma * alive * rest
    for _ in range(min(n, reward.shape[0]) - 1):
        rest = torch.where(cut, next_value, result.roll(-1, dims=0))
        result = reward + gamma * alive * rest
    return result


def _flags(next_value: Tensor, reward: Tensor, done: Tensor | None, traj_flag: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return `1 - done` and `1 - cut`, in the reward's dtype, each broadcastable to the reward."""
    if reward.ndim == 0 or reward.shape[0] == 0:
        raise ValueError(f"reward must be (T, *B) with T > 0, got shape {tuple(reward.shape)}")
    check_alike("reward", reward, next_value=next_value)
    ended = _flag("done", done, reward)
    return 1 - ended, (1 - ended) * (1 - _flag("traj_flag", traj_flag, reward))


def _flag(name: str, flag: Tensor | None, reward: Tensor) -> Tensor:
    if flag is None:
        return torch.zeros_like(reward)
    if flag.ndim == 0 or flag.shape != reward.shape[: flag.ndim]:
        raise ValueError(f"{name} must have the reward's leading axes {tuple(reward.shape)}, got {tuple(flag.shape)}")
    return append_axes(flag.to(reward.dtype), reward.ndim)
