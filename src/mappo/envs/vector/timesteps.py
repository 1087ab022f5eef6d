"""Time steps read from the shared arrays: the learner's side of `SerialEnvs` and `WorkerPool`."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from mappo.core.seeding import expand_seeds
from mappo.core.timestep import TimeStep
from mappo.envs.vector.buffers import Buffers
from mappo.envs.vector.rules import broken
from mappo.envs.vector.team_layout import TeamLayout
from mappo.errors import UserError


class TimeStepReader:
    """Reader of time steps from arrays, and writer of seeds and actions into arrays.

    Args:
        layout: names and shapes.
        arrays: arrays of all environments.
    """

    def __init__(self, layout: TeamLayout, arrays: Buffers) -> None:
        self.layout = layout
        self.arrays = arrays
        self.num_envs = len(arrays["seed"])
        self._num_resets = 0
        self._has_masks = False
        arrays["seed"][...] = np.arange(self.num_envs)  # for a first reset without a seed

    def write_seeds(self, seed: int | Sequence[int] | None) -> bool:
        """Set the next episode of each environment; return True at the first reset."""
        if seed is None:
            self.arrays["episode"][...] += 1
        else:
            self.arrays["seed"][...] = expand_seeds("reset", seed, self.num_envs)
            self.arrays["episode"][...] = 0
        self._num_resets += 1
        return self._num_resets == 1

    def write_action(self, action: Tensor, envs: slice) -> None:
        """Write the actions `(e, A, D)` of a slice of the environments.

        Raises:
            ValueError: the actions have another shape.
        """
        array = self.arrays["action"][envs]
        if action.shape != array.shape:
            raise ValueError(f"actions must be {array.shape}, got {tuple(action.shape)}")
        array[...] = action.cpu().numpy()

    def time_step(self, envs: slice, is_reset: bool = False) -> TimeStep:
        """Return a copy of the time step of a slice of the environments; the next step overwrites the arrays.

        Args:
            envs: the slice.
            is_reset: True after a reset; time steps have masks if any agent has a mask then.

        Raises:
            UserError: an agent has a mask, and no agent had a mask at the reset.
        """
        arrays = self.arrays
        if is_reset:
            self._has_masks = bool(arrays["masked"].any())
        elif not self._has_masks and np.count_nonzero(arrays["masked"][envs]):
            self._refuse_mask(arrays["masked"][envs])
        # Without an end the step before any reset is the present itself.
        is_same = not np.count_nonzero(arrays["ended"][envs])

        def copied(name: str) -> Tensor:
            return torch.from_numpy(arrays[name][envs].copy())

        def reached(name: str, present: Tensor) -> Tensor:
            return present if is_same else copied(f"next_{name}")

        obs = copied("obs")
        state = None if self.layout.spec.state_shape is None else copied("state")
        active = copied("active")
        return TimeStep(
            obs=obs,
            state=state,
            mask=copied("mask") if self._has_masks else None,
            active=active,
            is_first=copied("is_first"),
            reward=copied("reward"),
            terminated=copied("terminated"),
            ended=copied("ended"),
            next_obs=reached("obs", obs),
            next_state=None if state is None else reached("state", state),
            next_active=reached("active", active),
        )

    def _refuse_mask(self, masked: np.ndarray) -> NoReturn:
        """Raise the error for a first mask after the reset, by the numbers `(E,)` of the agents with a mask."""
        agent = self.layout.agents[int(masked[masked > 0].min()) - 1]
        finding = broken("mask-late", agent, change="an action mask, and no agent had a mask at the reset")
        raise UserError(str(finding))
