"""How long from an empty shell to a score on spread: starts of Python and torch, evaluations and files included.

    python benchmarks/time_to_score.py                                   # five seeds, on a free core; twenty minutes
    python benchmarks/time_to_score.py --seeds 1 -- --run.total-steps 500000   # what follows -- goes to mappo train

Each seed is one `mappo train spread` as a shell would start it. Its metrics.csv is watched, and the moment is noted at
which a greedy evaluation during training (256 games that training never sees) first reaches each threshold: seconds
since the process started, by the clock and of CPU (Linux). Then `mappo evaluate` scores the last policy on the package
mpe2. Thresholds are returns of the team on mpe2's scale: random play -81, the central planner -24.7. A row for each
seed and threshold, and for the ends of training and of the command (which scores and draws by itself), goes to
benchmarks/results/time_to_score.csv.
"""

import argparse
import csv
import importlib.util
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from record import RESULTS, Usage, append, circumstances, fail, finished, tail

EVERY = 0.05  # seconds between two looks at a run


@dataclass(frozen=True)
class Seen:
    """A row of metrics.csv, and when it was there. `value` is the evaluation's return, None without one."""

    step: int
    value: float | None
    wall: float
    cpu: float | None


def cpu_seconds(pid: int) -> float | None:
    """Of a process and the children it waited for; None where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            numbers = stat.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return sum(map(int, numbers[11:15])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Reads a growing metrics.csv, whole lines only."""

    def __init__(self, metrics: Path) -> None:
        self.metrics, self.at = metrics, 0
        self.titles: list[str] = []
        self.seen: list[Seen] = []

    def look(self, wall: float, cpu: float | None) -> None:
        """Notes what has come since the last look."""
        try:
            with self.metrics.open("rb") as file:
                file.seek(self.at)
                new = file.read()
        except OSError:
            return
        new = new[: new.rfind(b"\n") + 1]
        self.at += len(new)
        for row in csv.reader(new.decode().splitlines()):
            if not self.titles:
                self.titles = row
                continue
            told = dict(zip(self.titles, row, strict=True))
            value = float(told["eval_return"]) if told["eval_return"] else None
            self.seen.append(Seen(int(told["step"]), value, wall, cpu))


def follow(command: Sequence[str], metrics: Path, log: Path) -> tuple[list[Seen], Usage]:
    """Runs a training, and notes when each row of its metrics.csv came."""
    watch = Watch(metrics)
    with log.open("w", encoding="utf-8") as file, ThreadPoolExecutor(1) as pool:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        ending = pool.submit(finished, process, started)
        while not ending.done():
            cpu = cpu_seconds(process.pid)
            watch.look(time.perf_counter() - started, cpu)
            time.sleep(EVERY)
        used = ending.result()
    watch.look(used.wall, used.cpu)
    return watch.seen, used


def points(seen: Sequence[Seen], used: Usage, thresholds: Sequence[float]) -> list[dict[str, Any]]:
    """When each threshold was passed, blank if never; when training ended, and the command."""
    evaluations = [row for row in seen if row.value is not None]
    found = [
        (f"{t:g}", next((x for x in evaluations if x.value is not None and x.value >= t), None)) for t in thresholds
    ]
    found.append(("trained", seen[-1] if seen else None))
    rows = [
        {"point": name, "step": "", "eval_return": "", "wall_s": "", "cpu_s": ""}
        if at is None
        else {
            "point": name,
            "step": at.step,
            "eval_return": "" if at.value is None else round(at.value, 2),
            "wall_s": round(at.wall, 2),
            "cpu_s": "" if at.cpu is None else round(at.cpu, 2),
        }
        for name, at in found
    ]
    whole = {"step": seen[-1].step if seen else "", "eval_return": ""}
    return [*rows, {"point": "exit", **whole, "wall_s": round(used.wall, 2), "cpu_s": round(used.cpu, 2)}]


def score(run: Path, episodes: int) -> dict[str, Any]:
    """The last policy on mpe2 itself; blank for no episodes."""
    if not episodes:
        return {"score": "", "score_low": "", "score_high": "", "score_on": "", "score_episodes": 0}
    command = [
        sys.executable,
        "-m",
        "mappo",
        "evaluate",
        str(run),
        "--on",
        "mpe2",
        "--json",
        "--episodes",
        str(episodes),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"mappo evaluate: {done.stderr.strip()}")
    result = json.loads(done.stdout)
    mean = result["return_sum"]["mean"]
    low, high = result["return_sum"]["ci95"] or (mean, mean)  # a single episode has no interval
    return {
        "score": round(mean, 2),
        "score_low": round(low, 2),
        "score_high": round(high, 2),
        "score_on": result["package_version"],
        "score_episodes": result["episodes"],
    }


def main() -> None:
    """Trains, prints, and adds the rows of each seed as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 1 on")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[-45.0, -36.0, -26.0])
    parser.add_argument("--episodes", type=int, default=2000, help="of the score on mpe2; 0 for none")
    parser.add_argument("--out", type=Path, default=RESULTS / "time_to_score.csv")
    parser.add_argument("settings", nargs="*", metavar="-- SETTINGS", help="for mappo train")
    args = parser.parse_args()
    if args.seeds < 1 or args.episodes < 0:
        parser.error("--seeds must be at least 1, and --episodes at least 0")
    if args.episodes and importlib.util.find_spec("mpe2") is None:
        fail("mpe2 is not installed: pip install 'mappo[mpe]', or --episodes 0")
    passed: dict[str, list[float]] = {}
    for seed in range(1, args.seeds + 1):
        where = circumstances()
        with tempfile.TemporaryDirectory() as folder:
            run, log = Path(folder) / "run", Path(folder) / "log.txt"
            own = ["--run.dir", str(run), "--run.seed", str(seed)]
            command = [sys.executable, "-m", "mappo", "train", "spread", *own, *args.settings]
            seen, used = follow(command, run / "metrics.csv", log)
            if used.code:
                fail(f"mappo train ended with code {used.code}: {tail(log, 8)}")
            result = score(run, args.episodes)
        told = {"settings": shlex.join(args.settings), "seed": seed}
        rows = points(seen, used, args.thresholds)
        append(args.out, [where | told | row | result for row in rows])
        for row in rows:
            if row["wall_s"] == "":
                print(f"seed {seed}: {row['point']:>8} never")
                continue
            print(f"seed {seed}: {row['point']:>8} at step {row['step']:>9,}, {row['wall_s']} s, {row['cpu_s']} CPU-s")
            passed.setdefault(row["point"], []).append(row["wall_s"])
        if args.episodes:
            print(
                f"seed {seed}: {result['score']} ({result['score_low']} to {result['score_high']}) on mpe2", flush=True
            )
    for point, times in passed.items():
        print(f"{point:>8}: {len(times)} of {args.seeds} seeds, median {statistics.median(times):.1f} s")


if __name__ == "__main__":
    main()
