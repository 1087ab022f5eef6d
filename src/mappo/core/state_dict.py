"""Nested tensors by dotted names, as files hold them."""

from collections.abc import Container, Mapping
from typing import Any, cast

from torch import Tensor

from mappo.system.safe_read import quote


def flatten(prefix: str, tensors: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Nested dicts of tensors as one, names joined by dots, the prefix first."""
    result: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = f"{prefix}.{key}"
        result |= flatten(name, cast(Mapping[Any, Any], value)) if isinstance(value, Mapping) else {name: value}
    return result


def subdict(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The inverse of `flatten`, one level deep: what stands under a prefix, without it."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + ".")}


def mismatch(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], optional: Container[str] = ()) -> str:
    """Return how some tensors differ from the expected names, shapes and dtypes; "" if they fit.

    Names in `optional` may be missing.
    """
    for name, x in actual.items():
        like = expected.get(name)
        if like is None:
            return f"it holds {quote(name)}, which nothing reads"
        if x.shape != like.shape or x.dtype != like.dtype:
            return f"{name} is {tuple(x.shape)} of {x.dtype}, and should be {tuple(like.shape)} of {like.dtype}"
    missing = [name for name in expected if name not in actual and name not in optional]
    return f"it lacks {missing[0]}" if missing else ""
