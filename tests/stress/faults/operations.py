"""Each operation on files that a run does fails, once or from then on, or is where the run is killed."""

import builtins
import errno
import io
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from safetensors import SafetensorError

from faults.runs import (
    BEGIN_AGAIN,
    Told,
    Violation,
    assert_same,
    command,
    ended,
    fork,
    outcome,
    resuming,
    tracks,
    words,
)
from mappo.cli import ending
from mappo.runs import checkpoint
from mappo.training import session

UPDATES, EVERY = 4, 2
ERRORS = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO)


class Faults:
    """What is done to files below a folder, counted; the `at`-th fails, with `lasting` all behind it too.

    Without an error's `number` the process is killed instead.
    """

    def __init__(self, root: Path, at: int = 0, number: int | None = errno.ENOSPC, lasting: bool = False) -> None:
        self.root, self.at, self.number, self.lasting = str(root), at, number, lasting
        self.done: list[str] = []

    def step(self, what: str, path: Any, half: Callable[[], Any] = lambda: None) -> None:
        """When it is time to, does `half` of it and raises."""
        try:
            name = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fspath(path)
        except (OSError, TypeError):
            return
        if not str(name).startswith(self.root):
            return
        self.done.append(f"{what} {str(name)[len(self.root) :]}")
        if self.at and (len(self.done) == self.at or (self.lasting and len(self.done) > self.at)):
            half()
            if self.number is None:
                os.kill(os.getpid(), signal.SIGKILL)
                raise SystemExit
            raise OSError(self.number, os.strerror(self.number), str(name))

    @contextmanager
    def at_work(self) -> Iterator["Faults"]:
        with ExitStack() as stack:
            for module, name in (
                *((os, n) for n in ("replace", "rename", "mkdir", "unlink", "remove", "rmdir", "fsync", "open")),
                *((os, "chmod"), (shutil, "copymode"), (builtins, "open"), (io, "open")),
            ):
                before = getattr(module, name)
                opens = name == "open" and module is not os
                stack.enter_context(mock.patch.object(module, name, self.watched(name, before, opens)))
            stack.enter_context(mock.patch.object(checkpoint, "save_file", self.saved(checkpoint.save_file)))
            yield self

    def watched(self, name: str, before: Callable[..., Any], opens: bool) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if kwargs.get("dir_fd") is None:  # those of shutil.rmtree fail in silence anyway
                self.step(name, path)
            made = before(path, *args, **kwargs)
            mode = str(kwargs.get("mode", args[0] if args else "r")) if opens else ""
            return Written(made, self, path) if set(mode) & set("wax+") else made

        return call

    def saved(self, before: Callable[..., Any]) -> Callable[..., Any]:
        def save_file(tensors: Any, path: Any) -> None:
            try:
                self.step("save_file", path, half=lambda: Path(path).write_bytes(bytes(100)))
            except OSError as error:  # as the library tells it, which is written in Rust
                raise SafetensorError(f"I/O error: {error.strerror} (os error {error.errno})") from None
            before(tensors, path)

        return save_file


class Written:
    """A file that is open for writing."""

    def __init__(self, file: Any, faults: Faults, path: Any) -> None:
        self._file, self._faults, self._path, self._full = file, faults, path, False

    def write(self, data: Any) -> int:
        self._full = True
        self._faults.step("write", self._path, half=lambda: self._half(data))
        return self._file.write(data)

    def _half(self, data: Any) -> None:
        self._file.write(data[: len(data) // 2])
        self._file.flush()

    def close(self) -> None:
        flushes = self._full and not self._file.closed
        self._file.close()
        if flushes:
            self._faults.step("close", self._path)

    def __enter__(self) -> "Written":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def killed_at(folder: Path, whole: dict[str, Any], numbers: Iterable[int], kind: str = "plain") -> None:
    """Kills a run at these of its operations, in the middle of a write, and goes on with it."""
    for number in numbers:
        place = folder / f"killed-{number}"
        place.mkdir()
        with Faults(place, number, None).at_work() as faults:
            pid = fork(words(kind, place / "run", UPDATES, EVERY), folder / "log")
        code = ended(pid)
        if code != -signal.SIGKILL:
            raise Violation(f"operation {number}: exit code {code}\n{(folder / 'log').read_text()}")
        go_on(place / "run", place, whole, f"killed at operation {faults.at}", kind)
        shutil.rmtree(place)


def train(folder: Path, faults: Faults, kind: str = "plain") -> Told:
    with faults.at_work():
        return command(words(kind, folder / "run", UPDATES, EVERY))


def every_operation(
    folder: Path, whole: dict[str, Any], count: int, errors: tuple[int, ...] = ERRORS, stride: int = 1
) -> int:
    """Lets the operations fail one after the other, in ways that take turns; how many runs that ended."""
    stopped = 0
    for number in range(1, count + 1, stride):
        for turn, error in enumerate(errors):
            place = folder / f"{number}-{turn}"
            place.mkdir()
            faults = Faults(place, number, error, lasting=(number // stride + turn) % 2 == 0)
            stopped += one_fault(place, faults, whole)
            shutil.rmtree(place)
    return stopped


def one_fault(place: Path, faults: Faults, whole: dict[str, Any], kind: str = "plain") -> bool:
    """A run in which something fails ends with one message, or well; and so does its resumption. Whether it ended."""
    told, run, number = train(place, faults, kind), place / "run", faults.number or 0
    where = f"{faults.done[faults.at - 1] if len(faults.done) >= faults.at else 'nothing'}, {os.strerror(number)}"
    where += ", and all behind it" if faults.lasting else ""
    if told.code not in (0, 2) or "Traceback" in told.err + told.out:
        raise Violation(f"{where}: exit code {told.code}\n{told.out}{told.err}")
    messages = [line for line in told.err.splitlines() if line.startswith("mappo: ") and "UserWarning" not in line]
    if told.code == 2 and (len(messages) < 1 or os.strerror(number) not in told.err):
        raise Violation(f"{where}: it does not say what happened, and once\n{told.err}")
    if told.code and not faults.lasting and any(name in where for name in ("/tensorboard", "/.curve.png")):
        raise Violation(f"{where}: what is only shown ends the run\n{told.err}")
    go_on(run, place, whole, where, kind)
    return told.code == 2


def go_on(run: Path, place: Path, whole: dict[str, Any], where: str, kind: str = "plain") -> None:
    """The run without faults: resumed, or begun anew where nothing was saved."""
    try:
        for own in tracks(run) if run.exists() else []:
            checkpoint.load(own)
        saved = run.exists()
    except ValueError as error:
        if "nothing was saved in it yet" not in str(error) and "is not a run directory" not in str(error):
            raise Violation(f"{where}: {error}") from None
        saved = False
    told = command(resuming(run) if saved else words(kind, run, UPDATES, EVERY))
    if not saved and told.code == 2:  # the name of a run with rows, or without config.json, is not free
        if sum(advice in told.err for advice in BEGIN_AGAIN) != 1:
            raise Violation(f"{where}: it is not told to begin again\n{told.err}")
        shutil.rmtree(run)
        told = command(words(kind, run, UPDATES, EVERY))
    if told.code or "passed over" in told.out or "lacks the rows" in told.out:
        raise Violation(f"{where}: resumed with exit code {told.code}\n{told.out}{told.err}")
    assert_same(whole, outcome(run), where)


@contextmanager
def unscored() -> Iterator[None]:
    """The score behind a training writes nothing, and takes longer than these runs."""
    measured = mock.patch.object(session.Evaluator, "measure_at_end", return_value={})
    with mock.patch.object(ending, "show_result"), measured:
        yield
