"""A policy in use, own observation in, action out: `Actor` for a team, `AgentActor` for a single agent."""

import math
from typing import Any, cast

import torch
from torch import Tensor

from mappo.core.spec import Spec
from mappo.errors import UserError
from mappo.policies.policy import Policy


class Actor:
    """Decentralised execution of a whole team: each agent's action from its own observation.

    Args:
        policy: acts.
        sampled: sample actions, in place of the most probable actions.
        generator: of the samples; by default torch's.
    """

    def __init__(self, policy: Policy, sampled: bool = False, generator: torch.Generator | None = None) -> None:
        self.policy = policy
        self.sampled = sampled
        self.generator = generator

    @torch.no_grad()
    def __call__(
        self, obs: Any, memory: Any = None, *, mask: Any = None, is_first: Any = None, active: Any = None
    ) -> tuple[Tensor, Any]:
        """Return the team's actions.

        Args:
            obs: `(*B, A, *shape)`, padded as in `Spec`; a tensor, or an array. Where all
                agents share a network and have the same spaces, any rows `(*B, *shape)`.
            memory: the memory returned by the last call, `(*B, A, H)`; None at first, and always for a policy without.
            mask: `(*B, A, N)`, True where legal.
            is_first: `(*B, A)`, True where the memory starts anew.
            active: `(*B, A)`: as in training, the observations of absent agents are read as 0; None for all present.

        Returns:
            Actions `(*B, A, D)` in the padded layout (choices count from 0), and the memory.

        Raises:
            ValueError: the shape of an argument does not fit.
        """
        obs = _to_tensor(self.policy.spec, obs)
        rows = self._leading_shape(obs)
        return _act(self.policy, obs, rows, memory, mask, is_first, active, self.sampled, self.generator)

    def agent(self, name: str | int) -> "AgentActor":
        """Return the actor of a single agent; a name that is a number may be given as a number.

        Raises:
            UserError: the team has no such agent.
        """
        agents = self.policy.spec.agents
        if str(name) not in agents:
            raise UserError(f"there is no agent {name!r}; there are: {', '.join(agents)}")
        return AgentActor(self.policy, agents.index(str(name)), self.sampled, self.generator)

    def _leading_shape(self, obs: Tensor) -> tuple[int, ...]:
        """Return the axes before the axes of an observation."""
        spec = self.policy.spec
        shape = spec.obs_shape
        rows = tuple(obs.shape[: max(obs.ndim - len(shape), 0)])
        needs_team = self.policy.network.needs_agent_axis or self.policy.distribution.differs_by_agent
        if obs.shape[len(rows) :] == shape and (not needs_team or rows[-1:] == (spec.num_agents,)):
            return rows
        front = f"*B, {spec.num_agents}" if needs_team else "*B"
        inside = ", ".join(map(str, shape))
        raise ValueError(f"this actor reads observations ({front}, {inside}), got {tuple(obs.shape)}")


class AgentActor:
    """A single agent of a team, with observations and actions as in its own spaces; nothing of the others is computed.

    Args:
        policy: the team's.
        index: the agent's index in the team.
        sampled: as in `Actor`.
        generator: as in `Actor`.
    """

    def __init__(
        self, policy: Policy, index: int, sampled: bool = False, generator: torch.Generator | None = None
    ) -> None:
        self.policy = policy.for_agent(index)
        self.index = index
        self.sampled = sampled
        self.generator = generator
        self.spec = policy.spec
        self.heads = self.spec.action_heads[index]
        self.columns = self.spec.action_columns(index)

    @torch.no_grad()
    def __call__(self, obs: Any, memory: Any = None, *, mask: Any = None, is_first: Any = None) -> tuple[Tensor, Any]:
        """Return the agent's action.

        Args:
            obs: `(*B, *shape)` of its own observation space, numbers as the environment gives them; where the space
                is neither a vector nor an image, flattened as by `gymnasium.spaces.flatten`.
            memory: the memory returned by the last call, `(*B, H)`; None at first, and always for a policy without.
            mask: `(*B, n)` over its own choices, True where legal.
            is_first: `(*B)`, True where the memory starts anew.

        Returns:
            An action of its own action space `(*B, ...)` (choices count from the space's start), and the memory.

        Raises:
            ValueError: the shape of an argument does not fit.
        """
        spec = self.spec
        obs = _to_tensor(spec, obs)
        shape = cast("tuple[int, ...]", spec.obs_spaces[self.index].shape)
        part = spec.obs_parts[self.index][0]
        if part.is_image and part.size == math.prod(shape) and obs.shape[-len(part.shape) :] == part.shape:
            shape = part.shape  # a grey image, which environments flatten
        rows = tuple(obs.shape[: max(obs.ndim - len(shape), 0)])
        if obs.shape[len(rows) :] != shape:
            raise ValueError(f"{spec.agents[self.index]} reads observations {('*B', *shape)}, got {tuple(obs.shape)}")
        if len(spec.obs_shape) == 3:
            padded = spec.to_channels_last(obs)
        else:
            padded = torch.zeros(*rows, *spec.obs_shape, dtype=obs.dtype, device=obs.device)
            padded[..., : spec.obs_size(self.index)] = obs.reshape(*rows, -1)
        if mask is not None:
            mask = self._padded_mask(torch.as_tensor(mask, device=obs.device).bool(), rows).unsqueeze(-2)
        if memory is not None:
            memory = _memory(self.policy, memory, rows, obs.device).unsqueeze(-2)
        if is_first is not None:
            is_first = _flag("is_first", is_first, rows, obs.device).unsqueeze(-1)
        team_obs = padded.unsqueeze(len(rows))  # (*B, 1, *obs_shape): a team of one
        action, memory = _act(
            self.policy, team_obs, (*rows, 1), memory, mask, is_first, None, self.sampled, self.generator
        )
        action = self.heads.to_space_action(action[..., 0, self.columns])
        return action, memory if memory is None else memory.squeeze(-2)

    def _padded_mask(self, mask: Tensor, rows: tuple[int, ...]) -> Tensor:
        """Return a mask over the agent's own choices as `(*B, N)`."""
        indices = self.spec.choice_indices(self.index)
        if mask.shape != (*rows, len(indices)):
            raise ValueError(f"the mask must be {(*rows, len(indices))}, got {tuple(mask.shape)}")
        static_mask = self.spec.static_mask_tensor[self.index].to(mask.device)
        padded = static_mask.expand(*rows, *static_mask.shape).clone()
        padded[..., indices] = mask
        return padded


def _act(
    policy: Policy,
    obs: Tensor,
    rows: tuple[int, ...],
    memory: Any,
    mask: Any,
    is_first: Any,
    active: Any,
    sampled: bool,
    generator: torch.Generator | None,
) -> tuple[Tensor, Any]:
    """Check the arguments of `Actor.__call__` and act; `rows` are the axes before an observation."""
    num_choices = sum(policy.spec.heads)
    if mask is not None:
        mask = torch.as_tensor(mask, device=obs.device).bool()
        if mask.shape != (*rows, num_choices):
            raise ValueError(f"the mask must be {(*rows, num_choices)}, got {tuple(mask.shape)}")
    is_first = None if is_first is None else _flag("is_first", is_first, rows, obs.device)
    active = None if active is None else _flag("active", active, rows, obs.device)
    memory = None if memory is None else _memory(policy, memory, rows, obs.device)
    noise = None
    if sampled:
        noise = torch.rand((*rows, policy.spec.action_size), generator=generator, device=obs.device)
    action, _, memory = policy(obs, memory, mask=mask, is_first=is_first, active=active, noise=noise)
    return policy.distribution.to_bounds(action), memory


def _memory(policy: Policy, memory: Any, rows: tuple[int, ...], device: torch.device) -> Tensor:
    memory = torch.as_tensor(memory, device=device)
    size = policy.network_config.memory_size
    if memory.shape != (*rows, size):
        raise ValueError(f"the memory must be {(*rows, size)}, got {tuple(memory.shape)}")
    return memory


def _flag(name: str, flag: Any, rows: tuple[int, ...], device: torch.device) -> Tensor:
    flag = torch.as_tensor(flag, device=device).bool()
    if flag.shape != rows:
        raise ValueError(f"{name} must be {rows}, one for each row of the observation, got {tuple(flag.shape)}")
    return flag


def _to_tensor(spec: Spec, obs: Any) -> Tensor:
    """Convert observations to a tensor; refuse fractions of 255 where agents observe bytes."""
    try:
        obs = torch.as_tensor(obs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"an actor reads arrays, got {type(obs).__name__} ({error}): flatten it by gymnasium.spaces.flatten"
        ) from None
    if spec.obs_dtype == torch.uint8 and obs.dtype != torch.uint8:
        if obs.is_floating_point() or obs.lt(0).any() or obs.gt(255).any():
            raise ValueError(f"these agents observe bytes, got {obs.dtype} beyond them")
        obs = obs.to(torch.uint8)
    return obs
