"""Nested dicts of tensors as flat dicts with dotted names, as files hold tensors."""

from collections.abc import Container, Mapping
from typing import Any, cast

from torch import Tensor


def flatten(prefix: str, tensors: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return nested dicts of tensors as a flat dict. Names are joined by dots, the prefix first."""
    result: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = f"{prefix}.{key}"
        result |= flatten(name, cast(Mapping[Any, Any], value)) if isinstance(value, Mapping) else {name: value}
    return result


def subdict(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors under a prefix, without the prefix: the inverse of `flatten`, one level deep."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + ".")}


def mismatch(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], optional: Container[str] = ()) -> str:
    """Return the first difference between tensors and the expected names, shapes and dtypes; "" if they fit.

    Args:
        actual: tensors by name, such as the tensors of a file.
        expected: tensors of the expected names, shapes and dtypes.
        optional: expected names that may be missing.
    """
    for name, x in actual.items():
        like = expected.get(name)
        if like is None:
            return f"unexpected tensor {name[:80]!r}"
        if x.shape != like.shape or x.dtype != like.dtype:
            return f"{name} is {tuple(x.shape)} of {x.dtype}, must be {tuple(like.shape)} of {like.dtype}"
    missing = [name for name in expected if name not in actual and name not in optional]
    return f"missing tensor {missing[0]}" if missing else ""
