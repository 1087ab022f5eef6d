"""`policy.c` and `policy.h`: a policy in C99 without dependencies, for microcontrollers and simulators."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mappo.deploy.c.program import compile_program, find_compiler
from mappo.deploy.formats import Runner, UnavailableError
from mappo.system.files import write_text

if TYPE_CHECKING:
    from mappo.deploy.agent_policy import AgentPolicy

FILES = ("policy.c", "policy.h")
RUNS_CODE = True


def write(policy: AgentPolicy, contract: Mapping[str, Any], folder: Path) -> None:
    """Write `policy.c` and `policy.h`; see `Format`."""
    from mappo.deploy.c.source import c_files

    about = [
        f"The policy of agent {contract['agent']}, which acts in {contract['env']}.",
        f"Run {contract['run']}, checkpoint {contract['checkpoint']}, step {contract['step']:,}; "
        f"written by mappo {contract['mappo']}.",
    ]
    for name, text in c_files(policy, about).items():
        write_text(folder / name, text)


def open(contract: Mapping[str, Any], folder: Path) -> Runner:
    """Compile the file; return the program in use. See `Format`."""
    if not find_compiler():
        raise UnavailableError("no C compiler is here (gcc, clang, or the one named by CC)")
    with tempfile.TemporaryDirectory(prefix="mappo-c-") as place:
        return compile_program(folder, Path(place) / "policy", contract).play  # a running program needs no file
