"""The learner's side of a worker process: start, commands, replies, and the detection of death and hanging."""

import contextlib
import json
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Pipe
from typing import Any

from mappo.envs.vector.buffers import Buffers
from mappo.envs.vector.env_group import EnvFailedError
from mappo.envs.vector.team_layout import TeamLayout
from mappo.errors import UserError
from mappo.system.deadline import Deadline

# Not multiprocessing.Process: it would run the user's script once more in each worker.
_CODE = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[4])\n"
    "from mappo.envs.vector.worker import main; main(*map(int, sys.argv[1:4]), *map(int, sys.argv[5:]))"
)
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
START_TIMEOUT = 600.0  # seconds; some environments start a program of their own


class WorkerLostError(Exception):
    """Error of a dead or hanging worker, or of its environment; names worker, environment and cause."""


class SharedMemory:
    """A file without a name: it vanishes with its last process, however the process ends."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.file: Any = os.fdopen(os.memfd_create("mappo"), "w+b")
        else:
            self.file = tempfile.TemporaryFile()  # noqa: SIM115 (stays open)
        self.fd: int = self.file.fileno()

    def map(self, size: int) -> mmap.mmap:
        """Set the size of the memory, and map it into this process."""
        os.ftruncate(self.fd, size)
        return mmap.mmap(self.fd, size)


class WorkerHandle:
    """A worker process.

    Args:
        index: the worker's number.
        ranges: its environments of each half.
        job: first message to the process.
        memory: memory shared with the process.
        timeout: most seconds for a step.
    """

    def __init__(
        self, index: int, ranges: Sequence[range], job: dict[str, Any], memory: SharedMemory, timeout: float
    ) -> None:
        self.name = f"worker {index} (environments {' and '.join(_range_text(envs) for envs in ranges if envs)})"
        self.ranges = ranges
        self.timeout = timeout
        self.pending: deque[int] = deque()  # halves under way: sent, and without a reply
        self.skipped: set[int] = set()  # halves with lost episodes, to report at the next step
        self.num_failures = 0  # in a row
        self.process: Any = None  # until `start`
        self.arrays: Buffers | None = None
        self._job = {**job, "ranges": list(ranges)}
        self._memory = memory

    @property
    def env_indices(self) -> list[int]:
        """Return the indices of all its environments."""
        return [i for envs in self.ranges for i in envs]

    def start(self) -> None:
        """Start the process; it begins to make its environments."""
        blackbox = tempfile.TemporaryFile()  # noqa: SIM115 (stays open)
        link, worker_link = Pipe()
        path = json.dumps([str(entry) for entry in sys.path])
        handles = (worker_link.fileno(), self._memory.fd, blackbox.fileno())
        try:
            in_main_thread = threading.current_thread() is threading.main_thread()
            parent = (str(os.getpid()), str(int(in_main_thread)))
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, *map(str, handles), path, *parent],
                env=os.environ | _ONE_THREAD,
                pass_fds=handles,
                stdin=subprocess.DEVNULL,
                stdout=2,  # standard output belongs to the command
                process_group=0,  # Ctrl-C is for the pool: it stops its workers
            )
        except BaseException:
            blackbox.close()
            link.close()
            raise
        finally:
            worker_link.close()
        self._blackbox = blackbox
        self._link = link
        self.pending.clear()
        self.send(pickle.dumps(self._job))

    def layout(self) -> TeamLayout:
        """Wait until the environments are made, and return their layout.

        Raises:
            UserError: the environments cannot be used.
            WorkerLostError: the worker died, or an environment failed.
        """
        reply: Any = pickle.loads(self._receive(START_TIMEOUT))
        if isinstance(reply, EnvFailedError):
            raise WorkerLostError(f"{self.name}: {reply}")
        if isinstance(reply, UserError):
            raise reply
        return reply

    def attach(self, arrays: Buffers, num_envs: int, agents: Sequence[str]) -> None:
        """Let the worker write into the shared memory, with the agents in the order of all workers."""
        self.arrays = arrays
        self.send(pickle.dumps((num_envs, agents)))

    def send(self, data: bytes) -> None:
        """Send a message, such as a command of `worker`; a dead worker is reported by the missing reply."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._link.send_bytes(data)

    def receive_reply(self, timeout: float | None = None) -> list[str]:
        """Wait until a command is done, and return the warnings of its environments.

        Args:
            timeout: seconds to wait; by default the time limit of a step.

        Raises:
            WorkerLostError: the worker died or hangs, or an environment failed.
        """
        data = self._receive(timeout or self.timeout)
        reply: Any = pickle.loads(data) if data else []
        if isinstance(reply, UserError):
            raise WorkerLostError(f"{self.name}: {reply}")
        return reply

    def disconnect(self) -> None:
        """Close the connection; the worker then exits."""
        if self.process is None or self._link.closed:
            return
        # close() is not enough: a forked child may still hold the socket.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._link.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
        self._link.close()

    def close(self, deadline: Deadline) -> bool:
        """Disconnect, and kill the worker if it does not exit in time, with all processes of its environments.

        Returns:
            True if the worker exited by itself.
        """
        if self.process is None:
            return True
        self.disconnect()
        has_exited = deadline.wait(self._has_exited)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()  # an environment may have moved the worker to another process group
        self.process.wait()
        self._blackbox.close()
        return has_exited

    def _has_exited(self, seconds: float) -> bool:
        """Wait for the end of the process, so many seconds at most; return whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode is not None

    def _has_news(self, seconds: float) -> bool:
        """Wait for a message or for the end of the process, so many seconds at most."""
        # A process forked by an environment in compiled code may hold the connection of a dead worker open.
        return self._link.poll(seconds) or self.process.poll() is not None

    def _receive(self, timeout: float) -> bytes:
        try:
            if not Deadline(timeout).wait(self._has_news):
                raise WorkerLostError(self._hang_message(timeout))
            if self._link.poll():
                return self._link.recv_bytes()
        except (EOFError, OSError):  # also in the midst of a message
            pass
        raise WorkerLostError(self._death_message())

    def _death_message(self) -> str:
        if not Deadline(5.0).wait(self._has_exited):  # a thread of the environment keeps the process alive
            self.process.kill()
            self.process.wait()
            return f"{self.name} disconnected and did not exit {self._env_message()}{self._stack()}"
        code = self.process.returncode
        try:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        except ValueError:
            how = f"was killed by signal {-code}"
        hint = "; a machine short of memory sends SIGKILL" if code == -9 else ""
        return f"{self.name} {how} {self._env_message()}{hint}{self._stack()}"

    def _hang_message(self, timeout: float) -> str:
        where = self._env_message()
        self.process.send_signal(signal.SIGUSR1)  # the worker writes its stack into the black box
        Deadline(2.0).wait(self._has_stack)
        self.process.kill()
        return f"{self.name} gave no answer for {timeout:g} s {where} (env.worker-timeout){self._stack()}"

    def _env_message(self) -> str:
        """Return the environment at work, for a message."""
        if self.arrays is None:
            return "as its environments were made"
        index = next((i for i in self.env_indices if self.arrays["busy"][i]), None)
        if index is None:
            return "between two steps"
        seed, episode = (int(self.arrays[name][index]) for name in ("seed", "episode"))
        return f"while environment {index} (seed {seed}, episode {episode}) was at work"

    def _has_stack(self, seconds: float) -> bool:
        """Wait so many seconds; return whether the black box was filled before."""
        is_filled = os.fstat(self._blackbox.fileno()).st_size > 0
        time.sleep(seconds)
        return is_filled

    def _stack(self) -> str:
        self._blackbox.seek(0)
        stack = self._blackbox.read().decode(errors="replace").strip()
        return f"; its stack:\n{stack}" if stack else ""


def _range_text(envs: range) -> str:
    return str(envs[0]) if len(envs) == 1 else f"{envs[0]}-{envs[-1]}"
