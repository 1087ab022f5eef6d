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
from mappo.training.train import choose_device


def run_benchmark(device_name: str, num_envs: int, threads: int, rounds: int) -> None:
    """Measures, and prints two tables of Markdown.

    Raises:
        UserError: there is no such device, or not enough memory.
    """
    device = choose_device(device_name, "--device")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    print(f"measuring on {device.type}, which takes about half a minute on a quiet machine ...", file=sys.stderr)
    rows: list[list[str]] = []
    try:
        for recipe in RECIPES:
            training = Workload(reference(recipe, num_envs), device)
            parts = [*training.parts(), matmul_part(training)]
            rows += table_rows(recipe, measure(parts, training.steps, rounds, synchronizer(device)), device)
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        raise UserError(f"--num-envs {num_envs:,}: not enough memory ({str(error).splitlines()[0]})") from None
    finally:
        torch.set_num_threads(before)
    about = f"{threads} thread{'s' * (threads > 1)}, {rounds} round{'s' * (rounds > 1)}"
    print(markdown(["mappo bench", ""], machine_rows(device, num_envs, about), right=0))
    print()
    titles = ["recipe", "part", "CPU-s / 1,000 steps", "s / 1,000 steps", "steps / s", "of end to end"]
    print(markdown(titles, rows, right=4))


def table_rows(recipe: str, spent: dict[str, list[Cost]], device: torch.device) -> list[list[str]]:
    """A row for each part: medians over rounds. Shares are taken within each, of CPU time, on a GPU of the clock."""
    rows: list[list[str]] = []
    for name, times in spent.items():
        cpu, wall = (statistics.median(x) for x in zip(*times, strict=True))
        clock = 1 if device.type == "cuda" else 0
        share = statistics.median(own[clock] / whole[clock] for own, whole in zip(times, spent[WHOLE], strict=True))
        rows.append([recipe, name, f"{cpu:.5f}", f"{wall:.5f}", f"{1000 / wall:,.0f}", f"{share:.1%}"])
    return rows


def machine_rows(device: torch.device, num_envs: int, about: str) -> list[list[str]]:
    """Where, with what and of what these figures are."""
    memory, load = hardware.memory_gib(), hardware.load_average()
    at = hardware.git_state(Path(__file__).parent)
    return [
        ["CPU", f"{hardware.cpu_model()}, {hardware.usable_cores()} cores usable"],
        ["memory", "unknown" if memory is None else f"{memory:.1f} GiB"],
        ["GPU", torch.cuda.get_device_name(device) if device.type == "cuda" else "none used"],
        ["versions", f"mappo {__version__}, Python {sys.version.split()[0]}, torch {torch.__version__}"],
        ["commit", "no checkout" if at is None else at[0] + ", changed since" * at[1]],
        ["work", f"spread, 3 agents, {num_envs:,} environments x 25 steps, hidden 64-64, 10 epochs, 1 minibatch"],
        *([name, told] for name, told in RECIPES.items()),
        *(
            [["launched", "the update and the whole as recordings, the rest kernel by kernel"]]
            * (device.type == "cuda")
        ),
        ["run", f"{about}, load {'unknown' if load is None else f'{load:.1f}'} at the end"],
    ]


def markdown(titles: list[str], rows: Sequence[Sequence[str]], right: int) -> str:
    """A table, its last `right` columns aligned to the right."""
    widths = [max(3, *(len(row[i]) for row in (titles, *rows))) for i in range(len(titles))]
    left = len(titles) - right

    def line(cells: Sequence[str]) -> str:
        padded = (c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join(map(line, (titles, rule, *rows)))
