"""A policy in use: own observation in, action out. No learner, no environment, no config."""

from typing import Any, cast

import torch
from torch import Tensor

from mappo.core.spec import Spec
from mappo.errors import UserError
from mappo.policies.policy import Policy


class Actor:
    """Decentralised execution of a whole team: each agent's action from its own observation.

    Args:
        policy: what acts. sampled: draw from it, in place of its likeliest action.
        generator: of the draws.
    """

    def __init__(self, policy: Policy, sampled: bool = False, generator: torch.Generator | None = None) -> None:
        self.policy, self.sampled, self.generator = policy, sampled, generator

    @torch.no_grad()
    def __call__(
        self, obs: Any, memory: Any = None, *, mask: Any = None, is_first: Any = None, active: Any = None
    ) -> tuple[Tensor, Any]:
        """Actions of the team, each row by itself.

        Args:
            obs: `(*B, A, *shape)`, padded as in `Spec`; a tensor, or what numpy makes an array of. Where all agents
                share one network and have the same spaces, any rows `(*B, *shape)`.
            memory: what the last call gave, None at first: `(*B, A, H)`, or None for ever of a policy without one.
            mask: `(*B, A, N)`, True where legal. is_first: `(*B, A)`, True where memory starts anew.
            active: `(*B, A)`: as in training, what absent agents see reads 0; None for all there.

        Returns:
            Actions `(*B, A, D)` in the padded layout (choices count from 0), and the memory.

        Raises:
            ValueError: the shape of the observation or of the mask does not fit.
        """
        spec, obs = self.policy.spec, _to_tensor(self.policy.spec, obs)
        rows = self._leading_shape(obs)
        if mask is not None:
            mask = torch.as_tensor(mask, device=obs.device).bool()
            if mask.shape != (*rows, sum(spec.heads)):
                raise ValueError(f"the mask must be {(*rows, sum(spec.heads))}, got {tuple(mask.shape)}")
        first, there = (
            None if flag is None else torch.as_tensor(flag, device=obs.device).bool() for flag in (is_first, active)
        )
        for told, flag in (("is_first", first), ("active", there)):
            if flag is not None and flag.shape != rows:
                raise ValueError(f"{told} must be {rows}, one for each row of the observation, got {tuple(flag.shape)}")
        if memory is not None:
            memory, width = torch.as_tensor(memory, device=obs.device), self.policy.network_config.memory_size
            if memory.shape != (*rows, width):
                raise ValueError(f"the memory must be {(*rows, width)}, got {tuple(memory.shape)}")
        noise = None
        if self.sampled:
            noise = torch.rand((*rows, spec.action_size), generator=self.generator, device=obs.device)
        action, _, memory = self.policy(obs, memory, mask=mask, is_first=first, active=there, noise=noise)
        return self.policy.distribution.to_bounds(action), memory

    def agent(self, name: str) -> "AgentActor":
        """One agent alone.

        Raises:
            UserError: the team has no such agent.
        """
        agents = self.policy.spec.agents
        if name not in agents:
            raise UserError(f"there is no agent {name!r}; there are: {', '.join(agents)}")
        return AgentActor(self, agents.index(name))

    def _leading_shape(self, obs: Tensor) -> tuple[int, ...]:
        """The axes in front of one observation."""
        spec, tower = self.policy.spec, self.policy.network
        shape = spec.obs_shape
        rows = tuple(obs.shape[: max(obs.ndim - len(shape), 0)])
        together = tower.needs_agent_axis or self.policy.distribution.differs_by_agent
        fits = obs.shape[len(rows) :] == shape and (not together or rows[-1:] == (spec.num_agents,))
        if not fits:
            front = f"*B, {spec.num_agents}" if together else "*B"
            inside = ", ".join(map(str, shape))
            raise ValueError(f"this actor reads observations ({front}, {inside}), got {tuple(obs.shape)}")
        return rows


class AgentActor:
    """One agent of a team, with its own observations and its own actions as its spaces have them.

    Args:
        team: the actors. index: the agent's place among them.
    """

    def __init__(self, team: Actor, index: int) -> None:
        self.team, self.index = team, index
        self.spec = team.policy.spec
        self.heads, self.columns = self.spec.action_heads[index], self.spec.action_columns(index)

    def __call__(self, obs: Any, memory: Any = None, *, mask: Any = None, is_first: Any = None) -> tuple[Tensor, Any]:
        """The agent's action.

        Args:
            obs: `(*B, *shape)` of its own observation space; where that is neither a vector nor an image, flattened
                as by `gymnasium.spaces.flatten`. memory: as the last call gave it, None at first.
            mask: `(*B, n)` over its own choices, True where legal. is_first: `(*B)`, where memory starts anew.

        Returns:
            An action of its own action space `(*B, ...)` (choices count from where the space's do), and the memory.

        Raises:
            ValueError: a shape does not fit.
        """
        spec, index = self.spec, self.index
        obs = _to_tensor(spec, obs)
        own = cast("tuple[int, ...]", spec.obs_spaces[index].shape)
        rows = tuple(obs.shape[: max(obs.ndim - len(own), 0)])
        if obs.shape[len(rows) :] != own:
            raise ValueError(f"{spec.agents[index]} reads observations {('*B', *own)}, got {tuple(obs.shape)}")
        # The others' places stay empty: no agent's row depends on another's (law 5).
        whole = torch.zeros(*rows, spec.num_agents, *spec.obs_shape, dtype=obs.dtype, device=obs.device)
        if len(own) == 3:
            whole[..., index, :, :, :] = spec.to_channels_last(obs)
        else:
            whole[..., index, : spec.obs_size(index)] = obs.reshape(*rows, -1)
        legal = None
        if mask is not None:
            legal = spec.static_mask_tensor.to(obs.device).expand(*rows, *spec.static_mask_tensor.shape).clone()
            given, places = torch.as_tensor(mask, device=obs.device).bool(), spec.choice_indices(index)
            if given.shape != (*rows, len(places)):
                raise ValueError(f"the mask must be {(*rows, len(places))}, got {tuple(given.shape)}")
            legal[..., index, places] = given
        first = None
        if is_first is not None:
            first = torch.as_tensor(is_first, device=obs.device).bool()
            if first.shape != rows:
                raise ValueError(f"is_first must be {rows}, got {tuple(first.shape)}")
            first = first.unsqueeze(-1).expand(*rows, spec.num_agents)
        action, memory = self.team(whole, memory, mask=legal, is_first=first)
        return self.heads.to_space_action(action[..., index, self.columns]), memory


def _to_tensor(spec: Spec, obs: Any) -> Tensor:
    """Observations as a tensor; of bytes, where the agents see bytes: a fraction of 255 is not told from a number."""
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
