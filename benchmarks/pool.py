"""The same Python environments stepped by a plain loop, by worker processes, and by other packages' vectorisers.

    python benchmarks/pool.py                       # on two free cores; pip install supersuit for its rows

mpe2's unmodified `simple_spread_v3.parallel_env` everywhere, 64 of them, random actions; ours as the name
`mpe2/simple_spread_v3` makes it: as the others, it does not ask for `state()`. Rounds are interleaved; each
row is a median of rounds, and ratios are medians of the rounds' ratios to the plain loop. CPU time is that of this
process and all below it, as the system counts it (Linux). Results go to benchmarks/results/pool.csv.
"""

import argparse
import csv
import importlib.util
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from mpe2 import simple_spread_v3

from mappo.config.settings import EnvOptions
from mappo.envs import factory
from mappo.envs.vector.pool import WorkerPool
from mappo.envs.vector.serial import SerialEnvs

SPREAD = EnvOptions(options={"max_cycles": 25})
OUT = Path(__file__).parent / "results" / "pool.csv"


def make() -> Any:
    """One environment, as the package makes it."""
    return simple_spread_v3.parallel_env(max_cycles=25)


class Gym(gymnasium.Env[Any, Any]):
    """A ParallelEnv as gymnasium's AsyncVectorEnv asks for it: dicts of agents, and one reward."""

    def __init__(self) -> None:
        self.env: Any = make()
        agents = self.env.possible_agents
        self.observation_space = spaces.Dict({a: self.env.observation_space(a) for a in agents})
        self.action_space = spaces.Dict({a: self.env.action_space(a) for a in agents})

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.env.reset(seed=seed)[0], {}

    def step(self, action: Any) -> Any:
        obs, rewards, ends, cuts, _ = self.env.step({a: int(x) for a, x in action.items()})
        return obs, float(sum(rewards.values())), all(ends.values()), any(cuts.values()), {}


def ours(env: Any, num_envs: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """One step of all, and what closes them."""
    env.reset(0)
    generator = torch.Generator().manual_seed(0)
    return lambda: env.step(torch.randint(5, (num_envs, 3, 1), generator=generator)), env.close


def loop(num_envs: int, workers: int) -> Any:
    """All in this process, one after another."""
    return ours(SerialEnvs(factory("mpe2/simple_spread_v3", SPREAD), num_envs), num_envs)


def pool(num_envs: int, workers: int) -> Any:
    """In worker processes."""
    return ours(WorkerPool(factory("mpe2/simple_spread_v3", SPREAD), num_envs, EnvOptions(workers=workers)), num_envs)


def async_vector(num_envs: int, workers: int) -> Any:
    """gymnasium's, which has one process for each environment and knows no other way."""
    env = gymnasium.vector.AsyncVectorEnv([Gym] * num_envs)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    agents = list(env.single_action_space.spaces)  # type: ignore[attr-defined]
    return lambda: env.step({a: rng.integers(5, size=num_envs) for a in agents}), env.close


def supersuit(num_envs: int, workers: int) -> Any:
    """SuperSuit's, every agent an environment of its own."""
    import supersuit as ss  # type: ignore[import-not-found]

    vector = ss.pettingzoo_env_to_vec_env_v1(make())
    env = ss.concat_vec_envs_v1(vector, num_envs, num_cpus=workers, base_class="gymnasium")
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    return lambda: env.step(rng.integers(5, size=env.num_envs)), env.close


def cpu_seconds() -> float:
    """Of this process and its descendants, those that have ended included."""
    parents, spent = dict[int, int](), dict[int, float]()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                numbers = stat.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(pid)] = int(numbers[1])
        spent[int(pid)] = sum(map(int, numbers[11:15])) / os.sysconf("SC_CLK_TCK")

    def is_ours(pid: int) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return sum(seconds for pid, seconds in spent.items() if is_ours(pid))


def main() -> None:
    """Measures, prints, and adds the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100, help="of all environments, in each round")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    systems: dict[str, Any] = {"plain loop": loop, "mappo, worker pool": pool, "gymnasium AsyncVectorEnv": async_vector}
    if importlib.util.find_spec("supersuit"):
        systems["SuperSuit concat_vec_envs"] = supersuit
    made = {name: system(args.envs, args.workers) for name, system in systems.items()}
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
    for index in range(args.rounds + 1):
        for name, (step, _) in made.items():
            wall, cpu = time.perf_counter(), cpu_seconds()
            for _ in range(args.steps):
                step()
            spent = time.perf_counter() - wall, cpu_seconds() - cpu
            if index:  # the first round warms up
                rounds[name].append(spent)
    for _, close in made.values():
        close()
    total = args.envs * args.steps
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    versions = " ".join(
        f"{p} {metadata.version(p)}"
        for p in ("mpe2", "pettingzoo", "gymnasium", "numpy", "torch", "supersuit")
        if importlib.util.find_spec(p)
    )
    rows: list[dict[str, Any]] = []
    for name, times in rounds.items():
        base = rounds["plain loop"]
        rows.append(
            {
                "system": name,
                "envs": args.envs,
                "workers": {"plain loop": 0, "gymnasium AsyncVectorEnv": args.envs}.get(name, args.workers),
                "steps_per_s": round(total / statistics.median(w for w, _ in times)),
                "steps_per_cpu_s": round(total / statistics.median(c for _, c in times)),
                "wall_ratio": round(statistics.median(b[0] / t[0] for b, t in zip(base, times, strict=True)), 2),
                "cpu_ratio": round(statistics.median(t[1] / b[1] for b, t in zip(base, times, strict=True)), 2),
                "rounds": args.rounds,
                "cpu": f"{platform.machine()}, {os.cpu_count()} cores",
                "versions": versions,
                "commit": commit.stdout.strip(),
            }
        )
        print("{system:<28} {steps_per_s:>7,} steps/s  {steps_per_cpu_s:>6,} steps/CPU-s  "
              "{wall_ratio:.2f}x as fast, {cpu_ratio:.2f}x the CPU".format(**rows[-1]))  # fmt: skip
    new = not OUT.exists()
    with open(OUT, "a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
