"""Nested dicts of tensors by dotted names, as files hold them."""

from collections.abc import Container, Mapping
from typing import Any, cast

from torch import Tensor


def flatten(prefix: str, tensors: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Flatten nested dicts of tensors into one dict with dotted names that begin with the prefix."""
    result: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = f"{prefix}.{key}"
        result |= flatten(name, cast(Mapping[Any, Any], value)) if isinstance(value, Mapping) else {name: value}
    return result


def subdict(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors under a prefix, without the prefix: the inverse of `flatten`, one level deep."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + ".")}


def mismatch(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], optional: Container[str] = ()) -> str:
    """Return the first difference from the expected names, shapes and dtypes; "" if there is none.

    Args:
        actual: tensors by name.
        expected: tensors with the expected names, shapes and dtypes.
        optional: names that may be missing.
    """
    for name, x in actual.items():
        like = expected.get(name)
        if like is None:
            return f"it holds {name!r}, which nothing reads"
        if x.shape != like.shape or x.dtype != like.dtype:
            return f"{name} is {tuple(x.shape)} of {x.dtype}, and should be {tuple(like.shape)} of {like.dtype}"
    missing = [name for name in expected if name not in actual and name not in optional]
    return f"it lacks {missing[0]}" if missing else ""
