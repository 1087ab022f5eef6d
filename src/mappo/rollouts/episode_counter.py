"""Returns and lengths of episodes, counted after each rollout."""

from typing import cast

import torch
from torch import Tensor

from mappo.core.spec import Spec
from mappo.core.timestep import Rollout


class EpisodeCounter:
    """The episodes under way in E environments, and the latest return of each environment.

    Args:
        spec: the environment's.
        reward: the rewards of a step, `(E, A)`, for shape and device.
        static_shapes: treat every step as if episodes ended, without waiting for the device: for CUDA graphs.
    """

    def __init__(self, spec: Spec, reward: Tensor, static_shapes: bool = False) -> None:
        self.spec = spec
        self.static_shapes = static_shapes
        # Raw rewards since the start: return of each agent (E, A), and steps (E,). In float32 a long episode would lose
        # its small rewards.
        self.running_return = torch.zeros_like(reward, dtype=torch.float64)
        self.running_length = torch.zeros_like(self.running_return[:, 0])
        self.latest = self.running_return.new_zeros(len(reward), 2)  # return of the last episode, and 1 once it exists

    def count(self, rollout: Rollout) -> Tensor:
        """Add the rewards of a rollout; return number, returns and lengths of finished episodes, `(E, 3)`."""
        totals = self.running_return.new_zeros(len(self.latest), 3)
        length = len(rollout.ended)
        has_ends = [True] * length if self.static_shapes else cast("list[bool]", rollout.ended.any(1).tolist())
        num_steps = 0  # not yet in the lengths
        for reward, ended, has_end in zip(rollout.reward.unbind(), rollout.ended.unbind(), has_ends, strict=True):
            self.running_return += reward
            num_steps += 1
            if has_end:
                self.running_length += num_steps
                num_steps = 0
                self._finish(ended, totals)
        self.running_length += num_steps
        return totals

    def _finish(self, ended: Tensor, totals: Tensor) -> None:
        """Add the episodes of environments `ended`, `(E,)`, to the totals `(E, 3)`, and begin new ones."""
        team_return = self.spec.team_reward(self.running_return)
        ones = torch.ones_like(team_return)
        is_new = (ended & team_return.isfinite()).unsqueeze(-1)
        self.latest.copy_(torch.stack([team_return, ones], -1).where(is_new, self.latest))
        # `where` in place of a product: 0 times infinity is NaN.
        totals += torch.stack([ones, team_return, self.running_length], -1).where(ended.unsqueeze(-1), 0)
        self.running_return.masked_fill_(ended.unsqueeze(-1), 0)
        self.running_length.masked_fill_(ended, 0)

    def use_float32(self) -> None:
        """Go on in float32, as a run of an earlier version began, to keep its numbers."""
        self.running_return = self.running_return.float()
        self.running_length = self.running_length.float()

    def state_dict(self, envs: slice) -> dict[str, Tensor]:
        """Return the episodes under way in some environments."""
        return {"running": self.running_return[envs], "steps": self.running_length[envs]}
