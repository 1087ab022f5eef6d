"""What a centralised critic reads, derived from what the rollout keeps: the same for acting, update and cuts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mappo.config import Config
from mappo.core.spec import Spec
from mappo.errors import UserError

Mode = Literal["env", "joint", "agent", "own", "user"]
# (obs (*B, A, *obs_shape), state (*B, *S) or None, active (*B, A)) -> (*B, F) for the team, or (*B, A, F)
CriticInputFunction = Callable[[Tensor, Tensor | None, Tensor], Tensor]


@dataclass(frozen=True)
class CriticInput:
    """A way to build the critic's rows; `shape` of one, `team_rows` if one stands for the whole team.

    - `env`: the environment's state. `joint`: all observations side by side, a dead agent's as zeros.
    - `agent`, a row for each: the state (or the joint observation), the own observation, a one-hot id.
    - `own`: the own observation (IPPO), and the id if `has_id`. `user`: what a function makes.

    Images are joined along their channels; an id is then a plane for each agent. With `death_mask` the rows of dead
    agents are zeros and the id, before `network.obs_norm`.
    """

    mode: Mode
    shape: tuple[int, ...]
    team_rows: bool
    has_id: bool = False
    death_mask: bool = False
    function: CriticInputFunction | None = None
    has_state: bool = False

    def __call__(self, obs: Tensor, state: Tensor | None, active: Tensor) -> Tensor:
        """Rows `(*B, *shape)` or `(*B, A, *shape)` of `obs (*B, A, *O)`, `state (*B, *S)`, `active (*B, A)`."""
        if self.mode == "env":
            if state is None:
                raise ValueError("critic_input 'env' needs an environment with a state")
            return state
        there = active.reshape(*active.shape, *(1,) * (obs.ndim - active.ndim))
        obs = torch.where(there, obs, 0)
        if self.function is not None:
            return self.function(obs, state, active)
        agents, planes, axis = active.shape[-1], obs.shape[active.ndim : -1], active.ndim - 1
        if self.mode == "own" and not self.has_id:
            return obs
        ids = torch.eye(agents, dtype=obs.dtype, device=obs.device) * (255 if obs.dtype == torch.uint8 else 1)
        ids = ids.reshape(agents, *(1,) * len(planes), agents).expand(*obs.shape[:-1], agents)
        if self.mode == "own":
            return torch.cat([obs, ids], -1)
        joint = obs.movedim(axis, -2).flatten(-2)
        if self.mode == "joint":
            return joint
        team = (joint if state is None else state).unsqueeze(axis).expand(*obs.shape[:-1], -1)
        rows = torch.cat([team, obs], -1)
        if self.death_mask:
            rows = torch.where(there, rows, 0)
        return torch.cat([rows, ids], -1)

    def describe(self) -> str:
        """One line for the user: what the critic reads."""
        what = {
            "env": "the environment's state",
            "joint": "all observations side by side",
            "agent": ("the state" if self.has_state else "all observations") + ", the own observation and an id",
            "own": "the agent's own observation" + (" and id" if self.has_id else ""),
            "user": "what the function given to train makes",
        }[self.mode]
        size = " x ".join(map(str, self.shape)) + (" numbers" if len(self.shape) == 1 else "")
        return f"{what} ({self.mode}), {size}, {'one row for the team' if self.team_rows else 'a row for each agent'}"


def make_critic_input(spec: Spec, config: Config, user: CriticInputFunction | None = None) -> CriticInput:
    """The critic's input that a config asks for; `auto` made definite.

    Raises:
        UserError: the environment has no state, its kind does not fit, or there is no function.
    """
    mode = _resolve_mode(spec, config, user)
    obs, state, net, agents = spec.obs_shape, spec.state_shape, config.network, spec.num_agents
    if net.death_mask and mode != "agent":
        raise UserError(f"network.death-mask is for critic-input agent, and here it is {mode}: leave it out")
    if mode == "user":
        assert user is not None
        made = [_call_on_zeros(user, spec, envs) for envs in (2, 3)]
        team_rows = made[0].ndim in (2, 4)  # (E, F) or an image; else (E, A, F) or images
        lead = [(envs,) if team_rows else (envs, agents) for envs in (2, 3)]
        shape = tuple(made[0].shape[len(lead[0]) :])
        if [tuple(x.shape) for x in made] != [(*rows, *shape) for rows in lead] or len(shape) not in (1, 3):
            raise UserError(
                f"the critic_input function must make (E, F) or (E, {agents}, F) of E environments; of 2 it made "
                f"{tuple(made[0].shape)}, of 3 {tuple(made[1].shape)}"
            )
        if team_rows and config.env.reward == "agent":
            raise UserError("env.reward agent needs a critic row for each agent: the function must make (*B, A, F)")
        return CriticInput(mode, shape, team_rows, function=user)
    if mode == "env":
        assert state is not None
        if len(state) not in (1, 3):
            raise UserError(f"the state must be a vector or an image (H, W, C), not {state}")
        return CriticInput(mode, state, True)
    joint = (*obs[:-1], agents * obs[-1])
    if mode == "joint":
        return CriticInput(mode, joint, True)
    if mode == "own":
        own_id = spec.needs_agent_id(net.sharing) if net.agent_id is None else net.agent_id
        return CriticInput(mode, (*obs[:-1], obs[-1] + own_id * agents), False, own_id)
    team = joint if state is None else state
    if team[:-1] != obs[:-1]:
        raise UserError(
            f"network.critic-input agent joins state {state} and observations {obs}, which are not of one kind: "
            f"use env, joint or own"
        )
    shape = (*obs[:-1], team[-1] + obs[-1] + agents)
    return CriticInput(mode, shape, False, death_mask=net.death_mask, has_state=state is not None)


def _call_on_zeros(user: CriticInputFunction, spec: Spec, envs: int) -> Tensor:
    """What a user's function makes of zeros."""
    agents, obs = spec.num_agents, spec.obs_shape
    zeros = torch.zeros(envs, agents, *obs, dtype=spec.obs_dtype if len(obs) == 3 else torch.float32)
    state = None if spec.state_shape is None else torch.zeros(envs, *spec.state_shape)
    try:
        made: object = user(zeros, state, torch.ones(envs, agents, dtype=torch.bool))
    except Exception as error:
        raise UserError(
            f"the critic_input function failed on observations {tuple(zeros.shape)} and state "
            f"{None if state is None else tuple(state.shape)}: {type(error).__name__} {error}"
        ) from error
    if not isinstance(made, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"the critic_input function must make a tensor, got {type(made).__name__}")
    return made


def _resolve_mode(spec: Spec, config: Config, user: CriticInputFunction | None) -> Mode:
    mode = config.network.critic_input
    if mode == "user" and user is None:
        raise UserError("network.critic-input user: give the function, mappo.train(..., critic_input=function)")
    if user is not None:
        if mode not in ("auto", "user"):
            raise UserError(f"network.critic-input {mode}, and a function was given too: use user or auto")
        return "user"
    if mode == "env" and spec.state_shape is None:
        raise UserError("network.critic-input env: this environment gives no state; use joint, agent or own")
    if mode != "auto":
        return mode
    if config.env.reward == "agent":
        return "agent"
    return "joint" if spec.state_shape is None else "env"
