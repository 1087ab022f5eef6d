"""`mappo bench`: how fast this machine trains, and where the time goes, as tables to paste into an issue."""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from mappo._version import __version__
from mappo.errors import UserError
from mappo.experiments.workload import RECIPES, WHOLE, Cost, Workload, matmul_part, measure, reference, synchronizer
from mappo.system import hardware
from mappo.training.device import choose_device


def run_benchmark(device_name: str, num_envs: int, threads: int, rounds: int) -> None:
    """Measure all recipes, and print two tables in Markdown.

    Args:
        device_name: `auto`, `cpu` or `cuda`.
        num_envs: environments stepped side by side.
        threads: CPU threads.
        rounds: rounds of measurements.

    Raises:
        UserError: there is no such device, or not enough memory.
    """
    hardware.keep_freed_memory()  # as in training
    device = choose_device(device_name, "--device")
    former_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    print(f"measuring on {device.type}: about half a minute on a quiet machine ...", file=sys.stderr)
    rows: list[list[str]] = []
    try:
        for recipe in RECIPES:
            workload = Workload(reference(recipe, num_envs), device)
            parts = [*workload.parts(), matmul_part(workload)]
            rows += table_rows(recipe, measure(parts, workload.steps, rounds, synchronizer(device)), device)
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        raise UserError(f"--num-envs {num_envs:,}: not enough memory ({str(error).splitlines()[0]})") from None
    finally:
        torch.set_num_threads(former_threads)
    run = f"{threads} thread{'s' * (threads > 1)}, {rounds} round{'s' * (rounds > 1)}"
    print(markdown(["mappo bench", ""], machine_rows(device, num_envs, run), right=0))
    print()
    titles = ["recipe", "part", "CPU-s / 1,000 steps", "s / 1,000 steps", "steps / s", "of end to end"]
    print(markdown(titles, rows, right=4))


def table_rows(recipe: str, costs: dict[str, list[Cost]], device: torch.device) -> list[list[str]]:
    """Return a row for each part: medians over rounds, and the fraction of the whole.

    Fractions are taken within each round: of CPU time on a CPU, of wall time on a GPU.
    """
    clock = 1 if device.type == "cuda" else 0
    rows: list[list[str]] = []
    for name, times in costs.items():
        cpu, wall = (statistics.median(x) for x in zip(*times, strict=True))
        fraction = statistics.median(
            part[clock] / whole[clock] for part, whole in zip(times, costs[WHOLE], strict=True)
        )
        rows.append([recipe, name, f"{cpu:.5f}", f"{wall:.5f}", f"{1000 / wall:,.0f}", f"{fraction:.1%}"])
    return rows


def machine_rows(device: torch.device, num_envs: int, run: str) -> list[list[str]]:
    """Return rows about the machine, the software and the work.

    Args:
        device: measured device.
        num_envs: environments stepped side by side.
        run: threads and rounds of the measurement.
    """
    memory = hardware.memory_gib()
    load = hardware.load_average()
    commit = hardware.git_state(Path(__file__).parent)
    rows = [
        ["CPU", f"{hardware.cpu_model()}, {hardware.usable_cores()} cores usable"],
        ["memory", "unknown" if memory is None else f"{memory:.1f} GiB"],
        ["GPU", torch.cuda.get_device_name(device) if device.type == "cuda" else "none used"],
        ["versions", f"mappo {__version__}, Python {sys.version.split()[0]}, torch {torch.__version__}"],
        ["commit", "no checkout" if commit is None else commit[0] + ", changed since" * commit[1]],
        ["work", f"spread, 3 agents, {num_envs:,} environments x 25 steps, hidden 64-64, 10 epochs, 1 minibatch"],
        *([name, description] for name, description in RECIPES.items()),
    ]
    if device.type == "cuda":
        rows.append(["launched", "the update and the whole as CUDA graphs, the rest kernel by kernel"])
    return [*rows, ["run", f"{run}, load {'unknown' if load is None else f'{load:.1f}'} at the end"]]


def markdown(titles: list[str], rows: Sequence[Sequence[str]], right: int) -> str:
    """Return a table in Markdown, with its last `right` columns aligned to the right."""
    widths = [max(3, *(len(row[i]) for row in (titles, *rows))) for i in range(len(titles))]
    num_left = len(titles) - right

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < num_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if i < num_left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join(map(line, (titles, rule, *rows)))
