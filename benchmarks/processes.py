"""What a second process brings: the time of an update by one process, by one with two threads, and by two.

    python benchmarks/processes.py                  # four minutes on two free cores
    python benchmarks/processes.py --seconds 5 --works spread-128 lbf

The ways take turns in one run: two joined processes stay, and the first works alone or with two threads while the
other waits. After two updates of each as burn-in, as many rounds as fit into `--seconds` are timed, at least four. The
table has medians, and the ratio to one process with its 95 % interval over rounds (`results/processes.csv`). `cpu_time`
is the ratio in CPU time, of the process with more of it: no time of waiting for the other process or other programs.
`apart` is two processes at once, each with half of the environments, and no message: the most that this machine gives.
`steps` is the ratio of two processes to one in the gradient steps alone, without rollouts.
The time of a message between the processes by its size follows: an input of `benchmarks/scale_out.py`.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from record import RESULTS, append, circumstances

WORKS = {
    "spread-128": ("spread", "default", 128),
    "battle-128": ("battle", "default", 128),
    "spread-2048": ("spread", "default", 2048),
    "paper-2048": ("spread", "paper", 2048),
    "paper-4096": ("spread", "paper", 4096),
    "lbf": ("lbf/Foraging-8x8-2p-2f-coop-v3", "default", 64),
}
SIZES = (8, 50_000, 500_000, 5_000_000)  # bytes of messages
MESSAGES = 100
LEAST = 4


def work(names: Sequence[str], seconds: float, out: str) -> None:
    """What each of the processes does; the first writes what it measured."""
    import torch

    from mappo.backend.process_group import joined
    from mappo.system import hardware as machine
    from mappo.system.launched import find_place

    machine.keep_freed_memory()
    torch.set_num_threads(1)
    place = find_place()
    with joined(place, False, 600) as ranks:
        found = [compared(name, seconds, ranks) for name in names]
        messages = {size: message_times(size, ranks) for size in SIZES}
    if not place.rank:
        Path(out).write_text(json.dumps({"rows": found, "messages": messages}), encoding="utf-8")


def training(
    name: str, ranks: Any, workers: int, share: int = 1
) -> tuple[Callable[[], float], Any, Callable[[], None]]:
    """A function that does an update and returns the seconds of its gradient steps; its settings; one that ends it."""
    import torch

    from mappo import envs
    from mappo.algorithms.mappo import MAPPO
    from mappo.training.setup import make_collector

    game, preset, num_envs = WORKS[name]
    config = envs.preset(game, preset)
    config = replace(config, env=replace(config.env, num_envs=num_envs // share, workers=workers))
    env = envs.for_training(game, config.share(ranks.size), torch.device("cpu"))
    agent, collector = make_collector([MAPPO(env[0].spec, config, seed=1, ranks=ranks)], env[0])

    def update() -> float:
        rollout, episodes = collector.collect()
        started = time.perf_counter()
        metrics = {**episodes, **agent.update(rollout)}
        torch.stack([x.float().mean() for x in metrics.values()]).tolist()
        return time.perf_counter() - started

    def close() -> None:
        for one in env:
            if one is not None:
                one.close()

    return update, config, close


def compared(name: str, seconds: float, ranks: Any) -> dict[str, Any]:
    """Seconds of an update by each way, in each round."""
    import torch

    from mappo.backend.ranks import ALONE

    two, config, close_two = training(name, ranks, workers=1)
    apart, _, close_apart = training(name, ALONE, workers=1, share=ranks.size)
    alone, _, close_alone = training(name, ALONE, workers=2) if not ranks.rank else (two, config, lambda: None)

    def timed(way: str, update: Callable[[], float], threads: int, is_here: bool) -> dict[str, float]:
        ranks.largest(0.0)
        torch.set_num_threads(threads)
        started = (time.perf_counter(), time.process_time())
        steps = update() if is_here else 0.0
        elapsed = (time.perf_counter() - started[0], time.process_time() - started[1], steps)
        torch.set_num_threads(1)
        return dict(zip((way, f"{way}_cpu", f"{way}_steps"), ranks.largest(*elapsed), strict=True))

    def turn() -> dict[str, float]:
        is_first = not ranks.rank
        found = timed("one", alone, 1, is_first) | timed("two", two, 1, True) | timed("apart", apart, 1, True)
        return found | timed("threads", alone, 2, is_first)

    for _ in range(2):  # burn-in
        turn()
    rounds: list[dict[str, float]] = []
    started = time.perf_counter()
    while len(rounds) < LEAST or ranks.largest(time.perf_counter() - started)[0] < seconds:
        rounds.append(turn())
    for close in (close_two, close_apart, close_alone):
        close()
    ppo = config.ppo
    return {
        "work": name,
        "rows_a_step": config.steps_per_update // ppo.minibatches,
        "times": {way: [x[way] for x in rounds] for way in rounds[0]},
    }


def message_times(size: int, ranks: Any) -> list[float]:
    """Seconds of each sum of so many bytes over the processes."""
    import torch

    x = torch.zeros(max(1, size // 4))
    times: list[float] = []
    for _ in range(MESSAGES if size < 10**6 else MESSAGES // 4):
        started = time.perf_counter()
        ranks.sum_([x])
        times.append(time.perf_counter() - started)
    return times


def ratio(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Median of a/b over rounds, and its 95 % interval by the bootstrap."""
    import numpy as np

    ratios = np.array(a) / np.array(b)
    drawn = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(drawn, 1), [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def started(size: int, arguments: Sequence[str]) -> None:
    """Run this script as so many joined processes."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    common = os.environ | {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, __file__, *arguments]
    processes = [subprocess.Popen(command, env=common | {"RANK": str(rank)}) for rank in range(size)]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"a process failed: exit codes {codes}")


def main() -> None:
    """Start the processes, and show what they measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", nargs="*", default=list(WORKS), choices=[*WORKS])
    parser.add_argument("--seconds", type=float, default=20.0, help="that each work is timed for, at least")
    parser.add_argument("--size", type=int, default=2, help="processes; with more than two only messages are timed")
    parser.add_argument("--out", type=Path, default=RESULTS / "processes.csv")
    parser.add_argument("--work", help=argparse.SUPPRESS)  # what the processes are told
    args = parser.parse_args()
    if args.work:
        work(args.works, args.seconds, args.work)
        return
    where = circumstances()
    told = args.out.with_suffix(".json")
    names = args.works if args.size == 2 else []
    started(args.size, ["--work", str(told), "--seconds", str(args.seconds), "--works", *names])
    found = json.loads(told.read_text(encoding="utf-8"))
    told.unlink()
    for row in found["rows"]:
        times = row["times"]
        one = times["one"]
        shown: dict[str, Any] = {"work": row["work"], "rows_a_step": row["rows_a_step"], "rounds": len(one)}
        shown |= {"one_ms": round(1000 * sorted(one)[len(one) // 2], 1)}
        ratios = {way: ratio(one, times[way]) for way in ("threads", "two", "apart")}
        ratios |= {"cpu_time": ratio(times["one_cpu"], times["two_cpu"])}
        ratios |= {"steps": ratio(times["one_steps"], times["two_steps"])}
        for way, (middle, low, high) in ratios.items():
            shown |= {way: round(middle, 3), f"{way}_low": round(low, 3), f"{way}_high": round(high, 3)}
        append(args.out, [where | shown])
        print(shown, flush=True)
    for size, times in found["messages"].items():
        middle = sorted(times)[len(times) // 2]
        spent = f"{1e6 * min(times):,.0f} us least, {1e6 * middle:,.0f} median"
        print(f"a sum of {int(size):>9,} bytes by {args.size}: {spent}")


if __name__ == "__main__":
    main()
