"""`Network`: encoder, memory and head, the architecture of every actor and critic."""

import copy
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mappo.config import NetworkConfig
from mappo.core.observations import ObsPart, padded_parts
from mappo.core.spec import Spec
from mappo.errors import UserError
from mappo.functional.shapes import append_axes, append_ids
from mappo.networks.cnn import CNN, PartsEncoders, parts_by_set, pixel_mask
from mappo.networks.encoders import BUILT_IN, Role, make_encoder, select_encoder
from mappo.networks.gru import GRU
from mappo.networks.input_reader import InputReader, bytes_reader
from mappo.networks.layers import LayerNorm, Linear, Saved
from mappo.networks.mlp import MLP
from mappo.networks.normalizers import RunningNorm
from mappo.networks.parameter_sets import ParameterSets


class Network(nn.Module):
    """Encoder, GRU if there is a memory, and head.

    Rows belong to agents, `(*B, A, *shape)`, or to teams, `(*B, *shape)`. With a single set of parameters and no
    id, the agents' axis is a batch axis like any other: rows of a single agent may come alone.

    Args:
        shape: shape of a row: `(F,)`, or an image `(H, W, C)`. A reader may change it.
        out_features: outputs for each row.
        network_config: the settings.
        parameter_sets: the set of parameters of each agent; empty for rows of teams.
        norm_groups: agents of one group share the statistics of their observations (`network.obs_norm`).
        agent_id: append a one-hot id to the features or channels of each row.
        gain: initial scale of the head.
        constants: further outputs, independent of the input: log standard deviations of a Gaussian.
        reader: converts raw rows; by default only images of bytes are divided, by 255.
        parts: the parts of the rows of each agent, or of a team, where a vector holds images.
        generator: of the initial weights; by default torch's own.
        role: of the network, for a user's encoder.
        spec: the environment's, for a user's encoder.

    Raises:
        UserError: a setting does not fit the rows.
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
        reader: InputReader | None = None,
        parts: Sequence[Sequence[ObsPart]] = (),
        generator: torch.Generator | None = None,
        role: Role = "actor",
        spec: Spec | None = None,
    ) -> None:
        super().__init__()
        self.reader = bytes_reader(tuple(shape)) if reader is None else reader
        self.shape = self.reader.shape
        if network_config.obs_norm and len(self.shape) == 3:
            raise UserError("network.obs-norm is for vectors, but these agents observe images: leave it out")
        self.parameter_sets = ParameterSets(parameter_sets)
        self.hidden = network_config.hidden
        self.uses_bf16 = network_config.precision == "bf16"
        self.norm = RunningNorm(self.shape[-1], norm_groups) if network_config.obs_norm else None
        rows = [padded_parts(tuple(row), math.prod(self.shape)) for row in parts]
        # Statistics are of numbers alone: pixels are read as they are.
        self.register_buffer("pixels", None if self.norm is None else pixel_mask(rows), persistent=False)
        self.pixels: Tensor | None
        ids = torch.eye(len(parameter_sets)) if agent_id else None
        self.register_buffer("ids", ids, persistent=False)
        self.ids: Tensor | None
        num_sets = self.parameter_sets.count
        features = self.shape[-1] + (len(parameter_sets) if agent_id else 0)
        reads_parts = len(self.shape) == 1 and network_config.encoder in ("auto", "cnn")
        set_parts = parts_by_set(self.parameter_sets.sets, rows if reads_parts else [], features)
        encoder_shape = (*self.shape[:-1], features)
        self.encoder = make_encoder(num_sets, encoder_shape, network_config, generator, set_parts, role, spec)
        memory_size = network_config.memory_size
        width = memory_size or network_config.hidden[-1]
        self.gru = GRU(num_sets, network_config.hidden[-1], width, generator) if memory_size else None
        self.gru_norm = LayerNorm(num_sets, width) if memory_size and network_config.layer_norm else None
        self.head = Linear(num_sets, width, out_features, gain, generator)
        initial = torch.full((num_sets, constants), math.log(network_config.initial_std))
        self.constants = nn.Parameter(initial) if constants else None
        is_built_in = network_config.encoder in ("auto", *BUILT_IN)  # else it may be a user's subclass of MLP
        # Formulas in `record` and `backward` give the gradients of all weights.
        self.has_backward = is_built_in and isinstance(self.encoder, MLP) and not memory_size and not self.uses_bf16

    @property
    def conv_outputs(self) -> int:
        """Number of outputs of all convolutions for a row."""
        counts = [module.num_outputs for module in self.encoder.modules() if isinstance(module, CNN)]
        return sum(counts) // (self.parameter_sets.count if isinstance(self.encoder, PartsEncoders) else 1)

    @property
    def memory_size(self) -> int:
        """H; 0 without a memory."""
        return self.gru.width if self.gru is not None else 0

    @property
    def needs_agent_axis(self) -> bool:
        """Agents differ in parameters, id or statistics: rows must be rows of whole teams, `(*B, A, *shape)`."""
        has_groups = self.norm is not None and self.norm.groups is not None
        is_alike = self.ids is None and self.parameter_sets.count == 1 and not has_groups
        return not is_alike or self.reader.differs_by_agent

    def leading_shape(self, x: Tensor) -> tuple[int, ...]:
        """Return the axes of x before the axes of a row."""
        return tuple(x.shape[: x.ndim - len(self.shape)])

    def preprocess(self, x: Tensor, active: Tensor | None = None) -> Tensor:
        """Convert observations to the input of `forward`; the observations of inactive agents, even NaN, become 0.

        Vectors are converted to the network's dtype and normalised if set; images of bytes stay bytes.

        Args:
            x: `(*B, A, *shape)`, or `(*B, *shape)`.
            active: `(*B, A)`; None for all active.
        """
        x = self.reader(x, self.head.weight.dtype)
        if self.norm is not None:
            normalized = self.norm(x)
            x = normalized if self.pixels is None else torch.where(self.pixels, x, normalized)
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
        return sets.gather(self._append_constants(self.head(x))), memory

    def _append_constants(self, y: Tensor) -> Tensor:
        if self.constants is None:
            return y
        lead = () if len(self.constants) == 1 else (len(self.constants), *(1,) * (y.ndim - 2))
        return torch.cat([y, self.constants.reshape(*lead, -1).expand(*y.shape[:-1], -1)], -1)

    def encode(self, x: Tensor) -> Tensor:
        """Compute the features of rows `(*B, A, *shape)`, with the layout of `ParameterSets.scatter`."""
        return self.encoder(self._scatter(x))

    def _scatter(self, x: Tensor) -> Tensor:
        """Return the inputs of the encoder."""
        x = self.reader.to_floats(x, self.head.weight.dtype)
        if self.ids is not None:
            x = append_ids(x, self.ids.to(x.dtype), len(self.shape) - 1)
        return self.parameter_sets.scatter(x, len(self.shape))

    def record(self, x: Tensor) -> tuple[Tensor, list[Saved]]:
        """Compute the outputs `(*B, A, out_features + constants)` of rows; return also the tensors for `backward`."""
        features, saved = cast(MLP, self.encoder).record(self._scatter(x))
        return self.parameter_sets.gather(self._append_constants(self.head(features))), [*saved, (features,)]

    def backward(self, dy: Tensor, saved: list[Saved]) -> None:
        """Add the gradients of the weights for the gradient of the output, `(*B, A, out_features + constants)`."""
        dy = self.parameter_sets.scatter_gradient(dy)
        if self.constants is not None:
            num_sets, size = self.constants.shape
            d_constants = dy[..., -size:].reshape(num_sets, -1, size).sum(1)
            cast(Tensor, self.constants.grad).add_(d_constants)
            dy = dy[..., :-size]
        (features,) = saved[-1]
        d_features = cast(Tensor, self.head.backward(dy, features))
        cast(MLP, self.encoder).backward(d_features, saved[:-1])

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
        if self.pixels is not None and len(self.pixels) > 1:
            network.pixels = self.pixels[agent : agent + 1]
        network.reader.select_(agent)
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
