"""Base class of dataclasses of tensors: the same operation on every field."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor


class TensorStruct:
    """A dataclass with fields of `Tensor` or `Tensor | None`; None stands for an absent field."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the present fields, by name."""
        return {name: x for name, x in vars(self).items() if x is not None}

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return a copy with `function` applied to every tensor."""
        return replace(self, **{name: function(x) for name, x in self.tensors().items()})  # pyright: ignore

    def copy_(self, other: Self) -> None:
        """Copy another struct into these tensors, in place."""
        source = other.tensors()
        for name, x in self.tensors().items():
            x.copy_(source[name])

    @classmethod
    def join(cls, structs: Sequence[Self], function: Callable[[list[Tensor]], Tensor] = torch.cat) -> Self:
        """Join structs, each field by `function`, such as `torch.cat` or `torch.stack`."""
        fields = {name: [s.tensors()[name] for s in structs] for name in structs[0].tensors()}
        return replace(structs[0], **{name: function(xs) for name, xs in fields.items()})  # pyright: ignore
