"""Compare mappo's training speed with its peers: `python benchmarks/peers/run.py --place FOLDER`.

Every system runs in a process of its own, with its own packages (`install.py`), restricted to a single core. The
systems of a table take turns: in each round each system runs a few updates, and the others wait. The ratio of a round
is the peer's CPU seconds divided by mappo's. Medians of the rounds and 95 % bootstrap intervals are added to
`benchmarks/results/peers.csv`. README.md lists the differences between the systems of a table.
"""

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from protocol import Peer, PeerError, Reply
from ratios import median_interval, paired_ratio
from tables import OURS, TABLES, System, Table

# One thread, and freed memory stays in the process: without it peers in torch lose time to page faults, as mappo would.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
}
HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from record import RESULTS, append, circumstances, fail  # noqa: E402

import mappo  # noqa: E402


def start(name: str, system: System, place: Path, log: Path, common: Mapping[str, int]) -> Peer:
    """Start a system's process.

    Raises:
        SystemExit: its packages are not installed.
    """
    python = place / system.place / "bin" / "python" if system.place else Path(sys.executable)
    if not python.exists():
        fail(f"{system.place} is not installed in {place}: python benchmarks/peers/install.py {system.place}")
    given = json.dumps({"config": system.config.to_dict(), **common, **system.given})
    environment = os.environ | ENVIRONMENT
    if system.place:
        environment["PYTHONPATH"] = str(Path(mappo.__file__).parents[1]) if system.needs_mappo else ""
    return Peer(name, [str(python), str(HERE / system.script), given], log, environment)


@contextlib.contextmanager
def started(table: Table, place: Path, folder: Path, seed: int) -> Any:
    """Start the systems in turn; yield each by name, with the cost of its start. End them afterwards.

    Raises:
        SystemExit: a system ended early.
    """
    peers: dict[str, tuple[Peer, dict[str, Any]]] = {}
    common = {"seed": seed, "burn_in": table.burn_in}
    try:
        for name, system in table.systems.items():
            peer = start(name, system, place, folder / f"{len(peers)}.log", common)
            peers[name] = peer, {}
            ready, wall = peer.wait_until_ready()
            peers[name][1].update(start_cpu_s=round(ready.cpu, 1), start_s=round(wall, 1), versions=ready.versions)
            print(f"  {name}: ready after {wall:.1f} s", flush=True)
        yield peers
    except PeerError as error:
        fail(str(error))
    finally:
        for peer, _ in peers.values():
            peer.close()


def take_turns(peers: Mapping[str, Peer], rounds: int, updates: int) -> dict[str, list[Reply]]:
    """Return the replies of each system in each round; the order of the systems is drawn anew in each round."""
    replies: dict[str, list[Reply]] = {name: [] for name in peers}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(sorted(peers), len(peers)):
            replies[name].append(peers[name].run(updates))
    return replies


def summarize(table: Table, replies: Mapping[str, list[Reply]]) -> list[dict[str, Any]]:
    """Return a row for each system: seconds for 1,000 environment steps, and the ratio to mappo."""
    cost = {
        name: [1000 * reply.cpu / (table.updates * table.systems[name].steps) for reply in column]
        for name, column in replies.items()
    }
    rows: list[dict[str, Any]] = []
    for name, values in cost.items():
        cpu, cpu_low, cpu_high = median_interval(values)
        ratio, low, high = paired_ratio(values, cost[OURS])
        row = {"system": name, "rounds": len(values), "updates": table.updates, "steps": table.systems[name].steps}
        row |= {"cpu_s_per_1k": round(cpu, 5), "cpu_s_low": round(cpu_low, 5), "cpu_s_high": round(cpu_high, 5)}
        row |= {"ratio": round(ratio, 3), "ratio_low": round(low, 3), "ratio_high": round(high, 3)}
        rows.append(row)
    return rows


def report(rows: list[dict[str, Any]]) -> None:
    """Print the rows of a table."""
    for row in rows:
        print(
            "  {system:<26} {cpu_s_per_1k:.4f} CPU-s for 1,000 steps ({cpu_s_low:.4f} to {cpu_s_high:.4f}); "
            "{ratio:.2f} times mappo's ({ratio_low:.2f} to {ratio_high:.2f})".format(**row)
        )


def check(peers: Mapping[str, Peer], table: Table, steps: int) -> None:
    """Train all systems for some environment steps, and print their returns at ten points."""
    for name, peer in peers.items():
        updates = max(1, steps // table.systems[name].steps // 10)
        returns = [peer.run(updates).episode_return for _ in range(10)]
        print(f"  {name:<26} " + " ".join(f"{value:7.2f}" for value in returns), flush=True)


def main() -> None:
    """Read the command line, measure table by table, and add the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", type=Path, required=True, help="folder with the peers' environments")
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--only", nargs="+", help="places of the peers to compare with, such as jax; by default all")
    parser.add_argument("--rounds", type=int, help="turns of each system; by default the table's number")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "peers.csv")
    parser.add_argument("--check", type=int, metavar="STEPS", help="compare learning curves instead of speed")
    args = parser.parse_args()
    if any(number is not None and number < 1 for number in (args.rounds, args.check)):
        parser.error("--rounds and --check must be at least 1")
    for name in args.tables:
        where = circumstances()
        table = TABLES[name]()
        if args.only:
            chosen = {n: s for n, s in table.systems.items() if not s.place or s.place in args.only}
            table = replace(table, systems=chosen)
        print(f"{name}:", flush=True)
        with (
            tempfile.TemporaryDirectory() as folder,
            started(table, args.place, Path(folder), args.seed) as running,
        ):
            peers = {system: peer for system, (peer, _) in running.items()}
            if args.check:
                check(peers, table, args.check)
                continue
            replies = take_turns(peers, args.rounds or table.rounds, table.updates)
        rows = summarize(table, replies)
        report(rows)
        append(args.out, [where | {"table": name} | row | running[row["system"]][1] for row in rows])


if __name__ == "__main__":
    main()
