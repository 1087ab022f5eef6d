"""Disks that are full, broken, read-only or forbidden."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults.operations import ERRORS, EVERY, UPDATES, Faults, every_operation, go_on, killed_at, train, unscored
from faults.runs import SIZE, Violation, forked, outcome, resuming, words

NOBODY = 65534
LAST = f"{UPDATES * SIZE:012d}"


@contextmanager
def mounted(folder: Path, kilobytes: int) -> Iterator[Callable[[str], None]]:
    """A small disk; gives what changes its options."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], check=True)

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    try:
        yield remount
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disks(folder: Path, whole: dict[str, Any]) -> str:
    """Real ones, of growing size, then one that becomes read-only."""
    trials, stopped = range(4, 124, 4), 0  # kilobytes: pages
    for kilobytes in trials:
        place = folder / f"{kilobytes}k"
        with mounted(place, kilobytes) as remount:
            told, where = forked_run(place, folder / "log", words("plain", place / "run", UPDATES, EVERY)), place.name
            if told is not None:
                stopped += 1
                if "No space left on device" not in told:
                    raise Violation(f"{where}: it does not say what happened\n{told}")
            remount("size=64m")
            go_on(place / "run", place, whole, where)
    with mounted(folder / "read-only", 64_000) as remount:
        run = folder / "read-only" / "run"
        forked(words("plain", run, UPDATES, EVERY), folder / "log")
        shutil.rmtree(run / "checkpoints" / LAST)
        remount("ro")
        told = forked(resuming(run), folder / "log", (2,))
        if "Read-only file system" not in told or len(told.strip().splitlines()) != 1:
            raise Violation(f"read-only: {told}")
        remount("rw")
        go_on(run, folder, whole, "read-only")
    return f"{len(trials)} full disks, of which {stopped} ended the run, and a read-only one"


def forked_run(place: Path, log: Path, args: list[str]) -> str | None:
    """What a training told that ended with exit code 2; None if it went well."""
    text = forked(args, log, (0, 2))
    if "mappo: " not in text or "Scoring" in text:
        return None
    return text


def forbidden(folder: Path, whole: dict[str, Any]) -> str:
    """As a user who may not write: nothing, not the run, not its checkpoints, not its rows, not its score."""
    user = NOBODY if os.getuid() == 0 else None
    folder.chmod(0o777)
    place = folder / "place"
    place.mkdir()
    log = place / "log"
    place.chmod(0o777)
    run = place / "run"
    for path in [folder, *folder.parents]:  # it must get there
        if path.stat().st_uid == os.getuid() and path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    closed = place / "closed"
    closed.mkdir(mode=0o555)
    told = forked(words("plain", closed / "run", UPDATES, EVERY), log, (2,), user)
    if "cannot make" not in told or "Permission denied" not in told:
        raise Violation(f"no directory: {told}")
    trials = [".", "checkpoints", "metrics.csv", "timing.csv", ".lock", "config.json", "tensorboard"]
    for name in trials:
        shutil.rmtree(run, ignore_errors=True)
        forked(words("plain", run, UPDATES, EVERY), log, (0,), user)
        shutil.rmtree(run / "checkpoints" / LAST)
        path = run / name
        mode = path.stat().st_mode
        path.chmod(0o000 if name == "config.json" else 0o555 if path.is_dir() else 0o444)
        told = forked(resuming(run), log, (0, 2), user)
        if "Permission denied" not in told:
            if name in ("metrics.csv", "timing.csv"):  # replaced, which the directory allows
                continue
            raise Violation(f"{name} may not be written: {told}")
        path.chmod(mode)
        go_on(run, place, whole, f"{name} may not be written")
    return f"{1 + len(trials)} places that may not be written"


def each_operation(folder: Path, kind: str, stride: int = 1) -> tuple[dict[str, Any], int]:
    """Kills a run at each of its operations, or at every few; what it comes to undisturbed, and their number."""
    place = folder / kind
    place.mkdir()
    counting = Faults(place)
    if train(place, counting, kind).code:
        raise Violation("a run without faults fails")
    whole, count = outcome(place / "run"), len(counting.done)
    killed_at(folder, whole, range(1, count + 1, stride), kind)
    print(f"  {kind}: killed at {len(range(1, count + 1, stride))} of {count} operations", flush=True)
    return whole, count


def run(folder: Path) -> str:
    """All of it. Real disks need the right to mount them, and are said to be left out without."""
    with unscored():
        each_operation(folder, "seeds", 3)
        whole, count = each_operation(folder, "plain")
        stopped = every_operation(folder, whole, count)
    went_on = count * len(ERRORS) - stopped
    print(f"  {count} operations, {len(ERRORS)} errors each: {stopped} runs ended, {went_on} went on", flush=True)
    parts: list[str] = []
    for name, part in (("full", full_disks), ("forbidden", forbidden)):
        here = folder / name
        here.mkdir()
        try:
            parts.append(part(here, whole))
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            parts.append(f"{name} disks left out: {error}")
    return "; ".join(parts)
