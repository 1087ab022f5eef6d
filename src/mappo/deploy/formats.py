"""The kinds of files that hold a policy, and where each is written and run. Loads neither torch nor a runtime."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np

if TYPE_CHECKING:
    from mappo.deploy.agent_policy import AgentPolicy

FormatName = Literal["onnx", "pt2", "aoti", "c"]
Arrays = Mapping[str, np.ndarray]
# A file in use: inputs by name, each with a batch axis, to outputs by name.
Runner = Callable[[Arrays], dict[str, np.ndarray]]


class UnavailableError(Exception):
    """Raised where a file cannot be run on this machine: a compiler or a package is missing. The file may be right."""


class Format(Protocol):
    """A module that writes and runs a kind of file."""

    FILES: tuple[str, ...]
    """Names of the files, the first of which is always there."""
    RUNS_CODE: bool
    """Whether opening the file runs a program, which somebody else may have written."""

    def write(self, policy: AgentPolicy, contract: Mapping[str, Any], folder: Path) -> None:
        """Write the files into a folder.

        Raises:
            UserError: a package is missing, or the policy has no such form.
        """
        ...

    def open(self, contract: Mapping[str, Any], folder: Path) -> Runner:
        """Return the file in use.

        Raises:
            UnavailableError: a package or a compiler is missing here.
        """
        ...


MODULES: dict[FormatName, str] = {
    "onnx": "mappo.deploy.onnx_file",
    "pt2": "mappo.deploy.pt2_file",
    "aoti": "mappo.deploy.aoti_file",
    "c": "mappo.deploy.c_file",
}


def get_format(name: FormatName) -> Format:
    """Return the module of a format."""
    return cast(Format, importlib.import_module(MODULES[name]))
