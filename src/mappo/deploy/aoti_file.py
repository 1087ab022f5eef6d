"""`policy_aoti.pt2`: a policy compiled by AOTInductor, for C++ programs with libtorch and without Python."""

import importlib
import importlib.metadata
import importlib.util
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load, save  # pyright: ignore[reportUnknownVariableType]

from mappo.deploy.child import Child, find_command
from mappo.deploy.formats import Arrays, Runner, UnavailableError
from mappo.errors import UserError
from mappo.system.safe_read import printable, quote

if TYPE_CHECKING:
    from mappo.deploy.agent_policy import AgentPolicy

FILES = ("policy_aoti.pt2",)
RUNS_CODE = True
START_SECONDS = 120.0  # of the import of torch


def find_compiler() -> list[str]:
    """Return the command of the C++ compiler that torch uses, from CXX in the environment or g++; empty without."""
    return find_command("CXX", "clang++" if sys.platform == "darwin" else "g++")


def write(policy: "AgentPolicy", contract: Mapping[str, Any], folder: Path) -> None:
    """Compile the policy; see `Format`. A C++ program finds names, dtypes and shapes in the package's metadata."""
    if not find_compiler():
        raise UserError(
            "--to aoti needs a C++ compiler, and none was found: install g++, or name yours in the environment "
            "variable CXX"
        )
    from mappo.deploy.tracing import trace

    metadata = {key: "\n".join(map(_signature, contract[key])) for key in ("inputs", "outputs")}
    settings = {"compile_threads": 1, "aot_inductor.metadata": metadata}
    program = trace(policy)
    inductor: Any = importlib.import_module("torch._inductor")
    config: Any = importlib.import_module("torch._inductor.config")
    try:
        with warnings.catch_warnings(), config.patch(settings):
            warnings.simplefilter("ignore")
            inductor.aoti_compile_and_package(program, package_path=str(folder / FILES[0]))
    except Exception as error:  # of the compiler, or of what it lacks
        raise UserError(f"AOTInductor cannot compile the policy: {printable(str(error))[-4000:]}") from error


def _signature(fact: Mapping[str, Any]) -> str:
    """Return a line of a tensor's name, dtype and shape without the batch axis."""
    return " ".join(map(str, [fact["name"], fact["dtype"], *fact["shape"][1:]]))


def open(contract: Mapping[str, Any], folder: Path) -> Runner:
    """Return the file in use, in a process of its own; see `Format`."""
    if importlib.util.find_spec("torch") is None:
        raise UnavailableError("torch is not installed")
    version = importlib.metadata.version("torch")
    if version != contract["torch"]:
        raise UnavailableError(f"it is compiled for torch {quote(str(contract['torch']))}, and here is {version}")
    names = [x["name"] for x in contract["inputs"]]
    script = Path(__file__).with_name("aoti_process.py")
    # -P: the modules beside the script are no modules of its own.
    child = Child([sys.executable, "-P", script, folder / FILES[0], *names], f"the program of {folder / FILES[0]}")
    with child.time_limit(START_SECONDS):
        child.read(len(b"ready"))

    def run(inputs: Arrays) -> dict[str, Any]:
        message = save({name: np.ascontiguousarray(inputs[name]) for name in names})
        with child.time_limit():
            size = child.ask(len(message).to_bytes(8, "little") + message, 8)
            return load(child.read(int.from_bytes(size, "little")))

    return run
