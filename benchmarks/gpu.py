"""What one GPU does on spread, in one call of ten minutes at most.

    python benchmarks/gpu.py                                          # on a CUDA device
    python benchmarks/gpu.py --device cpu --envs 4 --steps 20000      # tries the script out

The work of `mappo bench` (plain recipe), feed-forward and with a GRU: environment, policy, update alone and the whole,
and peak memory, for each number of environments. Beside it, what says where time goes: the speed of a big copy, bare
matrix products, launches of kernels in an update and the share of the time that any kernel runs; and ten seeds at once
against one. At last a training, and when its evaluations pass the central planner's return on the same games. Each
section stands alone: one that fails leaves a row with what failed, and rows are on the disk as they come
(benchmarks/results/gpu.csv).
"""

import argparse
import contextlib
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import RESULTS, append, circumstances, fail

import mappo
from mappo import envs
from mappo.backend.cuda_graphs import WARM_UP
from mappo.evaluation.episodes import play_episodes
from mappo.evaluation.options import SELECT_SEED
from mappo.evaluation.score import baseline_policies
from mappo.experiments.workload import TimedPart, Workload, matmul_part, measure, reference, synchronizer

NETWORKS = {"feed-forward": 0, "gru": 64}
SEEDS = 10


class Found(NamedTuple):
    """One number."""

    name: str
    value: float
    unit: str


def training(network: str, num_envs: int, device: torch.device) -> Workload:
    """The reference work, with or without memory."""
    config = reference("plain", num_envs)
    return Workload(replace(config, network=replace(config.network, memory_size=NETWORKS[network])), device)


def copies(device: torch.device) -> Iterator[Found]:
    """Memory bandwidth: a copy reads and writes every byte once."""
    count, times = (2**28, 20) if device.type == "cuda" else (2**22, 3)  # floats
    source, target, sync = torch.ones(count, device=device), torch.empty(count, device=device), synchronizer(device)
    target.copy_(source)
    sync()
    started = time.perf_counter()
    for _ in range(times):
        target.copy_(source)
    sync()
    yield Found("copy", 8 * count * times / (time.perf_counter() - started) / 1e9, "GB/s")


def parts(network: str, num_envs: int, rounds: int, device: torch.device) -> Iterator[Found]:
    """How fast each part is alone, and the whole; and what memory training takes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    work = training(network, num_envs, device)
    for _ in range(WARM_UP + 2):
        work.update()
    if device.type == "cuda":
        yield Found("peak memory, of tensors", torch.cuda.max_memory_allocated(device) / 2**20, "MiB")
        yield Found(
            "peak memory, with what is kept to be used again", torch.cuda.max_memory_reserved(device) / 2**20, "MiB"
        )
    for name, spent in measure(work.parts(), work.steps, rounds, synchronizer(device)).items():
        yield Found(name, 1000 / statistics.median(s.wall for s in spent), "steps/s")


def many_seeds(num_envs: int, rounds: int, device: torch.device) -> Iterator[Found]:
    """Ten seeds at once against one: the same work for each."""
    config, updates = reference("plain", num_envs), dict[int, list[float]]()
    work = {n: Workload(replace(config, run=replace(config.run, seeds=n)), device) for n in (1, SEEDS)}
    parts = [TimedPart(str(n), training.update) for n, training in work.items()]
    for name, spent in measure(parts, work[1].steps, rounds, synchronizer(device)).items():
        updates[int(name)] = [s.wall for s in spent]
        yield Found(f"{name} seeds", 1000 / statistics.median(updates[int(name)]), "steps/s of each")
    ratios = [ten / one for ten, one in zip(updates[SEEDS], updates[1], strict=True)]
    yield Found(f"{SEEDS} seeds against one", statistics.median(ratios), "times as long")


def bare(num_envs: int, rounds: int, device: torch.device) -> Iterator[Found]:
    """The matrix products of the feed-forward work, and nothing else."""
    work = training("feed-forward", num_envs, device)
    for name, spent in measure([matmul_part(work)], work.steps, rounds, synchronizer(device)).items():
        yield Found(name, 1000 / statistics.median(s.wall for s in spent), "steps/s")


def launches(network: str, num_envs: int, device: torch.device) -> Iterator[Found]:
    """What one update asks of the device: how often, and for how much of the time."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    work, sync = training(network, num_envs, device), synchronizer(device)
    for _ in range(WARM_UP + 1):
        work.update()
    walls: list[float] = []  # without the profiler, which slows what it looks at
    for _ in range(10 if device.type == "cuda" else 1):
        sync()
        started = time.perf_counter()
        work.update()
        sync()
        walls.append(time.perf_counter() - started)
    wall = statistics.median(walls)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as seen:
        work.update()
        sync()
    events = seen.key_averages()

    def count(word: str) -> int:
        return sum(e.count for e in events if word in e.key)

    yield Found("operators in an update", count("aten::"), "")
    if device.type != "cuda":
        return
    yield Found("kernel launches in an update", count("LaunchKernel"), "")
    yield Found("graph launches in an update", count("GraphLaunch"), "")
    yield Found("waits for the device in an update", count("StreamSynchronize"), "")
    # Operators are told the time of their kernels too, and annotations span others: only what ran on the device counts.
    ran = [e for e in events if e.device_type != DeviceType.CPU and not getattr(e, "is_user_annotation", False)]
    yield Found("time that kernels run, of an update", sum(e.self_device_time_total for e in ran) / wall / 1e4, "%")


def learning(num_envs: int, steps: int, deadline: float, device: torch.device) -> Iterator[Found]:
    """Seconds of training, evaluations and files included, until the central planner is passed."""
    base = mappo.preset("spread", "long")
    games = 1024
    with tempfile.TemporaryDirectory() as folder:
        run = replace(base.run, total_steps=steps, eval_interval=max(1, steps // 40), eval_episodes=games)
        run = replace(run, device=device.type, dir=str(Path(folder) / "run"), progress="off")
        config = replace(base, env=replace(base.env, num_envs=num_envs), run=run)
        testing = envs.make("spread", games, device=device)
        seeds = range(SELECT_SEED, SELECT_SEED + games)  # those that the run is evaluated on
        policy = baseline_policies(testing, "spread", SELECT_SEED)["planner"]
        planner = float(play_episodes(testing, policy, seeds).team_returns.mean())
        yield Found("central planner", planner, "return")
        started, seen, passed = time.perf_counter(), list[float](), list[tuple[float, int]]()

        def after(update: Any) -> None:
            value = update.metrics["eval_return"]
            if value == value:  # an evaluation
                seen.append(value)
                if value > planner:
                    passed.append((time.perf_counter() - started, update.step))
            if passed or time.perf_counter() > deadline:
                raise mappo.StopTraining

        trained = mappo.train("spread", config, callback=after)
    yield Found("best evaluation", max(seen, default=float("nan")), "return")
    yield Found("trained", trained.step, "steps")
    if not passed:
        raise RuntimeError("the planner was not passed in these steps, or in the time that was left")
    yield Found("past the planner", passed[0][0], "s")
    yield Found("past the planner", passed[0][1], "steps")


Section = Callable[[], Iterator[Found]]


def sections(args: argparse.Namespace, device: torch.device, deadline: float) -> dict[tuple[str, str, Any], Section]:
    """All that is to be done, in this order: (section, network, environments)."""
    found: dict[tuple[str, str, Any], Section] = {("bandwidth", "", ""): partial(copies, device)}
    for network in NETWORKS:
        for count in args.envs:
            found["parts", network, count] = partial(parts, network, count, args.rounds, device)
    for count in args.envs:
        found["products", "feed-forward", count] = partial(bare, count, args.rounds, device)
    for network in NETWORKS:
        for count in args.envs:
            found["launches", network, count] = partial(launches, network, count, device)
    found["seeds", "feed-forward", args.envs[0]] = partial(many_seeds, args.envs[0], args.rounds, device)
    found["learning", "feed-forward", args.learn_envs] = partial(
        learning, args.learn_envs, args.steps, deadline, device
    )
    return found


def rows_of(section: Section, deadline: float) -> Iterator[dict[str, Any]]:
    """Its numbers as they come; at last, where it failed, why."""
    if time.perf_counter() > deadline:
        yield {"name": "", "value": "", "unit": "", "error": "left out: no time was left"}
        return
    try:
        for name, value, unit in section():
            yield {"name": name, "value": f"{value:.6g}", "unit": unit, "error": ""}
    except Exception as error:  # too little memory, another torch: the other sections still tell something
        told = (str(error).splitlines() or [""])[0]
        yield {"name": "", "value": "", "unit": "", "error": f"{type(error).__name__}: {told}"}
    finally:
        gc.collect()  # recordings stand in circles with what they record
        if torch.cuda.is_available():
            with contextlib.suppress(RuntimeError):  # after a recording that failed
                torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> None:
    """Section after section, each row on the disk before the next."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--envs", type=int, nargs="+", default=[128, 4096, 65_536])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no section begins, and training stops")
    parser.add_argument("--learn-envs", type=int, default=1024, help="environments of the training")
    parser.add_argument("--steps", type=int, default=20_000_000, help="environment steps of the training")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.csv")
    args = parser.parse_args(arguments)
    if min(*args.envs, args.rounds, args.learn_envs, args.steps) < 1:
        parser.error("--envs, --rounds, --learn-envs and --steps must be at least 1")
    if args.device == "cuda" and not torch.cuda.is_available():
        fail("torch finds no CUDA device here; --device cpu tries the script out, slowly")
    device, deadline = torch.device(args.device), time.perf_counter() + 60 * args.minutes
    torch.set_num_threads(1)  # as in training
    where = circumstances()
    gpu = torch.cuda.get_device_name() if args.device == "cuda" else "none"
    where |= {"gpu": gpu, "cuda": torch.version.cuda or "none"}
    print(f"{gpu}, torch {where['torch']}, CUDA {where['cuda']}, {where['cpu']}")
    for (section, network, count), work in sections(args, device, deadline).items():
        about = {"section": section, "network": network, "envs": count}
        for row in rows_of(work, deadline):
            append(args.out, [where | about | row])
            told = row["error"] or f"{row['name']} {row['value']} {row['unit']}"
            print(f"{section:<10} {network:<13} {count:>6} {told}", flush=True)


if __name__ == "__main__":
    main()
