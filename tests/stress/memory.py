"""Whether processes take more and more: samples of their memory, files and threads. Linux only: reads /proc.

As a program it trains short runs over and over, with and without workers, until it is ended.
"""

import csv
import gc
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path

# What is held all the time: the least within the second quarter of a part, when all is loaded, and within the last one.
# Of memory, which allocators keep as they please, so much more is no growth; files, threads, processes are exact.
SHARE, LEAST = 0.03, 8.0  # of the memory, and MiB


@dataclass(frozen=True)
class Sample:
    """Of all processes together at one time; `shared_mib` is what /dev/shm and nameless shared memory take."""

    seconds: float
    memory_mib: float
    shared_mib: float
    files: int
    threads: int
    processes: int


def sample(pids: Iterable[int], seconds: float) -> Sample:
    page, memory, files, threads, processes = os.sysconf("SC_PAGE_SIZE"), 0, 0, 0, 0
    shared = dict[int, int]()
    for pid in pids:
        try:
            resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
            tasks, opened = len(os.listdir(f"/proc/{pid}/task")), os.listdir(f"/proc/{pid}/fd")
        except OSError:  # it has just left
            continue
        memory, threads, files, processes = memory + resident, threads + tasks, files + len(opened), processes + 1
        for number in opened:
            with suppress(OSError):  # it has just been closed
                if "memfd:" in os.readlink(link := f"/proc/{pid}/fd/{number}"):
                    found = os.stat(link)
                    shared[found.st_ino] = found.st_blocks * 512
    total = sum(shared.values()) + sum(entry.stat().st_size for entry in os.scandir("/dev/shm") if entry.is_file())
    return Sample(seconds, memory / 2**20, total / 2**20, files, threads, processes)


def growth(samples: Sequence[Sample]) -> str:
    """What has grown from the second quarter of the samples to the last; empty if nothing has."""
    quarter = len(samples) // 4
    before, after = samples[quarter : 2 * quarter], samples[-quarter:]
    told: list[str] = []
    for field in fields(Sample)[1:]:
        old, new = (min(getattr(s, field.name) for s in part) for part in (before, after))
        allowed = max(LEAST, SHARE * old) if field.name == "memory_mib" else 0
        if new > old + allowed:
            told.append(f"{field.name} from {old:g} to {new:g}")
    return ", ".join(told)


def write(parts: dict[str, list[Sample]], out: Path) -> None:
    """`memory.csv` and `memory.png` in a folder."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out.mkdir(parents=True, exist_ok=True)
    with open(out / "memory.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["part", *(field.name for field in fields(Sample))])
        table.writerows([name, *astuple(s)] for name, samples in parts.items() for s in samples)
    figure = Figure(figsize=(8, 6), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    rows = (("memory_mib", "resident memory, MiB"), ("files", "open files"), ("threads", "threads"))
    for axes, (name, label) in zip(figure.subplots(len(rows), 1, sharex=True), rows, strict=True):
        for part, samples in parts.items():
            axes.plot([s.seconds / 60 for s in samples], [getattr(s, name) for s in samples], label=part, lw=1)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(color="#E3E3E3")
    figure.axes[0].set_title("All processes of a training together", loc="left")
    figure.axes[0].legend(loc="lower right")
    figure.axes[-1].set_xlabel("minutes")
    canvas.print_png(out / "memory.png")


def over_and_over() -> None:
    """Trains, and throws away what comes of it."""
    import mappo
    from mappo.config import Config
    from soak import Quick

    base = {
        "env": {"num_envs": 8},
        "network": {"hidden": (8,), "layer_norm": True},
        "ppo": {"rollout_length": 10, "epochs": 1},
        "run": {"total_steps": 800, "eval_interval": 400, "eval_episodes": 4, "progress": "off"},
    }
    count = 0
    while True:
        for env, workers in ((Quick, 0), (Quick, 2), ("spread", 0)):
            with tempfile.TemporaryDirectory() as folder:
                changes = {"env": {"workers": workers}, "run": {"dir": f"{folder}/run"}, "ppo": {"minibatches": 1}}
                mappo.train(env, Config.from_dict(changes, Config.from_dict(base)))
            gc.collect()  # pictures are cycles, of megabytes, that wait for Python to look for such
            count += 1
            print(f"{count} runs", flush=True)


if __name__ == "__main__":
    try:
        from mappo.cli.signals import start_listening

        start_listening()
        over_and_over()
    except KeyboardInterrupt:
        sys.exit(143)
