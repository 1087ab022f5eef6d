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


class Network(nn.Module):
    """Encoder, memory if any, head: what an actor is, and what a critic is.

    Rows are of agents, `(*B, A, *shape)`, or of teams, `(*B, *shape)`. With one set of parameters and no id the
    agents' axis is like any other: a single agent's rows may come alone.

    Args:
        shape: of one row: `(F,)`, or an image `(H, W, C)`. out_features: numbers that it answers for each.
        parameter_sets: the set of parameters that each agent uses; empty for rows of teams.
        norm_groups: agents of one group share the statistics of their observations (`network.obs_norm`).
        agent_id: a one-hot id is appended to the features or channels of each row.
        gain: initial scale of the head.
        constants: so many further numbers do not depend on the input: log standard deviations of a Gaussian.
    """

    def __init__(
        self,
        shape: Sequence[int],
        out_features: int,
        network_config: NetworkConfig,
        *,
        parameter_sets: Sequence[int] = (),
        norm_groups: Sequence[int] = (),
        agent_id: bool = False,
        gain: float = 1.0,
        constants: int = 0,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        if network_config.obs_norm and len(self.shape) == 3:
            raise UserError("network.obs-norm is for vectors, and these agents see images: leave it out")
        self.parameter_sets, self.uses_bf16 = ParameterSets(parameter_sets), network_config.precision == "bf16"
        self.norm = RunningNorm(self.shape[-1], norm_groups) if network_config.obs_norm else None
        self.needs_agent_axis = (
            agent_id or self.parameter_sets.count > 1 or (self.norm is not None and self.norm.groups is not None)
        )
        ids = torch.eye(len(parameter_sets)) if agent_id else None
        self.register_buffer("ids", ids, persistent=False)
        self.ids: Tensor | None
        features = self.shape[-1] + (len(parameter_sets) if agent_id else 0)
        self.encoder = make_encoder(self.parameter_sets.count, (*self.shape[:-1], features), network_config)
        width = network_config.memory_size or network_config.hidden[-1]
        self.gru = (
            GRU(self.parameter_sets.count, network_config.hidden[-1], width) if network_config.memory_size else None
        )
        self.gru_norm = (
            LayerNorm(self.parameter_sets.count, width)
            if network_config.memory_size and network_config.layer_norm
            else None
        )
        self.head = Linear(self.parameter_sets.count, width, out_features, gain)
        start = torch.full((self.parameter_sets.count, constants), math.log(network_config.initial_std))
        self.constants = nn.Parameter(start) if constants else None

    @property
    def memory_size(self) -> int:
        return self.gru.width if self.gru is not None else 0

    def leading_shape(self, x: Tensor) -> tuple[int, ...]:
        """The axes of x in front of what one row reads."""
        return tuple(x.shape[: x.ndim - len(self.shape)])

    def forward(self, x: Tensor, memory: Tensor | None = None, is_first: Tensor | None = None) -> tuple[Tensor, Any]:
        """What each row answers, and the memory after it.

        Args:
            x: `(*B, A, *shape)`; with a memory a sequence, `(L, *B, A, *shape)`.
            memory: `(*B, A, H)`, before the first step. is_first: `(L, *B, A)`: memory starts at zero here.

        Returns:
            `(..., A, out_features + constants)`; and the memory after each step `(L, *B, A, H)`, None without one.
        """
        if not self.uses_bf16:
            return self._forward(x, memory, is_first)
        with torch.autocast(x.device.type, torch.bfloat16):
            y, memory = self._forward(x, memory, is_first)
        dtype = self.head.weight.dtype
        return y.to(dtype), memory if memory is None else memory.to(dtype)

    def _forward(self, x: Tensor, memory: Tensor | None, is_first: Tensor | None) -> tuple[Tensor, Any]:
        x = self.encode(x)
        if self.gru is not None:
            if memory is None or is_first is None:
                raise ValueError(
                    "a network with a memory reads sequences (L, ...), a memory and `is_first`; or call `step`"
                )
            x = after = self.gru(x, self.parameter_sets.scatter(memory, 1), self.parameter_sets.scatter(is_first, 0))
            memory = self.parameter_sets.gather(after)
            x = x if self.gru_norm is None else self.gru_norm(x)
        y = self.head(x)
        if self.constants is not None:
            lead = () if self.parameter_sets.count == 1 else (self.parameter_sets.count, *(1,) * (y.ndim - 2))
            y = torch.cat([y, self.constants.reshape(*lead, -1).expand(*y.shape[:-1], -1)], -1)
        return self.parameter_sets.gather(y), memory

    def encode(self, x: Tensor) -> Tensor:
        """The features of rows `(*B, A, *shape)`, dealt to the sets of parameters."""
        if self.ids is not None:
            ids = self.ids.to(x.dtype) * (255 if x.dtype == torch.uint8 else 1)
            planes = len(self.shape) - 1
            ids = ids.reshape(len(ids), *(1,) * planes, len(ids)).expand(*x.shape[:-1], len(ids))
            x = torch.cat([x, ids], -1)
        if x.dtype == torch.uint8:  # bytes until here
            x = x.to(self.head.weight.dtype) / 255
        return self.encoder(self.parameter_sets.scatter(x, len(self.shape)))

    def step(self, x: Tensor, memory: Tensor | None = None, is_first: Tensor | None = None) -> tuple[Tensor, Any]:
        """One step: `x (*B, A, *shape)`, memory `(*B, A, H)` or None at first, `is_first (*B, A)` or None for never."""
        if self.gru is None:
            return self(x)
        rows = self.leading_shape(x)
        if memory is None:
            memory = torch.zeros(*rows, self.gru.width, dtype=self.head.weight.dtype, device=x.device)
        is_first = torch.zeros(rows, dtype=torch.bool, device=x.device) if is_first is None else is_first
        y, after = self(x.unsqueeze(0), memory, is_first.unsqueeze(0))
        return y[0], after[0]

    def preprocess(self, x: Tensor, active: Tensor | None = None) -> Tensor:
        """What an environment gives, as `forward` reads it: whatever an inactive agent sees, NaN included, reads 0.

        Vectors in the network's dtype, normalised if asked for; images `(H, W, C)`, bytes as they are.
        """
        if len(self.shape) == 1 or x.dtype != torch.uint8:
            x = x.to(self.head.weight.dtype)
        x = x if self.norm is None else self.norm(x)
        if active is None:
            return x
        return torch.where(active.reshape(*active.shape, *(1,) * len(self.shape)), x, 0)
