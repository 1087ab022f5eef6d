"""What a centralised critic reads, derived from what the rollout keeps."""

from typing import Literal

import torch
from torch import Tensor

from mappo.config import Config
from mappo.errors import UserError
from mappo.types import Spec

CriticInput = Literal["env", "joint", "agent", "own"]


def critic_input(obs: Tensor, state: Tensor | None, active: Tensor, mode: CriticInput) -> Tensor:
    """What the critic reads, derived from what the rollout keeps; the same for acting, update and cuts.

    Args:
        obs: `(*B, A, O)`. state: `(*B, S)` or None. active: `(*B, A)`; a dead agent's observation reads 0.
        mode: `env`, the environment's state; `joint`, all observations side by side; `agent`, for each agent
            the state (or joint observation), its own observation and its one-hot id; `own`, its own (IPPO).

    Returns:
        `(*B, S')` for `env` and `joint`, `(*B, A, S')` for `agent` and `own`.
    """
    if mode == "env":
        if state is None:
            raise ValueError("critic_input 'env' needs an environment with a state")
        return state
    obs = torch.where(active.unsqueeze(-1), obs, 0.0)
    if mode == "own":
        return obs
    joint = obs.flatten(-2)
    if mode == "joint":
        return joint
    team = joint if state is None else state
    agents = obs.shape[-2]
    one_hot = torch.eye(agents, dtype=obs.dtype, device=obs.device).expand(*obs.shape[:-1], agents)
    return torch.cat([team.unsqueeze(-2).expand(*obs.shape[:-1], -1), obs, one_hot], -1)


def critic_input_size(obs_size: int, agents: int, state_size: int | None, mode: CriticInput) -> int:
    """Features of `critic_input`'s result."""
    team = agents * obs_size if state_size is None or mode == "joint" else state_size
    return {"env": team, "joint": team, "agent": team + obs_size + agents, "own": obs_size}[mode]


def choose_critic_input(spec: Spec, config: Config) -> CriticInput:
    """`auto` made definite; see `NetworkConfig.critic_input`."""
    mode = config.network.critic_input
    if mode == "env" and spec.state_shape is None:
        raise UserError("network.critic-input env: this environment gives no state; use joint, agent or own")
    if mode != "auto":
        return mode
    if config.env.reward == "agent":
        return "agent"
    return "joint" if spec.state_shape is None else "env"
