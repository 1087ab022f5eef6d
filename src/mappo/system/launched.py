"""The place of this process among the processes of a run, by the variables of torchrun (env://). Loads no torch."""

import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from mappo.errors import UserError

NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")
# Variable with the process id of the program that started this process for `run.processes`.
LAUNCHER = "MAPPO_LAUNCHER"
START_AGAIN = "Start the run again: it goes on from its last checkpoint"
_MAX_PORT = 65_535
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Place:
    """Rank among `size` processes, and local rank among the `local_size` processes of this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def is_launched() -> bool:
    """Return whether this process is one of several, started by a launcher."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def silence_torch() -> None:
    """Keep the messages of torch's connections off the terminal: mappo's own errors say the same in a line."""
    if is_launched():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")


def is_quiet() -> bool:
    """Return whether another process of the run shows messages that all would show."""
    return is_launched() and os.environ.get("RANK", "0") != "0"


_launchers: list[str] = []  # the launcher of this process, if any


def stop_with_launcher() -> None:
    """Stop this process as by SIGTERM once its launcher is gone, even by SIGKILL: no process is left behind."""
    launcher = os.environ.pop(LAUNCHER, None)  # not for programs that this process starts
    if launcher:
        _launchers.append(launcher)
        threading.Thread(target=_stop_after, args=(int(launcher),), daemon=True).start()


def _stop_after(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def find_place() -> Place:
    """Return the place of this process, from RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE.

    Raises:
        UserError: a variable is missing or wrong, or the processes would not find each other.
    """
    if not is_launched():
        return Place()
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        raise UserError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set: each of several processes "
            f"needs {', '.join(NEEDED)} (docs/cluster.md), a single process needs WORLD_SIZE 1"
        )
    size = _number("WORLD_SIZE", 1)
    rank = _number("RANK", 0)
    if _number("MASTER_PORT", 1) > _MAX_PORT:
        raise UserError(f"MASTER_PORT must be at most {_MAX_PORT}, got {os.environ['MASTER_PORT']}")
    local_size = _number("LOCAL_WORLD_SIZE", 1, str(size if os.environ["MASTER_ADDR"] in _LOOPBACK else 1))
    local_rank = _number("LOCAL_RANK", 0, os.environ["RANK"] if local_size == size else "0")
    place = Place(rank, size, local_rank, local_size)
    if place.rank >= size:
        raise UserError(f"RANK is {place.rank}, and must be below WORLD_SIZE, which is {size}")
    _check_elastic(os.environ)
    if size > local_size:
        _check_hostname()
    return place


def _number(name: str, least: int, default: str = "") -> int:
    text = os.environ.get(name, default)
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"{name} must be a whole number of at least {least}, got {text!r}")
    return int(text)


def _check_elastic(variables: Mapping[str, str]) -> None:
    """Refuse restarts by torchrun that read the addresses of the dead processes (pytorch issue 135712)."""
    restarts = variables.get("TORCHELASTIC_MAX_RESTARTS", "0")
    name = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
    if restarts != "0" and variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and variables.get(name) != "1":
        raise UserError(
            f"with --max-restarts {restarts} torchrun gives restarted processes old addresses: set {name}=1 before it, "
            f"as in: {name}=1 torchrun ..."
        )


def _check_hostname() -> None:
    """Refuse a host whose own name is a loopback address: other hosts would be told that address."""
    if "GLOO_SOCKET_IFNAME" in os.environ:
        return
    host = socket.gethostname()
    try:
        address = socket.gethostbyname(host)
    except OSError:
        address = ""
    if not address or address.startswith("127."):
        found = f"is {address}" if address else "has no address"
        raise UserError(
            f"the name of this host, {host}, {found} here, and other hosts would not find it: set "
            f"GLOO_SOCKET_IFNAME (and NCCL_SOCKET_IFNAME) to the network between the hosts, such as eth0"
        )


def has_restarts() -> bool:
    """Return whether the program that started this process starts lost processes again, or says that it does not."""
    restarts, done = (int(os.environ.get(f"TORCHELASTIC_{name}", "0")) for name in ("MAX_RESTARTS", "RESTART_COUNT"))
    return bool(_launchers) or done < restarts


def exits_as_done() -> bool:
    """Return whether a stopped process must exit with 0: torchrun takes any other code for a death, and restarts."""
    return "TORCHELASTIC_RUN_ID" in os.environ
