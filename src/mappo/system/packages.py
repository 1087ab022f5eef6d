"""Commands that install optional packages, for messages. Imports no torch."""

import functools
import os
import re
import shlex
import shutil
import sys
from importlib import metadata
from pathlib import Path

_CHECKOUT = Path(__file__).parents[3]


@functools.cache
def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra of mappo, into the Python of this process.

    The command names the packages themselves. mappo is on no package index, so `mappo[extra]` alone would not be found.
    """
    try:
        requirements = metadata.requires("mappo") or []
    except metadata.PackageNotFoundError:
        requirements = []
    found = [re.fullmatch(rf"(.+?) *; *extra == [\"']{re.escape(extra)}[\"']", text) for text in requirements]
    packages = [match[1] for match in found if match] or [f"{_CHECKOUT}[{extra}]"]
    return pip_install(*packages)


def pip_install(*requirements: str) -> str:
    """Return the command that installs packages into the Python of this process."""
    python = Path(sys.executable)
    found = shutil.which("pip")
    if found is not None and Path(found).parent == python.parent:
        return shlex.join(["pip", "install", *requirements])
    relative = os.path.relpath(python)
    program = str(python) if relative.startswith("..") else relative
    return shlex.join([program, "-m", "pip", "install", *requirements])
