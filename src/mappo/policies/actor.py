"""A policy in use, own observation in, action out: `Actor` for a team, `AgentActor` for a single agent."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from mappo.errors import UserError
from mappo.policies.own_observation import read_observation, to_tensor
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
        obs = to_tensor(obs, self.policy.spec.obs_dtype)
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


class AgentActor(_Acting, nn.Module):
    """A single agent of a team, with observations and actions as in its own spaces; nothing of the others is computed.

    The parameters are the team's, until a conversion such as `to(device)` gives the agent its own.

    Args:
        policy: the team's.
        index: the agent's index in the team.
        sampled: as in `Actor`.
        generator: as in `Actor`.
    """

    def __init__(
        self, policy: Policy, index: int, sampled: bool = False, generator: torch.Generator | None = None
    ) -> None:
        nn.Module.__init__(self)
        _Acting.__init__(self, policy.for_agent(index), sampled, generator)
        self.network = self.policy.network
        self.index = index
        self.spec = policy.spec
        self.heads = self.spec.action_heads[index]
        self.columns = self.spec.action_columns(index)

    @torch.no_grad()
    def forward(self, obs: Any, memory: Any = None, *, mask: Any = None, is_first: Any = None) -> tuple[Tensor, Any]:
        """Return the agent's action.

        Args:
            obs: an observation as the environment returns it, with any axes `*B` before those of its arrays: an array,
                or a dict or tuple of arrays. A dict may hold the mask beside the observation, as `action_mask`. An
                array may come flattened, as by `gymnasium.spaces.flatten`.
            memory: the memory returned by the last call, `(*B, H)`; None at first, and always for a policy without.
            mask: `(*B, n)` over its own choices, True where legal.
            is_first: `(*B)`, True where the memory starts anew.

        Returns:
            An action of its own action space `(*B, ...)` (choices count from the space's start), and the memory.

        Raises:
            ValueError: the shape of an argument does not fit.
        """
        if isinstance(obs, Mapping):
            mask = cast(Any, obs).get("action_mask") if mask is None else mask
        padded = self._padded_obs(obs)
        rows = tuple(padded.shape[: padded.ndim - len(self.spec.obs_shape)])
        memory = _check("the memory", memory, (*rows, self.policy.network_config.memory_size), padded.device)
        mask = self._padded_mask(mask, rows, padded.device)
        is_first = _check("is_first", is_first, rows, padded.device, torch.bool)
        # A team of one, (*B, 1, ...).
        memory, mask, is_first = (None if x is None else x.unsqueeze(len(rows)) for x in (memory, mask, is_first))
        action, memory = self._act(padded.unsqueeze(len(rows)), (*rows, 1), memory, mask, is_first)
        action = self.heads.to_space_action(action[..., 0, self.columns])
        return action, memory if memory is None else memory.squeeze(-2)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Convert the tensors, of a copy: the team keeps its own."""
        self.policy = copy.deepcopy(self.policy)
        self.network = self.policy.network
        self.policy.distribution.apply_(fn)
        return super()._apply(fn, recurse)

    def _padded_obs(self, obs: Any) -> Tensor:
        """Convert an observation to the padded layout, `(*B, *obs_shape)`."""
        spec = self.spec
        name = spec.agents[self.index]
        is_image = len(spec.obs_shape) == 3
        x = read_observation(name, spec.obs_inputs[self.index], obs, spec.obs_dtype, keep_image=is_image)
        if is_image:
            return spec.to_channels_last(x)
        rows = x.shape[:-1]
        padded = torch.zeros(*rows, *spec.obs_shape, dtype=x.dtype, device=x.device)
        padded[..., : spec.obs_size(self.index)] = x
        return padded

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
