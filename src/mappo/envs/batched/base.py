"""What games batched in torch have in common: where their random numbers come from, and what is saved of them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mappo.core.protocols import Resumable
from mappo.core.timestep import TimeStep


class BatchedEnv:
    """E games that draw from a generator; or equal shares of them, each from its own: those of several seeds.

    A game says which tensors `(E, ...)` it is made of (`state_tensors`), how these are set (`restore`) and how it shows
    itself (`current_step`).
    """

    def __init__(self, num_envs: int, device: torch.device | str) -> None:
        self.num_envs, self.device = num_envs, torch.device(device)
        self.generators = [torch.Generator(self.device)]

    def set_num_seeds(self, count: int) -> None:
        """Draws from so many generators from here on; their number divides E."""
        self.generators = [torch.Generator(self.device) for _ in range(count)]

    def seed_env(self, seed: int) -> "SeedEnv":
        """One of the shares, to be saved and loaded by itself."""
        return SeedEnv(self, seed)

    def seed_slice(self, index: int) -> slice:
        """The games of a share."""
        size = self.num_envs // len(self.generators)
        return slice(index * size, (index + 1) * size)

    def state_dict(self) -> dict[str, Tensor]:
        return self.seed_env(0).state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> TimeStep:
        """Sets what `state_dict` gave; the next `step` goes on from there.

        Returns:
            Where the games are, as after a reset.
        """
        return self.seed_env(0).load_state_dict(state)

    def state_tensors(self) -> dict[str, Tensor]:
        """All that a game is made of, by name: `(E, ...)`, or a scalar that they share."""
        raise NotImplementedError

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_tensors`."""
        raise NotImplementedError

    def current_step(self) -> TimeStep:
        """Where the games are, as after a reset."""
        raise NotImplementedError

    def _seed_generators(self, seeds: Sequence[int]) -> None:
        """Each share's random numbers follow from the seed of its first game."""
        for index, generator in enumerate(self.generators):
            generator.manual_seed(seeds[index * self.num_envs // len(self.generators)])

    def _rand(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """In [0, 1): `(E, *shape)`."""
        return self._sample_per_seed(lambda n, g: torch.rand((n, *shape), generator=g, device=self.device, dtype=dtype))

    def _randint(self, choices: int, *shape: int) -> Tensor:
        """Numbers from 0 on, below `choices`: int64 `(E, *shape)`."""
        return self._sample_per_seed(lambda n, g: torch.randint(choices, (n, *shape), generator=g, device=self.device))

    def _sample_per_seed(self, draw: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        drawn = [draw(self.num_envs // len(self.generators), generator) for generator in self.generators]
        return drawn[0] if len(drawn) == 1 else torch.cat(drawn)


class SeedEnv(Resumable):
    """The games of one share of `BatchedEnv` ones."""

    def __init__(self, games: BatchedEnv, index: int) -> None:
        self._games, self._generator, self._part = games, games.generators[index], games.seed_slice(index)

    def state_dict(self) -> dict[str, Tensor]:
        state = {name: x[self._part] if x.ndim else x for name, x in self._games.state_tensors().items()}
        return state | {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> TimeStep:
        """Sets what `state_dict` gave, of these games alone."""
        merged: dict[str, Tensor] = {}
        for name, x in self._games.state_tensors().items():
            if not x.ndim and len(self._games.generators) > 1 and self._part.start and not torch.equal(x, state[name]):
                raise ValueError(f"its {name} is {state[name].item()}, and that of the seeds before it {x.item()}")
            merged[name] = x.clone()
            merged[name][self._part if x.ndim else ...] = state[name].to(x.device, x.dtype)
        self._games.restore(merged)
        self._generator.set_state(state["generator"].cpu())
        return self._games.current_step().slice_envs(self._part)
