"""`Network`: encoder, memory and head, the architecture of every actor and critic."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mappo.config import NetworkConfig
from mappo.errors import UserError
from mappo.functional.shapes import append_axes
from mappo.networks.encoders import make_encoder, select_encoder
from mappo.networks.layers import GRU, LayerNorm, Linear, ParameterSets
from mappo.networks.normalizers import RunningNorm


class Network(nn.Module):
    """Encoder, GRU if there is a memory, and head.

    Rows belong to agents, `(*B, A, *shape)`, or to teams, `(*B, *shape)`. With a single set of parameters and no
    id, the agents' axis is a batch axis like any other: rows of a single agent may come alone.

    Args:
        shape: shape of a row: `(F,)`, or an image `(H, W, C)`.
        out_features: outputs for each row.
        network_config: the settings.
        parameter_sets: the set of parameters of each agent; empty for rows of teams.
        norm_groups: agents of one group share the statistics of their observations (`network.obs_norm`).
        agent_id: append a one-hot id to the features or channels of each row.
        gain: initial scale of the head.
        constants: further outputs, independent of the input: log standard deviations of a Gaussian.
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
            raise UserError("network.obs-norm is for vectors, but these agents observe images: leave it out")
        self.parameter_sets = ParameterSets(parameter_sets)
        self.uses_bf16 = network_config.precision == "bf16"
        self.norm = RunningNorm(self.shape[-1], norm_groups) if network_config.obs_norm else None
        ids = torch.eye(len(parameter_sets)) if agent_id else None
        self.register_buffer("ids", ids, persistent=False)
        self.ids: Tensor | None
        num_sets = self.parameter_sets.count
        features = self.shape[-1] + (len(parameter_sets) if agent_id else 0)
        self.encoder = make_encoder(num_sets, (*self.shape[:-1], features), network_config)
        memory_size = network_config.memory_size
        width = memory_size or network_config.hidden[-1]
        self.gru = GRU(num_sets, network_config.hidden[-1], width) if memory_size else None
        self.gru_norm = LayerNorm(num_sets, width) if memory_size and network_config.layer_norm else None
        self.head = Linear(num_sets, width, out_features, gain)
        initial = torch.full((num_sets, constants), math.log(network_config.initial_std))
        self.constants = nn.Parameter(initial) if constants else None

    @property
    def memory_size(self) -> int:
        """H; 0 without a memory."""
        return self.gru.width if self.gru is not None else 0

    @property
    def needs_agent_axis(self) -> bool:
        """Agents differ in parameters, id or statistics: rows must be rows of whole teams, `(*B, A, *shape)`."""
        has_groups = self.norm is not None and self.norm.groups is not None
        return self.ids is not None or self.parameter_sets.count > 1 or has_groups

    def leading_shape(self, x: Tensor) -> tuple[int, ...]:
        """Return the axes of x before the axes of a row."""
        return tuple(x.shape[: x.ndim - len(self.shape)])

    def preprocess(self, x: Tensor, active: Tensor | None = None) -> Tensor:
        """Convert observations to the input of `forward`; the observations of inactive agents, even NaN, become 0.

        Vectors are converted to the network's dtype and normalised if set; images `(H, W, C)` of bytes stay bytes.

        Args:
            x: `(*B, A, *shape)`, or `(*B, *shape)`.
            active: `(*B, A)`; None for all active.
        """
        if len(self.shape) == 1 or x.dtype != torch.uint8:
            x = x.to(self.head.weight.dtype)
        x = x if self.norm is None else self.norm(x)
        if active is None:
            return x
        return torch.where(append_axes(active, x.ndim), x, 0)

    def forward(self, x: Tensor, memory: Tensor | None = None, is_first: Tensor | None = None) -> tuple[Tensor, Any]:
        """Compute the outputs of rows, or of sequences of rows where there is a memory.

        Args:
            x: `(*B, A, *shape)`; with a memory a sequence, `(L, *B, A, *shape)`.
            memory: `(*B, A, H)`, before the first step.
            is_first: `(L, *B, A)`, True where the memory starts at zero.

        Returns:
            Outputs `(..., A, out_features + constants)`, and the memory after each step `(L, *B, A, H)` or None.
        """
        if not self.uses_bf16:
            return self._forward(x, memory, is_first)
        with torch.autocast(x.device.type, torch.bfloat16):
            y, memory = self._forward(x, memory, is_first)
        dtype = self.head.weight.dtype
        return y.to(dtype), memory if memory is None else memory.to(dtype)

    def _forward(self, x: Tensor, memory: Tensor | None, is_first: Tensor | None) -> tuple[Tensor, Any]:
        sets = self.parameter_sets
        x = self.encode(x)
        if self.gru is not None:
            if memory is None or is_first is None:
                raise ValueError(
                    "a network with a memory reads sequences (L, ...), a memory and `is_first`; or call `step`"
                )
            x = self.gru(x, sets.scatter(memory, 1), sets.scatter(is_first, 0))
            memory = sets.gather(x)
            x = x if self.gru_norm is None else self.gru_norm(x)
        y = self.head(x)
        if self.constants is not None:
            lead = () if sets.count == 1 else (sets.count, *(1,) * (y.ndim - 2))
            y = torch.cat([y, self.constants.reshape(*lead, -1).expand(*y.shape[:-1], -1)], -1)
        return sets.gather(y), memory

    def encode(self, x: Tensor) -> Tensor:
        """Compute the features of rows `(*B, A, *shape)`, with the layout of `ParameterSets.scatter`."""
        if self.ids is not None:
            ids = self.ids.to(x.dtype) * (255 if x.dtype == torch.uint8 else 1)
            agents, size = ids.shape
            ids = ids.reshape(agents, *(1,) * (len(self.shape) - 1), size).expand(*x.shape[:-1], size)
            x = torch.cat([x, ids], -1)
        if x.dtype == torch.uint8:  # the rollout keeps bytes, four times smaller
            x = x.to(self.head.weight.dtype) / 255
        return self.encoder(self.parameter_sets.scatter(x, len(self.shape)))

    def step(self, x: Tensor, memory: Tensor | None = None, is_first: Tensor | None = None) -> tuple[Tensor, Any]:
        """Compute one step.

        Args:
            x: `(*B, A, *shape)`.
            memory: `(*B, A, H)`; None for zeros.
            is_first: `(*B, A)`; None for never.

        Returns:
            Outputs `(*B, A, out_features + constants)`, and the memory `(*B, A, H)` or None.
        """
        if self.gru is None:
            return self(x)
        rows = self.leading_shape(x)
        if memory is None:
            memory = torch.zeros(*rows, self.gru.width, dtype=self.head.weight.dtype, device=x.device)
        is_first = torch.zeros(rows, dtype=torch.bool, device=x.device) if is_first is None else is_first
        y, memory_out = self(x.unsqueeze(0), memory, is_first.unsqueeze(0))
        return y[0], memory_out[0]

    def for_agent(self, agent: int) -> "Network":
        """Return the network of a single agent, for rows `(*B, 1, *shape)`: its parameter set, id and statistics.

        The tensors are views of this network's: they follow its training.
        """
        tensors = [*self.parameters(), *self.buffers()]
        memo: dict[int, Any] = {id(x): x for x in tensors}
        network = copy.deepcopy(self, memo)  # copies the modules and shares the tensors
        if self.ids is not None:
            network.ids = self.ids[agent : agent + 1]
        if network.norm is not None:
            network.norm.select_(agent)
        if self.parameter_sets.count > 1:
            index = self.parameter_sets.index_of(agent)
            network.encoder = select_encoder(network.encoder, self.parameter_sets.count, index)
            for module in (network.gru, network.gru_norm, network.head):
                if module is not None:
                    module.select_(index)
            if self.constants is not None:
                network.constants = nn.Parameter(self.constants.detach()[index : index + 1])
        network.parameter_sets = ParameterSets(())
        return network
