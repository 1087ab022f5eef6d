"""A worker process for some environments of a pool. Loads no torch: numpy and the environments' packages."""

import contextlib
import faulthandler
import mmap
import os
import pickle
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from mappo.envs.vector.buffers import Buffers
from mappo.envs.vector.env_group import EnvGroup
from mappo.errors import UserError
from mappo.system.shutdown import exit_within
from mappo.system.stdio import ignore_broken_pipe, warn_in_one_line

# Any other command is the index of the half to step, as text.
RESET = b"r"
CHECKED_RESET = b"R"


def main(control: int, memory: int, blackbox: int, parent: int) -> None:
    """Serve a pool until it disconnects.

    Args:
        control: file descriptor of a socket, for commands and replies.
        memory: file descriptor of the shared memory.
        blackbox: file descriptor for the stack in a crash, or when the pool sends SIGUSR1.
        parent: process id of the learner.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool decides when to stop
    # SIGTERM and SIGHUP go to all processes when a job or a session ends: the learner saves first. A handler in place
    # of SIG_IGN: programs started by an environment would inherit SIG_IGN.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _ignore_signal)
    ignore_broken_pipe()
    warn_in_one_line()
    faulthandler.enable(blackbox)
    faulthandler.register(signal.SIGUSR1, blackbox)
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the pool was closed, or died
        _serve(Connection(control), memory)
    exit_within(1.0, 0)


def _ignore_signal(_number: int, _frame: Any) -> None:
    """Do nothing."""


def _exit_with_parent(parent: int) -> None:
    """Exit when the learner is gone, even if an environment hangs."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _serve(link: Connection, memory: int) -> None:
    """Make the environments, send their layout, then run commands."""
    job: dict[str, Any] = link.recv()
    try:
        group = EnvGroup(_read_maker(job["make"]), job["ranges"], job["shared_reward"], job["time_limit"])
    except UserError as error:
        link.send(error)
        return
    link.send_bytes(cloudpickle.dumps(group.layout))  # its spaces may be classes of the main script
    try:
        num_envs, agents = link.recv()  # the pool has set the size of the memory by now
        group.layout.arrange(agents)
        shared = mmap.mmap(memory, Buffers.size(group.layout, num_envs))
        group.attach(Buffers(group.layout, num_envs, shared))
        while True:
            command = link.recv_bytes()
            try:
                if command in (RESET, CHECKED_RESET):
                    group.reset(command == CHECKED_RESET)
                else:
                    group.step(int(command))
            except UserError as error:
                link.send_bytes(pickle.dumps(error))
                return
            texts = group.take_warnings()
            link.send_bytes(pickle.dumps(texts) if texts else b"")
    finally:
        group.close()


def _read_maker(data: bytes) -> Any:
    try:
        return pickle.loads(data)
    except Exception as error:
        raise UserError(f"the function that makes environments cannot be read in a worker: {error!r}") from error
