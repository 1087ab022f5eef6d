"""The worker processes of a pool, seen from outside: started, asked, and found dead or hanging."""

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
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Pipe
from typing import Any

from mappo.envs.vector.buffers import Buffers
from mappo.envs.vector.env_group import EnvFailedError
from mappo.envs.vector.team_layout import TeamLayout
from mappo.errors import UserError

# Not multiprocessing's Process: that would run the user's script once more in each worker.
_CODE = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[4])\n"
    "from mappo.envs.vector.worker import main; main(*map(int, sys.argv[1:4]), int(sys.argv[5]))"
)
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
START_TIMEOUT = 600.0  # seconds; some environments start a program of their own


class WorkerLostError(Exception):
    """A worker died, hung, or its environment failed; the message names worker, environment and cause."""


class SharedMemory:
    """A file without a name: nothing is left of it when the last process that holds it ends, however it ends."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.file: Any = os.fdopen(os.memfd_create("mappo"), "w+b")
        else:
            self.file = tempfile.TemporaryFile()  # noqa: SIM115 (stays open)
        self.fd: int = self.file.fileno()

    def map(self, size: int) -> mmap.mmap:
        os.ftruncate(self.fd, size)
        return mmap.mmap(self.fd, size)


class WorkerHandle:
    """One worker process.

    Args:
        name: such as `worker 1 (environments 0-31 and 64-95)`. ranges: of its environments, one for each part.
        job: what it is told first. memory: shared with it. timeout: seconds that one order may take.
    """

    def __init__(
        self, name: str, ranges: Sequence[range], job: dict[str, Any], memory: SharedMemory, timeout: float
    ) -> None:
        self.name, self.ranges, self.timeout = name, ranges, timeout
        self.pending: deque[int] = deque()  # parts that it was sent and has not answered
        self.skipped: set[int] = set()  # parts that it lost: at the next step their episodes are over
        self.failures = 0  # in a row
        self.process: Any = None  # not started yet
        self.arrays: Buffers | None = None
        self._job, self._memory = {**job, "ranges": list(ranges)}, memory

    @property
    def env_indices(self) -> list[int]:
        """Of its environments."""
        return [i for part in self.ranges for i in part]

    def start(self) -> None:
        """Starts the process; its environments are being made when this returns."""
        blackbox = tempfile.TemporaryFile()  # noqa: SIM115 (stays open)
        link, theirs = Pipe()
        path = json.dumps([str(entry) for entry in sys.path])
        handles = (theirs.fileno(), self._memory.fd, blackbox.fileno())
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, *map(str, handles), path, str(os.getpid())],
                env=os.environ | _ONE_THREAD,
                pass_fds=handles,
                stdin=subprocess.DEVNULL,
                stdout=2,  # standard output is the command's own
                process_group=0,  # Ctrl-C is for the pool, which tells its workers
            )
        except BaseException:
            blackbox.close()
            link.close()
            raise
        finally:
            theirs.close()
        self._blackbox, self._link = blackbox, link
        self.pending.clear()
        self._send(pickle.dumps(self._job))

    def layout(self) -> TeamLayout:
        """What its environments look like, once they are made.

        Raises:
            UserError: they cannot be used. LostError: it is not there any more, or one of them failed.
        """
        answer: Any = pickle.loads(self._receive(START_TIMEOUT))
        if isinstance(answer, EnvFailedError):
            raise WorkerLostError(f"{self.name}: {answer}")
        if isinstance(answer, UserError):
            raise answer
        return answer

    def show_in(self, arrays: Buffers, num_envs: int) -> None:
        """Tells it that the memory is there."""
        self.arrays = arrays
        self._send(pickle.dumps(num_envs))

    def send_command(self, what: bytes) -> None:
        self._send(what)

    def receive_answer(self, timeout: float | None = None) -> list[str]:
        """Waits until an order is done, by default as long as a step may take; warnings of its environments.

        Raises:
            LostError: it is not there any more.
        """
        told: Any = self._receive(timeout or self.timeout)
        told = pickle.loads(told) if told else []
        if isinstance(told, UserError):
            raise WorkerLostError(f"{self.name}: {told}")
        return told

    def disconnect(self) -> None:
        """Upon which it leaves."""
        if self.process is None or self._link.closed:
            return
        # Closing does not do: a process that was forked from this one meanwhile keeps its end of the line open.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._link.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
        self._link.close()

    def close(self, patience: float = 5.0) -> bool:
        """Hangs up, and kills it if it does not leave, with all that its environments started.

        Returns:
            Whether it had left by itself.
        """
        if self.process is None:
            return True
        self.disconnect()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        left = self.process.poll() is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._blackbox.close()
        return left

    def _send(self, data: bytes) -> None:
        # To one that died: the answer that does not come tells.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._link.send_bytes(data)

    def _receive(self, timeout: float) -> bytes:
        try:
            if self._link.poll(timeout):
                return self._link.recv_bytes()
        except (EOFError, OSError):  # also within a message
            raise WorkerLostError(self._death_message()) from None
        raise WorkerLostError(self._hang_message(timeout))

    def _death_message(self) -> str:
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:  # it hung up, and a thread of the environment keeps it from leaving
            self.process.kill()
            self.process.wait()
            return f"{self.name} hung up and did not leave {self._env_message()}{self._stack()}"
        try:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        except ValueError:
            how = f"was killed by signal {-code}"
        hint = "; SIGKILL is what a machine short of memory sends" if code == -9 else ""
        return f"{self.name} {how} {self._env_message()}{hint}{self._stack()}"

    def _hang_message(self, timeout: float) -> str:
        where = self._env_message()
        self.process.send_signal(signal.SIGUSR1)  # writes its stack down
        time.sleep(0.5)
        self.process.kill()
        return f"{self.name} gave no answer for {timeout:g} s {where} (env.worker-timeout){self._stack()}"

    def _env_message(self) -> str:
        busy = [] if self.arrays is None else [i for i in self.env_indices if self.arrays["busy"][i]]
        if not busy or self.arrays is None:
            return "between two steps" if self.arrays is not None else "as its environments were made"
        seed, episode = (int(self.arrays[name][busy[0]]) for name in ("seed", "episode"))
        return f"while environment {busy[0]} (seed {seed}, episode {episode}) was at work"

    def _stack(self) -> str:
        self._blackbox.seek(0)
        stack = self._blackbox.read().decode(errors="replace").strip()
        return f"; its stack:\n{stack}" if stack else ""
