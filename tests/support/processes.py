"""Several processes of one run, started with the variables of env://."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from paths import PYTHONPATH


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(args: Sequence[str], size: int, **variables: str) -> list["subprocess.Popen[str]"]:
    """`python ARGS` as each of `size` processes."""
    common = os.environ | {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH, "GLOO_SOCKET_IFNAME": "lo"}
    streams: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen([sys.executable, *args], env=common | variables | {"RANK": str(rank)}, **streams)
        for rank in range(size)
    ]


def results(processes: Sequence["subprocess.Popen[str]"], timeout: float = 600) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of each."""
    found: list[tuple[int, str, str]] = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=timeout)
            found.append((process.returncode, out, err))
    finally:
        for process in processes:
            process.kill()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
    return found
