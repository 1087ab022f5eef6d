"""Twins in torch against the packages they follow: environment steps per CPU second, on one thread.

    python benchmarks/twins.py                      # two minutes; pip install lbforaging rware

A step is an environment step: all agents of a game act once. The package runs a loop over 16 environments, by its
public API. The twin steps 128 and 1,024 games, whose episodes are at different steps, as in training: some end at each
step. Both sides play random actions drawn beforehand. Blocks of all sides take turns, in CPU time of this process.
Rows go to benchmarks/results/twins.csv.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lbforaging.foraging.environment import ForagingEnv
from reading import Block, own_loop
from record import RESULTS, against_package, append_each
from rware.warehouse import Warehouse

from mappo import envs
from mappo.envs.adapters import lbf, rware

PACKAGE_ENVS = 16
# Of each twin, the package and a function that makes its environment.
TWINS: dict[str, tuple[str, Callable[[], Any]]] = {
    f"foraging/{name}": ("lbforaging", lambda name=name: ForagingEnv(**lbf.settings(name)))
    for name in ("Foraging-8x8-2p-2f-coop-v3", "Foraging-10x10-3p-3f-v3", "Foraging-2s-10x10-3p-3f-v3")
} | {
    f"warehouse/{name}": ("rware", lambda name=name: Warehouse(**rware.settings(name)))
    for name in ("rware-tiny-2ag-v2", "rware-tiny-4ag-v2", "rware-small-4ag-v2")
}


def twin_loop(name: str, num_envs: int, length: int) -> Block:
    """The twin, with the clocks of its episodes spread out; the same actions in each block."""
    env: Any = envs.make(name, num_envs)
    env.reset(0)
    env.load_state_dict(env.state_dict() | {"clock": torch.arange(num_envs) % env.horizon})
    generator = torch.Generator().manual_seed(0)
    actions = torch.randint(env.spec.heads[0], (length, num_envs, env.spec.num_agents, 1), generator=generator)

    def play(first: int, last: int) -> None:
        for t in range(first, last):
            env.step(actions[t % length])

    return play


def measure(name: str, sizes: list[int], steps: int, blocks: int) -> dict[int, list[float]]:
    """CPU seconds for an environment step in each block: of the package (key 0) and of each number of games."""
    spec = envs.make(name, 1).spec
    length = steps // PACKAGE_ENVS
    shape = ((blocks + 1) * length, PACKAGE_ENVS, spec.num_agents, 1)
    actions = torch.randint(spec.heads[0], shape, generator=torch.Generator().manual_seed(1))
    sides = {0: (own_loop(TWINS[name][1], actions), length, PACKAGE_ENVS)}
    sides |= {size: (twin_loop(name, size, 100), 100, size) for size in sizes}
    times: dict[int, list[float]] = {size: [] for size in sides}
    for block in range(blocks + 1):
        for size, (play, count, num_envs) in list(sides.items())[:: 1 if block % 2 else -1]:
            start = time.process_time()
            play(block * count, (block + 1) * count)
            if block:  # the first block warms up
                times[size].append((time.process_time() - start) / (count * num_envs))
    return times


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure each twin with each number of games."""
    for name in args.twins:
        package, _ = TWINS[name]
        times = measure(name, args.envs, args.steps, args.blocks)
        for size in args.envs:
            ratios = [own / twin for own, twin in zip(times[0], times[size], strict=True)]
            yield {
                "twin": name,
                "games": size,
                "package_steps_per_cpu_s": round(1 / statistics.median(times[0])),
                "twin_steps_per_cpu_s": round(1 / statistics.median(times[size])),
                **against_package(package, ratios, digits=1),
            }


def main() -> None:
    """Measure, print and add the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--twins", nargs="+", default=list(TWINS), choices=TWINS, metavar="TWIN")
    parser.add_argument("--envs", type=int, nargs="+", default=[128, 1024], help="numbers of games of the twin")
    parser.add_argument("--steps", type=int, default=1600, help="environment steps of the package in a block")
    parser.add_argument("--blocks", type=int, default=15)
    torch.set_num_threads(1)
    append_each(
        RESULTS / "twins.csv",
        rows(parser.parse_args()),
        "{twin:<38} {games:>5} games  {package_steps_per_cpu_s:>7,} package  {twin_steps_per_cpu_s:>9,} twin  "
        "ratio {ratio} ({low} to {high}), load {load}",
    )


if __name__ == "__main__":
    main()
