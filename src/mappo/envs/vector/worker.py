"""A worker process for some environments of a pool. Loads no torch: numpy and the environments' packages."""

import contextlib
import ctypes
import faulthandler
import mmap
import os
import pickle
import signal
import sys
import threading
import time
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from mappo.envs.vector.buffers import Buffers
from mappo.envs.vector.env_group import EnvGroup
from mappo.errors import UserError
from mappo.system.shutdown import exit_within
from mappo.system.signals import hold, ignore_signal
from mappo.system.stdio import ignore_broken_pipe, warn_in_one_line

# Any other command is the index of the half to step, as text.
RESET = b"r"
CHECKED_RESET = b"R"


def main(control: int, memory: int, blackbox: int, parent: int, in_main_thread: int) -> None:
    """Serve a pool until it disconnects.

    Args:
        control: file descriptor of a socket, for commands and replies.
        memory: file descriptor of the shared memory.
        blackbox: file descriptor for the stack in a crash, or when the pool sends SIGUSR1.
        parent: process id of the learner.
        in_main_thread: 1 if the main thread of the learner started this process.
    """
    # SIGTERM and SIGHUP go to all processes when a job or a session ends: the learner saves first, and decides when to
    # stop its workers.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        hold(number, ignore_signal)
    ignore_broken_pipe()
    warn_in_one_line()
    faulthandler.enable(blackbox)
    faulthandler.register(signal.SIGUSR1, blackbox)
    if in_main_thread and sys.platform == "linux":  # the kernel signals the end of the thread
        _set_death_signal()
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    link = Connection(control)
    os.register_at_fork(after_in_child=partial(_leave_pool, link))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the pool was closed, or died
        _serve(link, memory)
    exit_within(1.0, 0)


def _set_death_signal() -> None:
    """Make the kernel end this process after the learner, even if compiled code keeps all Python threads waiting.

    The signal calls `alarm(3)` of the C library, which needs no Python; 3 is its number. In these 3 s the thread of
    `_exit_with_parent` ends the helpers of the environment too, if it can.
    """
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGQUIT, ctypes.cast(libc.alarm, ctypes.c_void_p))
    pr_set_pdeathsig = 1
    libc.prctl(pr_set_pdeathsig, signal.SIGQUIT)


def _exit_with_parent(parent: int) -> None:
    """Kill this process and the helpers of its environments when the learner is gone, even if an environment hangs."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


def _leave_pool(link: Connection) -> None:
    """Separate a process forked by an environment from the pool."""
    link.close()  # the pool notices the end of this worker by the end of its connection
    faulthandler.unregister(signal.SIGUSR1)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def _serve(link: Connection, memory: int) -> None:
    """Make the environments, send their layout, then run commands."""
    job: dict[str, Any] = link.recv()
    try:
        group = EnvGroup(_read_maker(job["make"]), job["ranges"], job["shared_reward"], **job["rules"])
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
