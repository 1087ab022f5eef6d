"""Time steps read from the shared arrays."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mappo.core.timestep import TimeStep
from mappo.envs.vector.buffers import Buffers
from mappo.envs.vector.slices import reset_seeds
from mappo.envs.vector.team_layout import TeamLayout
from mappo.errors import UserError


class TimeStepReader:
    """Arrays as time steps: the half of a vectoriser that is the learner's."""

    def __init__(self, layout: TeamLayout, arrays: Buffers) -> None:
        self.layout, self.arrays, self.num_envs = layout, arrays, len(arrays["seed"])
        self._resets, self._masked = 0, False
        arrays["seed"][...] = np.arange(self.num_envs)  # of those that are reset without a seed first

    def write_seeds(self, seed: int | Sequence[int] | None) -> bool:
        """Which episodes come next; True at the first time."""
        if seed is None:
            self.arrays["episode"][...] += 1
        else:
            self.arrays["seed"][...], self.arrays["episode"][...] = reset_seeds(seed, self.num_envs), 0
        self._resets += 1
        return self._resets == 1

    def write_action(self, action: Tensor, part: slice) -> None:
        """Takes the actions `(e, A, D)` of some environments."""
        chosen = self.arrays["action"][part]
        if action.shape != chosen.shape:
            raise ValueError(f"actions must be {chosen.shape}, got {tuple(action.shape)}")
        chosen[...] = action.cpu().numpy()

    def time_step(self, part: slice, begun: bool = False) -> TimeStep:
        """What some environments show now, copied: the next step writes over the arrays.

        Args:
            begun: after a reset, which decides whether there are masks.

        Raises:
            UserError: masks are given that were not at the reset.
        """
        given = self.arrays["masked"]
        if begun:
            self._masked = bool(given.any())
        elif not self._masked and given[part].any():
            agent = self.layout.agents[int(given[part][given[part] > 0].min()) - 1]
            raise UserError(f"{agent} was given an action mask, but nobody was at the reset: give masks from there on")

        def copied(name: str) -> Tensor:
            return torch.from_numpy(self.arrays[name][part].copy())

        has_state = self.layout.spec.state_shape is not None
        return TimeStep(
            obs=copied("obs"),
            state=copied("state") if has_state else None,
            mask=copied("mask") if self._masked else None,
            active=copied("active"),
            is_first=copied("is_first"),
            reward=copied("reward"),
            terminated=copied("terminated"),
            ended=copied("ended"),
            next_obs=copied("next_obs"),
            next_state=copied("next_state") if has_state else None,
            next_active=copied("next_active"),
        )
