"""Encoder, memory, head: what an actor is, and what a critic is."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mappo.config import NetworkConfig
from mappo.errors import UserError
from mappo.networks.encoders import make_encoder
from mappo.networks.layers import GRU, LayerNorm, Linear, ParameterSets
from mappo.networks.normalizers import RunningNorm


class Tower(nn.Module):
    """Encoder, memory if any, head: what an actor is, and what a critic is.

    Rows are of agents, `(*B, A, *shape)`, or of teams, `(*B, *shape)`. With one set of parameters and no id the
    agents' axis is like any other: a single agent's rows may come alone.

    Args:
        shape: of one row: `(F,)`, or an image `(H, W, C)`. out: numbers that it answers for each.
        sets: the set of parameters that each agent uses; empty for rows of teams.
        kinds: agents of one kind share the statistics of their observations (`network.obs_norm`).
        agent_id: a one-hot id is appended to the features or channels of each row.
        gain: initial scale of the head.
        constants: so many further numbers do not depend on the input: log standard deviations of a Gaussian.
    """

    def __init__(
        self,
        shape: Sequence[int],
        out: int,
        net: NetworkConfig,
        *,
        sets: Sequence[int] = (),
        kinds: Sequence[int] = (),
        agent_id: bool = False,
        gain: float = 1.0,
        constants: int = 0,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        if net.obs_norm and len(self.shape) == 3:
            raise UserError("network.obs-norm is for vectors, and these agents see images: leave it out")
        self.sets, self.lower = ParameterSets(sets), net.precision == "bf16"
        self.norm = RunningNorm(self.shape[-1], kinds) if net.obs_norm else None
        self.needs_agents = agent_id or self.sets.count > 1 or (self.norm is not None and self.norm.kinds is not None)
        ids = torch.eye(len(sets)) if agent_id else None
        self.register_buffer("ids", ids, persistent=False)
        self.ids: Tensor | None
        features = self.shape[-1] + (len(sets) if agent_id else 0)
        self.encoder = make_encoder(self.sets.count, (*self.shape[:-1], features), net)
        width = net.memory_size or net.hidden[-1]
        self.gru = GRU(self.sets.count, net.hidden[-1], width) if net.memory_size else None
        self.gru_norm = LayerNorm(self.sets.count, width) if net.memory_size and net.layer_norm else None
        self.head = Linear(self.sets.count, width, out, gain)
        start = torch.full((self.sets.count, constants), math.log(net.initial_std))
        self.constants = nn.Parameter(start) if constants else None

    @property
    def memory_size(self) -> int:
        return self.gru.width if self.gru is not None else 0

    def rows(self, x: Tensor) -> tuple[int, ...]:
        """The axes of x in front of what one row reads."""
        return tuple(x.shape[: x.ndim - len(self.shape)])

    def forward(self, x: Tensor, memory: Tensor | None = None, first: Tensor | None = None) -> tuple[Tensor, Any]:
        """What each row answers, and the memory after it.

        Args:
            x: `(*B, A, *shape)`; with a memory a sequence, `(L, *B, A, *shape)`.
            memory: `(*B, A, H)`, before the first step. first: `(L, *B, A)`: memory starts at zero here.

        Returns:
            `(..., A, out + constants)`; and the memory after each step `(L, *B, A, H)`, None without one.
        """
        if not self.lower:
            return self._answer(x, memory, first)
        with torch.autocast(x.device.type, torch.bfloat16):
            y, memory = self._answer(x, memory, first)
        dtype = self.head.weight.dtype
        return y.to(dtype), memory if memory is None else memory.to(dtype)

    def _answer(self, x: Tensor, memory: Tensor | None, first: Tensor | None) -> tuple[Tensor, Any]:
        x = self.encoded(x)
        if self.gru is not None:
            if memory is None or first is None:
                raise ValueError(
                    "a network with a memory reads sequences (L, ...), a memory and `first`; or call `step`"
                )
            x = after = self.gru(x, self.sets.deal(memory, 1), self.sets.deal(first, 0))
            memory = self.sets.gather(after)
            x = x if self.gru_norm is None else self.gru_norm(x)
        y = self.head(x)
        if self.constants is not None:
            lead = () if self.sets.count == 1 else (self.sets.count, *(1,) * (y.ndim - 2))
            y = torch.cat([y, self.constants.reshape(*lead, -1).expand(*y.shape[:-1], -1)], -1)
        return self.sets.gather(y), memory

    def encoded(self, x: Tensor) -> Tensor:
        """The features of rows `(*B, A, *shape)`, dealt to the sets of parameters."""
        if self.ids is not None:
            ids = self.ids.to(x.dtype) * (255 if x.dtype == torch.uint8 else 1)
            planes = len(self.shape) - 1
            ids = ids.reshape(len(ids), *(1,) * planes, len(ids)).expand(*x.shape[:-1], len(ids))
            x = torch.cat([x, ids], -1)
        if x.dtype == torch.uint8:  # bytes until here
            x = x.to(self.head.weight.dtype) / 255
        return self.encoder(self.sets.deal(x, len(self.shape)))

    def step(self, x: Tensor, memory: Tensor | None = None, first: Tensor | None = None) -> tuple[Tensor, Any]:
        """One step: `x (*B, A, *shape)`, memory `(*B, A, H)` or None at first, `first (*B, A)` or None for never."""
        if self.gru is None:
            return self(x)
        rows = self.rows(x)
        if memory is None:
            memory = torch.zeros(*rows, self.gru.width, dtype=self.head.weight.dtype, device=x.device)
        first = torch.zeros(rows, dtype=torch.bool, device=x.device) if first is None else first
        y, after = self(x.unsqueeze(0), memory, first.unsqueeze(0))
        return y[0], after[0]

    def see(self, x: Tensor, active: Tensor | None = None) -> Tensor:
        """What an environment gives, as `forward` reads it: whatever an inactive agent sees, NaN included, reads 0.

        Vectors in the network's dtype, normalised if asked for; images `(H, W, C)`, bytes as they are.
        """
        if len(self.shape) == 1 or x.dtype != torch.uint8:
            x = x.to(self.head.weight.dtype)
        x = x if self.norm is None else self.norm(x)
        if active is None:
            return x
        return torch.where(active.reshape(*active.shape, *(1,) * len(self.shape)), x, 0)
