"""What many hosts and GPUs would bring, on paper: speed-up of several processes from measured times and a network.

    python benchmarks/scale_out.py                          # the tables of docs/cluster.md
    python benchmarks/scale_out.py --hop-us 20 --gbit 100   # your network
    python benchmarks/scale_out.py --processes 4 16 --work mine 800 300 40 2150

An update takes a fixed time for each gradient step, however few its rows, a time in proportion to its environments, and
the time of its messages. A message is summed over W processes by gloo in a ring of 2 (W - 1) hops, or by NCCL in a tree
of 2 log2(W) hops; its bytes pass the slowest link twice. No process waits for a slower one, which is the best case.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Work:
    """An update of one process.

    Args:
        name: shown in the table.
        update_ms: its time with all environments.
        games_ms: part of it in games of other packages, which a host divides among its worker processes.
        steps: gradient steps, each with a message.
        kilobytes: of all messages together.
    """

    name: str
    update_ms: float
    games_ms: float
    steps: int
    kilobytes: float


@dataclass(frozen=True)
class Network:
    """The way of a message.

    Args:
        hop_us: time of a hop, however small the message.
        gbit: bandwidth of the slowest link, in Gbit/s.
        is_tree: a tree, as by NCCL; else a ring, as by gloo.
    """

    hop_us: float
    gbit: float
    is_tree: bool = False

    def message_ms(self, processes: int, kilobytes: float) -> float:
        """Milliseconds of a sum over the processes."""
        hops = 2 * math.ceil(math.log2(processes)) if self.is_tree else 2 * (processes - 1)
        bits = 2 * kilobytes * 8000 * (processes - 1) / processes
        return hops * self.hop_us / 1e3 + bits / (self.gbit * 1e6)


EXTRA = 7  # messages of an update besides those of its gradient steps


def update_ms(work: Work, network: Network, processes: int, fixed_ms: float, workers: int, divided: bool) -> float:
    """Milliseconds of an update by several processes, with the same environments in all, or as many in each."""
    share = 1 / processes if divided else 1.0
    fixed = min(fixed_ms * work.steps, work.update_ms - work.games_ms)
    arithmetic = work.update_ms - work.games_ms - fixed
    count = work.steps + EXTRA
    messages = count * network.message_ms(processes, work.kilobytes / count) if processes > 1 else 0.0
    return fixed + share * (arithmetic + work.games_ms / workers) + messages


def speed_ups(work: Work, network: Network, processes: int, fixed_ms: float, workers: int) -> tuple[float, float]:
    """Speed-up with the same environments divided, and with as many in each process, for the same steps."""
    one = update_ms(work, network, 1, fixed_ms, workers, True)
    divided = one / update_ms(work, network, processes, fixed_ms, workers, True)
    grown = processes * one / update_ms(work, network, processes, fixed_ms, workers, False)
    return divided, grown


# Measured on one thread of an AMD EPYC (Zen 5) by benchmarks/processes.py; lbforaging's games by benchmarks/reading.py.
HOSTS = [
    Work("`spread`, 128 environments", 76, 0, 40, 2_150),
    Work("`spread`, 2,048", 682, 0, 40, 2_150),
    Work("`spread`, preset `paper`, 4,096", 3_055, 0, 10, 565),
    Work("`battle`, 128", 140, 0, 40, 2_090),
    Work("`lbf`, 64, with 16 workers", 340, 240, 40, 2_150),
]
# Assumed, never measured: launches of 5 us, 450 in a gradient step and 100 in a step of the rollout; 2 ns a row.
GPUS = [
    Work("`spread`, 8,192 environments", 40 * 2.25 + 25 * 0.5 + 5 * 0.41, 0, 40, 2_150),
    Work("`spread`, preset `paper`, 65,536", 10 * 2.25 + 25 * 0.5 + 10 * 3.3, 0, 10, 565),
    Work("`battle`, 8,192", 40 * 2.25 + 25 * 1.0 + 5 * 0.41, 0, 40, 2_090),
    Work("`lbf`, 64, with 16 workers", 40 * 2.25 + 50 * 0.5 + 400, 400, 40, 2_150),
]


def table(works: Sequence[Work], network: Network, sizes: Sequence[int], fixed_ms: float, workers: int) -> str:
    """A Markdown table of both speed-ups."""
    cells = [f"{size:,} divided | {size:,} grown" for size in sizes]
    lines = [f"| work of a process | {' | '.join(cells)} |", "|---" * (1 + 2 * len(sizes)) + "|"]
    for work in works:
        pairs = [speed_ups(work, network, size, fixed_ms, workers) for size in sizes]
        lines.append(f"| {work.name} | {' | '.join(f'{a:.2g}x | {b:,.0f}x' for a, b in pairs)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables of hosts and of GPUs, or of a work given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hop-us", type=float, default=60.0, help="a hop between hosts, for gloo")
    parser.add_argument("--gbit", type=float, default=10.0, help="bandwidth between hosts, in Gbit/s")
    parser.add_argument("--gpu-hop-us", type=float, default=7.0, help="a hop between GPUs, for NCCL")
    parser.add_argument("--gpu-gbit", type=float, default=400.0, help="bandwidth between GPUs, in Gbit/s")
    parser.add_argument("--fixed-ms", type=float, default=0.9, help="part of a gradient step of any size, on a CPU")
    parser.add_argument("--gpu-fixed-ms", type=float, default=2.25, help="the same on a GPU")
    parser.add_argument("--workers", type=int, default=16, help="worker processes of a host, for games in Python")
    parser.add_argument("--processes", type=int, nargs="+", default=[8, 64, 1000])
    parser.add_argument(
        "--work", nargs=5, metavar=("NAME", "UPDATE_MS", "GAMES_MS", "STEPS", "KILOBYTES"), help="your own"
    )
    args = parser.parse_args()
    hosts = HOSTS
    if args.work:
        name, *numbers = args.work
        update, games, steps, kilobytes = map(float, numbers)
        hosts = [Work(name, update, games, int(steps), kilobytes)]
    gloo = Network(args.hop_us, args.gbit)
    print(table(hosts, gloo, args.processes, args.fixed_ms, args.workers))
    if not args.work:
        nccl = replace(gloo, hop_us=args.gpu_hop_us, gbit=args.gpu_gbit, is_tree=True)
        print("\n" + table(GPUS, nccl, args.processes, args.gpu_fixed_ms, args.workers))


if __name__ == "__main__":
    main()
