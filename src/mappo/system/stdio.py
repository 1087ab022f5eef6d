"""Standard output and standard error that outlast their reader. Loads no torch: workers use it too."""

import errno
import io
import os
import select
import sys
from typing import Any

GONE = (errno.EPIPE, errno.EIO)  # a pipe that nobody reads, a terminal that was closed


class LastingFile(io.FileIO):
    """Leads nowhere once its reader has left: whoever writes has more to lose than what is printed."""

    def write(self, data: Any, /) -> int:
        """As of any file; what nobody can read any more counts as written."""
        try:
            while (written := super().write(data)) is None:  # it does not block, and is full
                select.select([], [self], [])
            return written
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # so that what is written past this object leads there too
            os.close(nowhere)
            if error.errno not in GONE:  # a full disk: told once
                raise
            return memoryview(data).nbytes


def outlast() -> None:
    """Standard output and error take any letter, and no closed terminal or pipe makes them raise."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream.fileno() in (1, 2):  # else it leads nowhere anyway
            stream.flush()
            raw = LastingFile(stream.fileno(), "wb", closefd=False)
            lasting = io.TextIOWrapper(
                io.BufferedWriter(raw),
                encoding=stream.encoding,
                errors="replace",  # a terminal that lacks a letter must not end a run
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, lasting)
