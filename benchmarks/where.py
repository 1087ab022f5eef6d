"""Where the time of training goes, by kind of operator: the straightforward learner's beside this one's.

    python benchmarks/where.py            # half a minute

The work and the learners are those of speed.py. torch's profiler says what share of an update each kind of operator
takes by itself; the shares are of what an update takes without the profiler, which slows every operator alike, so that
they compare within a column and less well across them. Adds to benchmarks/results/where.csv.
"""

import argparse
import re
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from record import RESULTS, append, circumstances
from rich.console import Console
from rich.table import Table
from speed import ENVS, STEPS, SYSTEMS, Update
from torch.profiler import ProfilerActivity, profile

from mappo.experiments.workload import RECIPES
from mappo.system import hardware as machine

# The first that fits names an operator; all are of aten, without their prefix.
KINDS = {
    "matrix products": r"mm$|addmm|bmm|linear|matmul|convolution",
    "activations": r"tanh|sigmoid|relu|threshold|huber|smooth",
    "LayerNorm": r"layer_norm",
    "Adam": r"adam|Adam|Optimizer|lerp|addcdiv|_foreach_(?!norm|mul)",
    "gradient norms": r"norm|clip_grad|_foreach_mul",
    "softmax and choice": r"softmax|gather|scatter|exp$|log$|cumsum|logsumexp|multinomial|one_hot|argmax",
    "sums and means": r"sum|mean|var|std|max|min|all$|any$",
    "copies": r"copy|clone|cat$|stack|index|contiguous|fill|zero|select_backward|slice_backward|to$",
    "other arithmetic": r"add|sub|mul|div|neg|where|clamp|square|sqrt|pow|eq|ne$|lt|gt|ge|le$|rsub|abs|bitwise|logical",
}


def kind_of(operator: str) -> str:
    """The kind that an operator, or a step of the backward pass, counts as."""
    name = operator.removeprefix("aten::")
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), "else: Python, autograd, views")


def shares(update: Update, updates: int) -> dict[str, float]:
    """Seconds of an update by kind, as shares that add up to 1, and `seconds`: of one update, unobserved."""
    update()
    started = time.perf_counter()
    for _ in range(updates):
        update()
    seconds = (time.perf_counter() - started) / updates
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(updates):
            update()
    spent = dict.fromkeys((*KINDS, "else: Python, autograd, views"), 0.0)
    for event in seen.key_averages():
        spent[kind_of(event.key)] += event.self_cpu_time_total
    total = sum(spent.values())
    return {kind: x / total for kind, x in spent.items()} | {"seconds": seconds}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "where.csv")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    machine.keep_freed_memory()  # as `mappo train`
    where, rows = circumstances(), list[dict[str, object]]()
    table = Table(box=None)
    table.add_column("ms for 1,000 steps", no_wrap=True)
    found = {(r, n): shares(SYSTEMS[n](r, 1), args.updates) for r in RECIPES for n in ("straightforward", "mappo")}
    for recipe, name in found:
        table.add_column(f"{recipe}: {name}", justify="right", no_wrap=True)
    for kind in (*KINDS, "else: Python, autograd, views"):
        times = [x[kind] * x["seconds"] / (ENVS * STEPS) * 1e6 for x in found.values()]
        table.add_row(kind, *[f"{t:.1f}" for t in times])
        rows += [
            {**where, "recipe": recipe, "system": name, "kind": kind, "ms_per_1k": round(t, 3)}
            for (recipe, name), t in zip(found, times, strict=True)
        ]
    table.add_row("all", *[f"{x['seconds'] / (ENVS * STEPS) * 1e6:.1f}" for x in found.values()])
    Console(width=110).print(table)
    append(args.out, rows)


if __name__ == "__main__":
    main()
