"""A policy in use, own observation in, action out: `Actor` for a team, `AgentActor` for a single agent."""

import math
from typing import Any, cast

import torch
from torch import Tensor

from mappo.core.spec import Spec
from mappo.errors import UserError
from mappo.policies.policy import Policy


class _Acting:
    """A policy that acts on checked arguments.

    Args:
        policy: acts.
        sampled: sample actions, in place of the most probable actions.
        generator: of the samples; by default torch's.
    """

    def __init__(self, policy: Policy, sampled: bool = False, generator: torch.Generator | None = None) -> None:
        self.policy = policy
        self.sampled = sampled
        self.generator = generator

    def _act(
        self, obs: Tensor, rows: tuple[int, ...], memory: Any, mask: Any, is_first: Any, active: Any = None
    ) -> tuple[Tensor, Any]:
        """Check the arguments of `Actor.__call__` and act; `rows` are the axes before an observation."""
        policy = self.policy
        mask = _check("the mask", mask, (*rows, sum(policy.spec.heads)), obs.device, torch.bool)
        is_first = _check("is_first", is_first, rows, obs.device, torch.bool)
        active = _check("active", active, rows, obs.device, torch.bool)
        memory = _check("the memory", memory, (*rows, policy.network_config.memory_size), obs.device)
        shape = (*rows, policy.spec.action_size)
        noise = torch.rand(shape, generator=self.generator, device=obs.device) if self.sampled else None
        action, _, memory = policy(obs, memory, mask=mask, is_first=is_first, active=active, noise=noise)
        return policy.distribution.to_bounds(action), memory


class Actor(_Acting):
    """Decentralised execution of a whole team: each agent's action from its own observation.

    Args:
        policy: acts.
        sampled: sample actions, in place of the most probable actions.
        generator: of the samples; by default torch's.
    """

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
        return self._act(obs, self._leading_shape(obs), memory, mask, is_first, active)

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


class AgentActor(_Acting):
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
        super().__init__(policy.for_agent(index), sampled, generator)
        self.index = index
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
        memory = _check("the memory", memory, (*rows, self.policy.network_config.memory_size), obs.device)
        mask = self._padded_mask(mask, rows, obs.device)
        is_first = _check("is_first", is_first, rows, obs.device, torch.bool)
        # A team of one, (*B, 1, ...).
        memory, mask, is_first = (None if x is None else x.unsqueeze(len(rows)) for x in (memory, mask, is_first))
        action, memory = self._act(padded.unsqueeze(len(rows)), (*rows, 1), memory, mask, is_first)
        action = self.heads.to_space_action(action[..., 0, self.columns])
        return action, memory if memory is None else memory.squeeze(-2)

    def _padded_mask(self, mask: Any, rows: tuple[int, ...], device: torch.device) -> Tensor | None:
        """Return a mask over the agent's own choices as `(*B, N)`; None stays None."""
        indices = self.spec.choice_indices(self.index)
        mask = _check("the mask", mask, (*rows, len(indices)), device, torch.bool)
        if mask is None:
            return None
        static_mask = self.spec.static_mask_tensor[self.index].to(device)
        padded = static_mask.expand(*rows, *static_mask.shape).clone()
        padded[..., indices] = mask
        return padded


def _check(
    name: str, x: Any, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype | None = None
) -> Tensor | None:
    """Convert an argument to a tensor and check its shape; None stays None."""
    if x is None:
        return None
    x = torch.as_tensor(x, device=device, dtype=dtype)
    if x.shape != shape:
        raise ValueError(f"{name} must be {shape}, got {tuple(x.shape)}")
    return x


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
