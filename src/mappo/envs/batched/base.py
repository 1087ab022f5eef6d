"""Base class of environments that are batched in torch: generators, seeds and saved states.

`Particles` and `TensorGame` build on `BatchedEnv`. `SeedEnv` saves and loads the environments of one seed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mappo.core.protocols import Resumable
from mappo.core.slices import equal_slices
from mappo.core.spec import Spec
from mappo.core.timestep import TimeStep
from mappo.errors import UserError


class BatchedEnv(ABC):
    """E environments in S equal slices, one for each seed of a run; S is 1 by default.

    Each slice samples from its own generator. A subclass lists its tensors `(E, ...)` in `state_tensors`, and shows
    them in `current_step`.

    The state never moves in memory: a subclass allocates each tensor once, and `copy_` writes every new value. A CUDA
    graph of `step` can therefore be replayed. A `TimeStep` shows fresh tensors, which later steps leave alone.

    Args:
        num_envs: E.
        horizon: steps of an episode before truncation.
        spec: agents, spaces and rewards.
        device: device of all tensors.

    Raises:
        UserError: `num_envs` or `horizon` is less than 1.
    """

    name: str  # for error messages

    def __init__(self, num_envs: int, horizon: int, spec: Spec, device: torch.device | str) -> None:
        if num_envs < 1 or horizon < 1:
            raise UserError(f"{self.name} needs at least one environment and step: {num_envs}, {horizon}")
        self.num_envs = num_envs
        self.horizon = horizon
        self.spec = spec
        self.device = torch.device(device)
        self.generators = [torch.Generator(self.device)]
        self._everyone = torch.ones(num_envs, spec.num_agents, dtype=torch.bool, device=self.device)
        self._nobody = ~self._everyone

    def set_num_seeds(self, count: int) -> None:
        """Split the environments into `count` equal slices with a generator each; `count` must divide E."""
        self.generators = [torch.Generator(self.device) for _ in range(count)]

    def seed_env(self, seed: int) -> "SeedEnv":
        """Return the environments of seed number `seed`, to be saved and loaded separately."""
        return SeedEnv(self, seed)

    def seed_slice(self, index: int) -> slice:
        """Return the slice of the environments that belong to seed number `index`."""
        return equal_slices(self.num_envs, len(self.generators))[index]

    def close(self) -> None:  # noqa: B027
        """Do nothing: there is nothing to release."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the state and of the generator, for runs of one seed."""
        return self.seed_env(0).state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> TimeStep:
        """Restore the result of `state_dict`, so that the next `step` continues from there.

        Returns:
            The restored time step, in the form of a time step after a reset.
        """
        return self.seed_env(0).load_state_dict(state)

    def prepare_load(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """Prepare `state_tensors` for a state, possibly of an earlier version."""

    @abstractmethod
    def state_tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the state by name: `(E, ...)`, or scalars common to all environments."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Overwrite tensors of `state_tensors` in place: a CUDA graph reads and writes them at fixed addresses."""
        tensors = self.state_tensors()
        for name, x in state.items():
            tensors[name].copy_(x)

    @abstractmethod
    def current_step(self) -> TimeStep:
        """Return the present time step, in the form of a time step after a reset."""

    def _check_shape(self, action: Tensor) -> None:
        """Raise ValueError unless the actions are `(E, A, D)`."""
        shape = (*self._everyone.shape, self.spec.action_size)
        if action.shape != shape:
            raise ValueError(f"{self.name}: actions must be {shape}, got {tuple(action.shape)}")

    def _seed_generators(self, seeds: Sequence[int]) -> None:
        """Seed each generator with the seed of the first environment of its slice."""
        for generator, seed in zip(self.generators, seeds[:: self.num_envs // len(self.generators)], strict=True):
            generator.manual_seed(seed)

    def _rand(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Sample uniformly from [0, 1): `(E, *shape)`."""
        return self._sample_per_seed(lambda n, g: torch.rand((n, *shape), generator=g, device=self.device, dtype=dtype))

    def _randint(self, choices: int, *shape: int) -> Tensor:
        """Sample integers from 0 to `choices - 1`: int64 `(E, *shape)`."""
        return self._sample_per_seed(lambda n, g: torch.randint(choices, (n, *shape), generator=g, device=self.device))

    def _sample_per_seed(self, sample: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        samples = [sample(self.num_envs // len(self.generators), generator) for generator in self.generators]
        return samples[0] if len(samples) == 1 else torch.cat(samples)


class SeedEnv(Resumable):
    """The environments of one seed, a slice of a `BatchedEnv`.

    Args:
        env: the batched environment of all seeds.
        index: number of the seed, from 0.
    """

    def __init__(self, env: BatchedEnv, index: int) -> None:
        self._env = env
        self._generator = env.generators[index]
        self._slice = env.seed_slice(index)

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the state of these environments and of their generator."""
        # The environment overwrites its tensors at the next step: a view would not stay as saved.
        tensors = {name: x[self._slice] if x.ndim else x for name, x in self._env.state_tensors().items()}
        state = {name: x.clone(memory_format=torch.contiguous_format) for name, x in tensors.items()}
        return state | {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> TimeStep:
        """Restore the result of `state_dict` into these environments alone.

        Raises:
            ValueError: a scalar of the state differs from the scalar of the seeds before.
        """
        is_later_seed = len(self._env.generators) > 1 and self._slice.start > 0
        self._env.prepare_load(state)
        merged: dict[str, Tensor] = {}
        for name, x in self._env.state_tensors().items():
            if not x.ndim and is_later_seed and not torch.equal(x, state[name]):
                raise ValueError(f"its {name} is {state[name].item()}, and that of the seeds before it {x.item()}")
            merged[name] = x.clone()
            merged[name][self._slice if x.ndim else ...] = state[name].to(x.device, x.dtype)
        self._env.restore(merged)
        self._generator.set_state(state["generator"].cpu())
        return self._env.current_step().slice_envs(self._slice)


def time_step_of_team(
    everyone: Tensor,
    *,
    obs: Tensor,
    next_obs: Tensor,
    reward: Tensor,
    terminated: Tensor,
    ended: Tensor,
    is_first: Tensor,
    mask: Tensor | None = None,
) -> TimeStep:
    """Build the time step of environments without a state, where all agents are active all the time.

    Args:
        everyone: True for all agents, `(E, A)`.
        obs, next_obs, reward, terminated, ended, is_first, mask: fields of `TimeStep`.
    """
    return TimeStep(
        obs=obs,
        state=None,
        mask=mask,
        active=everyone,
        is_first=is_first,
        reward=reward,
        terminated=terminated,
        ended=ended,
        next_obs=next_obs,
        next_state=None,
        next_active=everyone,
    )


def vector_length(x: Tensor) -> Tensor:
    """Compute the Euclidean length of vectors: `(*B, 2)` -> `(*B)`."""
    return torch.add(*x.square().unbind(-1)).sqrt_()  # on a CPU far faster than a norm over two numbers


def move_along_larger_axis(way: Tensor) -> Tensor:
    """Return the move along the larger entry of `way`, `(*B, 2)` -> `(*B)`: 1 left, 2 right, 3 down, 4 up."""
    axis = way.abs().argmax(-1)
    return 1 + 2 * axis + (way.gather(-1, axis.unsqueeze(-1)).squeeze(-1) > 0)
