"""Nested tensors by dotted names, as files hold them."""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor


def flat(prefix: str, tensors: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Nested dicts of tensors as one, names joined by dots, the prefix first."""
    result: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = f"{prefix}.{key}"
        result |= flat(name, cast(Mapping[Any, Any], value)) if isinstance(value, Mapping) else {name: value}
    return result


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The inverse of `flat`, one level deep: what stands under a prefix, without it."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + ".")}
