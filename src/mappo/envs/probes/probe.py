"""Base class of the probes: each environment samples from a stream of its own, which its seed alone determines."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mappo.core.seeding import expand_seeds
from mappo.core.spec import Spec
from mappo.core.timestep import TimeStep
from mappo.envs.batched.tensor_game import TensorGame, Tensors

# Constants of splitmix64 (Steele, Lea and Flood, 2014), as signed numbers.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FACTORS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


class Probe(TensorGame):
    """`TensorGame` without common random numbers: an episode does not depend on the environments beside it.

    A stream is a counter, and a sample is a hash of the counter. Runs of earlier versions saved no streams, and
    continue with the generator of `BatchedEnv`.

    Args:
        num_envs: E.
        spec: agents, spaces and rewards.
        horizon: steps of an episode before truncation.
        device: device of all tensors.
    """

    def __init__(self, num_envs: int, spec: Spec, horizon: int, device: torch.device | str = "cpu") -> None:
        self._has_streams = True
        self._stream = torch.arange(max(0, num_envs), device=device)
        super().__init__(num_envs, spec, horizon, device)

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Reset all environments; the stream of each starts from its seed."""
        if seed is not None:
            self._stream.copy_(torch.tensor([s % 2**63 for s in expand_seeds(self.name, seed, self.num_envs)]))
        return super().reset(seed)

    def state_tensors(self) -> Tensors:
        return super().state_tensors() | ({"stream": self._stream} if self._has_streams else {})

    def prepare_load(self, state: Tensors) -> None:
        self._has_streams = "stream" in state

    def _rand(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        if not self._has_streams:
            return super()._rand(*shape, dtype=dtype)
        return self._sample_bits(24, *shape).to(dtype) / 2**24

    def _randint(self, choices: int, *shape: int) -> Tensor:
        return self._sample_bits(48, *shape) % choices if self._has_streams else super()._randint(choices, *shape)

    def _sample_bits(self, count: int, *shape: int) -> Tensor:
        """Sample integers of `count` bits from the stream of each environment: int64 `(E, *shape)`."""
        self._stream.add_(_STEP)
        index = torch.arange(math.prod(shape), device=self.device)
        bits = _hash(_hash(self._stream).unsqueeze(-1) + index)
        return _shift(bits, 64 - count).view(self.num_envs, *shape)


def _hash(x: Tensor) -> Tensor:
    """Return the hash of 64-bit integers by splitmix64; products wrap."""
    x = (x ^ _shift(x, 30)) * _FACTORS[0]
    x = (x ^ _shift(x, 27)) * _FACTORS[1]
    return x ^ _shift(x, 31)


def _shift(x: Tensor, count: int) -> Tensor:
    """Shift to the right; torch would repeat the sign bit on the left."""
    return (x >> count) & (2 ** (64 - count) - 1)
