"""`Draft`: the parts of a C file while a policy is written layer by layer."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mappo.deploy.c.text import array_text, float_text
from mappo.errors import UserError


@dataclass(frozen=True)
class Array:
    """Floats in the working memory of a C policy.

    Args:
        place: the C expression for their address.
        shape: `(F,)`, or `(C, H, W)`.
    """

    place: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Count of the floats."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """Name of the field, without the struct before it."""
        return self.place.removeprefix("policy->")

    def at(self, index: int) -> str:
        """Return the C expression for the address of a float."""
        return f"{self.place} + {index}" if index else self.place


class Draft:
    """Constant arrays, fields of the working memory, and calls, in the order of computation."""

    def __init__(self) -> None:
        self.tables: list[str] = []  # definitions
        self.fields: list[Array] = []
        self.calls: list[str] = []
        self.layers: list[str] = []  # a line of text for each layer with weights
        self._uses: Counter[str] = Counter()

    def table(self, name: str, values: Tensor | Sequence[float], c_type: str = "float") -> str:
        """Add a constant array; return its name.

        Raises:
            UserError: a number is NaN.
        """
        name = self._numbered(name)
        if isinstance(values, Tensor):
            values = values.detach().to(torch.float32)
            if values.isnan().any():
                raise UserError(f"the checkpoint holds NaN ({name.lower()}): export another checkpoint")
        self.tables.append(array_text(name, values, c_type))
        return name

    def field(self, name: str, *shape: int) -> Array:
        """Add an array to the working memory."""
        array = Array(f"policy->{self._numbered(name)}", shape)
        self.fields.append(array)
        return array

    def call(self, function: str, *arguments: Any) -> None:
        """Add a call."""
        texts = (float_text(x) if isinstance(x, float) else str(x) for x in arguments)
        self.calls.append(f"{function}({', '.join(texts)});")

    def describe(self, kind: str, x: Array, y: Array, layer: nn.Module) -> None:
        """Add a line to the table of layers."""
        count = sum(p.numel() for p in layer.parameters())
        shapes = " -> ".join(" x ".join(map(str, array.shape)) for array in (x, y))
        self.layers.append(f"{y.name:<14} {kind:<18} {shapes:<30} {count:>10,} weights")

    def _numbered(self, name: str) -> str:
        """Return the name, with a number from its second use on."""
        self._uses[name] += 1
        return f"{name}_{self._uses[name]}" if self._uses[name] > 1 else name
