"""What the benchmarks share: where and on what numbers arose, and the tables that they are added to."""

import csv
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mappo import machine

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def circumstances() -> dict[str, object]:
    """The first columns of every table."""
    commit, dirty = machine.checkout(HERE, "../src", "*.py") or ("unknown", False)
    load = machine.load()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "commit": commit,
        "dirty": dirty,
        "cpu": machine.cpu_model(),
        "cores": machine.usable_cores(),
        "load": "" if load is None else round(load, 2),
        "torch": machine.version("torch"),
        "python": platform.python_version(),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }


def append(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Adds rows to a table, which is made where there is none; they are on the disk when this returns.

    Raises:
        SystemExit: the table that is there has other columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    titles = list(rows[0])
    with path.open("a+", newline="", encoding="utf-8") as file:
        file.seek(0)
        there = next(csv.reader(file), None)
        if there is not None and there != titles:
            raise SystemExit(f"{path} has other columns than these rows: move it away, or give another --out")
        writer = csv.DictWriter(file, titles, lineterminator="\n")
        if there is None:
            writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
