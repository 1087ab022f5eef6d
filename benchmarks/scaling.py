"""How speed and memory grow with the number of environments, on spread.

    python benchmarks/scaling.py                    # 1 to 65,536 environments, on a free core; five minutes
    python benchmarks/scaling.py --most 4096        # a minute

The work of `mappo bench` (25 steps, 64-64, 10 epochs), on one thread, each number of environments in a process of its
own: at least one update of burn-in, then updates for `--seconds`, at least one. Above 1,024 environments an epoch is
cut into minibatches of that many (25,600 rows), which bounds what a gradient step holds. Peak memory is the process's,
Python and torch included. Results: benchmarks/results/scaling.csv, and a picture of the last run in scaling.png.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from record import RESULTS, append, circumstances, run, tail

TOGETHER = 1024  # environments in one minibatch, at most


def numbers(most: int) -> list[int]:
    """Powers of 4."""
    return [4**i for i in range(20) if 4**i <= most]


def work(recipe: str, envs: int, seconds: float, out: Path) -> None:
    """What one process does: trains for some time, and writes how long that took."""
    import torch

    from mappo.experiments.workload import Workload, reference
    from mappo.system import hardware as machine

    machine.keep_freed_memory()  # as `mappo train`
    torch.set_num_threads(1)
    config = reference(recipe, envs)
    config = replace(config, ppo=replace(config.ppo, minibatches=max(1, envs // TOGETHER)))
    training = Workload(config)
    started = time.perf_counter()
    while True:  # burn-in
        training.update()
        if time.perf_counter() - started > min(1.0, seconds):
            break
    updates, cpu, started = 0, time.process_time(), time.perf_counter()
    while not updates or time.perf_counter() - started < seconds:
        training.update()
        updates += 1
    spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - started}
    told = {"minibatches": config.ppo.minibatches, "updates": updates, "steps": updates * training.steps}
    out.write_text(json.dumps(spent | told), encoding="utf-8")


def measured(recipe: str, envs: int, seconds: float, folder: Path) -> dict[str, Any]:
    """The row of one number of environments; blank, with an error, where its process failed."""
    out, log = folder / "spent.json", folder / "log.txt"
    out.unlink(missing_ok=True)
    used = run([sys.executable, __file__, "--work", recipe, str(envs), str(seconds), str(out)], log)
    row: dict[str, Any] = {"recipe": recipe, "envs": envs}
    if used.code or not out.exists():
        told = "killed, as for too much memory" if used.code == -9 else tail(log)
        names = ("minibatches", "updates", "steps_per_s", "cpu_s_per_1k", "wall_s_per_1k", "peak_mib")
        return row | dict.fromkeys(names, "") | {"error": told}
    spent = json.loads(out.read_text(encoding="utf-8"))
    return row | {
        "minibatches": spent["minibatches"],
        "updates": spent["updates"],
        "steps_per_s": round(spent["steps"] / spent["wall_s"], 1),
        "cpu_s_per_1k": round(1000 * spent["cpu_s"] / spent["steps"], 5),
        "wall_s_per_1k": round(1000 * spent["wall_s"] / spent["steps"], 5),
        "peak_mib": round(used.peak_mib),
        "error": "",
    }


def plot(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Speed and memory over the number of environments."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    good = [row for row in rows if not row["error"]]
    panels = {
        "steps_per_s": "environment steps in a second",
        "cpu_s_per_1k": "CPU-seconds for 1,000 environment steps",
        "peak_mib": "peak memory of the process, MiB",
    }
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for ax, (name, label) in zip(axes, panels.items(), strict=True):
        ax.plot([row["envs"] for row in good], [row[name] for row in good], "o-", color="#1f6fb2")
        ax.set_xscale("log", base=4)
        ax.set_yscale("log")
        ax.set_title(label, fontsize=11)
        ax.set_xlabel("environments")
        ax.set_xticks([row["envs"] for row in good], [f"{row['envs']:,}" for row in good], rotation=45)
        ax.minorticks_off()
        ticks = nice([row[name] for row in good])
        ax.set_yticks(ticks, [f"{x:,g}" for x in ticks])
        ax.grid(alpha=0.3)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def nice(values: Sequence[float]) -> list[float]:
    """Round numbers around and between: 1, 2 and 5 of each power of 10."""
    rounds = [digit * 10.0**power for power in range(-6, 10) for digit in (1, 2, 5)]
    below = max(x for x in rounds if x <= min(values))
    above = min(x for x in rounds if x >= max(values))
    return [x for x in rounds if below <= x <= above]


def main() -> None:
    """Measures one number after the other, and adds each row as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=65_536, help="environments")
    parser.add_argument("--recipe", choices=("full", "plain"), default="plain")
    parser.add_argument("--seconds", type=float, default=10.0, help="that each is timed for, at least")
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.csv")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)  # what the processes are told
    args = parser.parse_args()
    if args.work:
        recipe, envs, seconds, out = args.work
        work(recipe, int(envs), float(seconds), Path(out))
        return
    if args.most < 1 or args.seconds < 0:
        parser.error("--most must be at least 1, and --seconds at least 0")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for envs in numbers(args.most):
            where = circumstances()
            row = measured(args.recipe, envs, args.seconds, Path(folder))
            append(args.out, [where | row])
            rows.append(row)
            told = "{steps_per_s:,.0f} steps/s, {cpu_s_per_1k} CPU-s / 1,000 steps, {peak_mib:,} MiB"
            print(f"{envs:>6,} environments: {row['error'] or told.format(**row)}", flush=True)
    if any(not row["error"] for row in rows):
        picture = args.out.with_suffix(".png")
        plot(rows, f"spread, {args.recipe} recipe, one thread of {where['cpu']}, torch {where['torch']}", picture)
        print(f"added to {args.out}; drawn in {picture}")


if __name__ == "__main__":
    main()
