"""What the benchmarks share: where numbers arose, the tables they are added to, and programs that are timed."""

import csv
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mappo.evaluation.statistics import mean_interval
from mappo.system import hardware as machine

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def circumstances() -> dict[str, object]:
    """The first columns of every table."""
    commit, dirty = machine.git_state(HERE, "../src", "*.py") or ("unknown", False)
    load = machine.load_average()
    # Where things lie on this machine is nobody's business.
    script = Path(sys.argv[0]).resolve()
    script = script.relative_to(HERE) if script.is_relative_to(HERE) else Path(script.name)
    arguments = [Path(x).name if Path(x).is_absolute() else x for x in sys.argv[1:]]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "commit": commit,
        "dirty": dirty,
        "cpu": machine.cpu_model(),
        "cores": machine.usable_cores(),
        "load": "" if load is None else round(load, 2),
        "torch": machine.package_version("torch"),
        "python": platform.python_version(),
        "command": shlex.join(["python", f"benchmarks/{script.as_posix()}", *arguments]),
    }


def append(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Adds rows to a table, which is made where there is none; they are on the disk when this returns.

    Raises:
        SystemExit: with a message; the table that is there has other columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    titles = list(rows[0])
    with path.open("a+", newline="", encoding="utf-8") as file:
        file.seek(0)
        there = next(csv.reader(file), None)
        if there is not None and there != titles:
            fail(f"{path} has other columns than these rows: move it away, or give another --out")
        writer = csv.DictWriter(file, titles, lineterminator="\n")
        if there is None:
            writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())


def append_each(path: Path, rows: Iterable[Mapping[str, object]], line: str) -> None:
    """Add each row to a table as soon as it is measured, and print it in the format `line`."""
    for row in rows:
        append(path, [row])
        print(line.format(**row))


def against_package(package: str, ratios: Sequence[float], digits: int) -> dict[str, object]:
    """The last columns of a comparison with a package.

    Args:
        package: name of the package.
        ratios: the ratio of each block; the columns are their mean and its 95 % interval.
        digits: decimals of the ratio.
    """
    low, high = mean_interval(np.array(ratios))
    here = circumstances()
    return {
        "ratio": round(statistics.mean(ratios), digits),
        "low": round(float(low), digits),
        "high": round(float(high), digits),
        "blocks": len(ratios),
        "load": here["load"],
        "cpu": f"{here['cpu']}, {here['cores']} cores",
        "versions": f"{package} {machine.package_version(package)}, torch {here['torch']}",
        "commit": here["commit"],
    }


@dataclass(frozen=True)
class Usage:
    """What a program took, with all that it started and waited for."""

    code: int
    wall: float
    cpu: float
    peak_mib: float


def finished(process: subprocess.Popen[Any], started: float) -> Usage:
    """Waits for a program; `started` is what `time.perf_counter` said before it."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB on Linux
    return Usage(process.returncode, time.perf_counter() - started, used.ru_utime + used.ru_stime, peak)


def run(command: Sequence[str], log: Path) -> Usage:
    """Runs a program on one thread, what it prints in a file."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with log.open("w", encoding="utf-8") as file:
        started = time.perf_counter()
        return finished(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment), started)


def tail(log: Path, count: int = 1) -> str:
    """The last lines of a program that failed: there it says why. Empty ones and the frames of boxes say nothing."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    spoken = [line.strip(" │") for line in lines if any(map(str.isalnum, line))]
    return "\n".join(spoken[-count:]) or "it printed nothing"


def fail(message: str) -> NoReturn:
    """Ends the script with one message, for what its user can mend."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    raise SystemExit(2)
