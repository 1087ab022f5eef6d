"""Programs in processes of their own, which answer through pipes and may fail or hang alone. Loads no torch."""

import contextlib
import os
import shlex
import shutil
import subprocess
import threading
import weakref
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from mappo.errors import UserError

SECONDS = 60.0


def find_command(variable: str, *programs: str) -> list[str]:
    """Return the command in a variable of the environment, or the first installed program; empty without."""
    if os.environ.get(variable):
        return shlex.split(os.environ[variable])
    return [name for name in programs if shutil.which(name)][:1]


class Child:
    """A program in a process of its own, which ends with this object.

    Args:
        command: starts the program.
        name: of the program, for messages.
    """

    def __init__(self, command: Sequence[str | Path], name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        weakref.finalize(self, _end, self._process)

    def ask(self, message: bytes, size: int) -> bytes:
        """Send a message and return an answer of `size` bytes.

        Raises:
            UserError: the program ended.
        """
        stdin = cast(BinaryIO, self._process.stdin)
        with contextlib.suppress(BrokenPipeError):
            stdin.write(message)
            stdin.flush()
        return self.read(size)

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes of the answer.

        Raises:
            UserError: the program ended.
        """
        reply = cast(BinaryIO, self._process.stdout).read(size)
        if len(reply) < size:
            raise UserError(f"{self.name} ended with code {self._process.wait()}")
        return reply

    @contextlib.contextmanager
    def time_limit(self, seconds: float = SECONDS) -> Generator[None]:
        """End the program if the block lasts longer.

        Raises:
            UserError: the program was ended.
        """
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            self._process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if is_late.is_set():
                raise UserError(f"{self.name} did not answer within {seconds:g} s and was ended") from None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a program by the end of its input; kill it where it runs on."""
    with contextlib.suppress(BrokenPipeError):
        cast(BinaryIO, process.stdin).close()
    cast(BinaryIO, process.stdout).close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
