"""The input of a centralised critic, built from observations and state: the same for acting, updates and cuts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from torch import Tensor

from mappo.config import Config
from mappo.config.settings import NetworkConfig
from mappo.core.observations import Channels, padded_parts
from mappo.core.spec import Spec
from mappo.errors import UserError
from mappo.functional.shapes import append_axes, append_ids
from mappo.networks.actor_critic import CriticRows
from mappo.networks.input_reader import obs_reader, state_reader

Mode = Literal["env", "joint", "agent", "own", "user"]
# (obs (*B, A, *obs_shape), state (*B, *S) or None, active (*B, A)) -> (*B, F) for the team, or (*B, A, F)
CriticInputFunction = Callable[[Tensor, Tensor | None, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class CriticInput(CriticRows):
    """Builder of the critic's rows.

    - `env`: the environment's state.
    - `joint`: all observations side by side; the observation of a dead agent is zeros.
    - `agent`, a row for each agent: the state (or the joint observation), the agent's observation, a one-hot id.
    - `own`: the agent's observation (IPPO), and the id with `has_id`.
    - `user`: the result of a function.

    Images are concatenated along their channels; an id is then a plane for each agent. With `death_mask` the rows of
    dead agents are zeros and the id, before `network.obs_norm`.

    Args:
        mode: see above.
        has_id: `own` appends the id.
        death_mask: see above.
        function: for `user`.
        has_state: `agent` reads the state.
    """

    mode: Mode
    has_id: bool = False
    death_mask: bool = False
    function: CriticInputFunction | None = None
    has_state: bool = False

    def __call__(self, obs: Tensor, state: Tensor | None, active: Tensor) -> Tensor:
        """Build rows `(*B, *shape)` or `(*B, A, *shape)`.

        Args:
            obs: `(*B, A, *O)`.
            state: `(*B, *S)`.
            active: `(*B, A)`.
        """
        if self.mode == "env":
            if state is None:
                raise ValueError("critic_input 'env' needs an environment with a state")
            return state
        is_active = append_axes(active, obs.ndim)
        obs = torch.where(is_active, obs, 0)
        if self.function is not None:
            return self.function(obs, state, active)
        if self.mode == "own" and not self.has_id:
            return obs
        num_agents = active.shape[-1]
        planes = obs.ndim - active.ndim - 1
        ids = torch.eye(num_agents, dtype=obs.dtype, device=obs.device)
        ids = ids * int(self.bytes_scale) if obs.dtype == torch.uint8 else ids
        if self.mode == "own":
            return append_ids(obs, ids, planes)
        agent_axis = active.ndim - 1
        joint = obs.movedim(agent_axis, -2).flatten(-2)
        if self.mode == "joint":
            return joint
        team = (joint if state is None else state).unsqueeze(agent_axis).expand(*obs.shape[:-1], -1)
        rows = torch.cat([team, obs], -1)
        if self.death_mask:
            rows = torch.where(is_active, rows, 0)
        return append_ids(rows, ids, planes)

    def describe(self) -> str:
        """Describe the critic's input for the user, in a line."""
        text = {
            "env": "the environment's state",
            "joint": "all observations side by side",
            "agent": ("the state" if self.has_state else "all observations") + ", the own observation and an id",
            "own": "the agent's own observation" + (" and id" if self.has_id else ""),
            "user": "the result of the critic_input function",
        }[self.mode]
        size = " x ".join(map(str, self.shape)) + (" numbers" if len(self.shape) == 1 else "")
        return f"{text} ({self.mode}), {size}, {'one row for the team' if self.team_rows else 'a row for each agent'}"


def make_critic_input(spec: Spec, config: Config, function: CriticInputFunction | None = None) -> CriticInput:
    """Build the critic's input of a config, with `auto` resolved.

    Args:
        spec: the environment's.
        config: `network.critic_input`, `network.death_mask`, `network.agent_id` and `env.reward` are read.
        function: for `user`.

    Raises:
        UserError: the environment has no state, the state's kind does not fit, or there is no function.
    """
    mode = _resolve_mode(spec, config, function)
    network_config = config.network
    if network_config.death_mask and mode != "agent":
        raise UserError(f"network.death-mask is for critic-input agent, but critic-input is {mode}: leave it out")
    if function is not None:
        return _from_function(spec, config, function)
    makers = {"env": _state_row, "joint": _joint_row, "own": _own_rows, "agent": _agent_rows}
    return makers[mode](spec, network_config)


def _state_row(spec: Spec, config: NetworkConfig) -> CriticInput:
    state = state_reader(spec, config.channels)
    if len(state.shape) not in (1, 3):
        raise UserError(f"the state must be a vector or an image (H, W, C), not {state.shape}")
    return CriticInput(state.shape, True, (spec.state_parts,), state.bytes_scale or 255.0, mode="env")


def _own_rows(spec: Spec, config: NetworkConfig) -> CriticInput:
    obs = obs_reader(spec, config.channels)
    has_id = spec.needs_agent_id(config.sharing, config.agent_id)
    shape = (*obs.shape[:-1], obs.shape[-1] + has_id * spec.num_agents)
    parts = tuple(padded_parts(agent_parts, math.prod(obs.shape)) for agent_parts in spec.obs_parts)
    return CriticInput(shape, False, parts, obs.bytes_scale or 255.0, mode="own", has_id=has_id)


def _joint_row(spec: Spec, config: NetworkConfig) -> CriticInput:
    obs = obs_reader(spec, config.channels)
    parts = tuple(chain.from_iterable(padded_parts(parts, math.prod(obs.shape)) for parts in spec.obs_parts))
    shape = (*obs.shape[:-1], spec.num_agents * obs.shape[-1])
    return CriticInput(shape, True, (parts,), obs.bytes_scale or 255.0, mode="joint")


def _agent_rows(spec: Spec, config: NetworkConfig) -> CriticInput:
    obs_shape = obs_reader(spec, config.channels).shape
    team: CriticRows = _joint_row(spec, config)
    bytes_scale = team.bytes_scale
    has_state = spec.state_shape is not None
    if has_state:
        shape = state_reader(spec, config.channels).shape
        team = CriticRows(shape, True, (padded_parts(spec.state_parts, math.prod(shape)),))
    if team.shape[:-1] != obs_shape[:-1]:
        raise UserError(
            f"network.critic-input agent concatenates state {team.shape} and observations {obs_shape}, which are not "
            f"of one kind: use env, joint or own"
        )
    shape = (*obs_shape[:-1], team.shape[-1] + obs_shape[-1] + spec.num_agents)
    parts = tuple((*team.parts[0], *padded_parts(row, math.prod(obs_shape))) for row in spec.obs_parts)
    return CriticInput(
        shape, False, parts, bytes_scale, mode="agent", death_mask=config.death_mask, has_state=has_state
    )


def _from_function(spec: Spec, config: Config, function: CriticInputFunction) -> CriticInput:
    """Find the shape of a user's function by calls with 2 and with 3 environments."""
    num_agents = spec.num_agents
    two = _call_on_zeros(function, spec, config.network.channels, 2)
    three = _call_on_zeros(function, spec, config.network.channels, 3)
    team_rows = two.ndim in (2, 4)  # (E, F) or an image; else (E, A, F) or images
    lead = () if team_rows else (num_agents,)
    shape = tuple(two.shape[1 + len(lead) :])
    expected = [(num_envs, *lead, *shape) for num_envs in (2, 3)]
    if [tuple(two.shape), tuple(three.shape)] != expected or len(shape) not in (1, 3):
        raise UserError(
            f"the critic_input function must return (E, F) or (E, {num_agents}, F) for E environments; for 2 it "
            f"returned {tuple(two.shape)}, for 3 {tuple(three.shape)}"
        )
    if team_rows and config.env.reward == "agent":
        raise UserError("env.reward agent needs a critic row for each agent: the function must return (*B, A, F)")
    bytes_scale = obs_reader(spec).bytes_scale or 255.0
    return CriticInput(shape, team_rows, bytes_scale=bytes_scale, mode="user", function=function)


def _call_on_zeros(function: CriticInputFunction, spec: Spec, channels: Channels, num_envs: int) -> Tensor:
    """Call a user's function on zeros; raise UserError unless it returns a tensor."""
    obs_shape = obs_reader(spec, channels).shape
    dtype = spec.obs_dtype if len(obs_shape) == 3 else torch.float32
    obs = torch.zeros(num_envs, spec.num_agents, *obs_shape, dtype=dtype)
    state = None if spec.state_shape is None else torch.zeros(num_envs, *state_reader(spec, channels).shape)
    try:
        rows: object = function(obs, state, torch.ones(num_envs, spec.num_agents, dtype=torch.bool))
    except Exception as error:
        raise UserError(
            f"the critic_input function failed on observations {tuple(obs.shape)} and state "
            f"{None if state is None else tuple(state.shape)}: {type(error).__name__} {error}"
        ) from error
    if not isinstance(rows, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"the critic_input function must return a tensor, got {type(rows).__name__}")
    return rows


def _resolve_mode(spec: Spec, config: Config, function: CriticInputFunction | None) -> Mode:
    mode = config.network.critic_input
    if mode == "user" and function is None:
        raise UserError("network.critic-input user: give the function, mappo.train(..., critic_input=function)")
    if function is not None:
        if mode not in ("auto", "user"):
            raise UserError(f"network.critic-input {mode}, but a function was given too: use user or auto")
        return "user"
    if mode == "env" and spec.state_shape is None:
        raise UserError("network.critic-input env: this environment gives no state; use joint, agent or own")
    if mode != "auto":
        return mode
    if config.env.reward == "agent":
        return "agent"
    return "joint" if spec.state_shape is None else "env"
