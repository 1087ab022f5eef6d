"""A process that steps some of a pool's environments. Loads no torch: numpy and what the environments need."""

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

RESET, CHECKED_RESET = b"r", b"R"  # else the number of the part to step, as text


def main(control: int, memory: int, blackbox: int, parent: int) -> None:
    """Serves a pool until it hangs up.

    Args:
        control: a socket. memory: a file that the pool maps too. blackbox: where the stack goes in a crash, or when the
            pool asks for it by SIGUSR1. parent: the learner's process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool decides when to stop
    for name in ("SIGTERM", "SIGHUP"):  # sent to all at once where a job or a session ends: the learner saves first
        if hasattr(signal, name):  # heard, not ignored: programs that an environment starts would inherit that
            signal.signal(getattr(signal, name), _ignore_signal)
    ignore_broken_pipe()
    warn_in_one_line()
    faulthandler.enable(blackbox)
    faulthandler.register(signal.SIGUSR1, blackbox)
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the pool was closed, or is gone
        _serve(Connection(control), memory)
    exit_within(1.0, 0)


def _ignore_signal(_number: int, _frame: Any) -> None:
    """Nothing is done."""


def _exit_with_parent(parent: int) -> None:
    """Leaves when the learner is gone, also from an environment that hangs."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _serve(link: Connection, memory: int) -> None:
    job: dict[str, Any] = link.recv()
    try:
        try:
            make = pickle.loads(job["make"])
        except Exception as error:
            raise UserError(f"the function that makes environments cannot be read in a worker: {error!r}") from error
        shard = EnvGroup(make, job["ranges"], job["shared_reward"], job["time_limit"])
    except UserError as error:
        link.send(error)
        return
    link.send_bytes(cloudpickle.dumps(shard.layout))  # its spaces may be classes of the main script
    try:
        num_envs: int = link.recv()  # by now the file is as long as it takes
        shared = mmap.mmap(memory, Buffers.size(shard.layout, num_envs))
        shard.attach(Buffers(shard.layout, num_envs, shared))
        while True:
            order = link.recv_bytes()
            try:
                if order in (RESET, CHECKED_RESET):
                    shard.reset(order == CHECKED_RESET)
                else:
                    shard.step(int(order))
            except UserError as error:
                link.send_bytes(pickle.dumps(error))
                return
            told = shard.warnings()
            link.send_bytes(pickle.dumps(told) if told else b"")
    finally:
        shard.close()
