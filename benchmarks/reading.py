"""The reading of Python environments: steps through `SerialEnvs` against the package's own loop, by CPU time.

    python benchmarks/reading.py                    # a few minutes; pip install lbforaging rware mpe2

Each side steps the same number of environment objects of one package in one process, by random actions drawn
beforehand. The own loop calls the package's public API and resets an environment that is over. Through `SerialEnvs` all
checks are on, and the result is a `TimeStep` of tensors. Blocks of both sides take turns, the order changes from block
to block, and a ratio is that of two neighbouring blocks. Rows go to benchmarks/results/reading.csv.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from lbforaging.foraging.environment import ForagingEnv
from mpe2 import simple_spread_v3
from record import RESULTS, against_package, append_each
from rware.warehouse import Warehouse

from mappo.config.settings import EnvOptions
from mappo.envs import factory
from mappo.envs.adapters import lbf, rware
from mappo.envs.vector.serial import SerialEnvs

PACKAGES: dict[str, tuple[str, Callable[[], Any]]] = {
    "lbf/Foraging-8x8-2p-3f-v3": ("lbforaging", lambda: ForagingEnv(**lbf.settings("Foraging-8x8-2p-3f-v3"))),
    "rware/rware-tiny-2ag-v2": ("rware", lambda: Warehouse(**rware.settings("rware-tiny-2ag-v2"))),
    "mpe2/simple_spread_v3": ("mpe2", simple_spread_v3.parallel_env),
}
Block = Callable[[int, int], None]  # plays the steps from the first number to the second


def own_loop(make: Callable[[], Any], actions: torch.Tensor) -> Block:
    """The package's environments, one after another; actions `(T, E, A, 1)`."""
    envs = [make() for _ in range(actions.shape[1])]
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
    choices: Any = actions[..., 0].tolist()
    names = getattr(envs[0], "possible_agents", None)

    def play(first: int, last: int) -> None:
        for t in range(first, last):
            for env, row in zip(envs, choices[t], strict=True):
                if names is None:
                    _, _, ended, cut, _ = env.step(row)
                    is_over = ended or cut
                else:
                    env.step(dict(zip(names, row, strict=True)))
                    is_over = not env.agents
                if is_over:
                    env.reset()

    return play


def through_mappo(name: str, actions: torch.Tensor) -> Block:
    """The same environments as the name makes them, read into time steps."""
    env = SerialEnvs(factory(name, EnvOptions()), actions.shape[1])
    env.reset(0)

    def play(first: int, last: int) -> None:
        for action in actions[first:last]:
            env.step(action)

    return play


def measure(name: str, num_envs: int, steps: int, blocks: int) -> list[tuple[float, float]]:
    """CPU seconds for an environment step, of the own loop and through mappo, block by block."""
    make = PACKAGES[name][1]
    spec = SerialEnvs(factory(name, EnvOptions()), 1).spec
    length = -(-steps // num_envs)
    generator = torch.Generator().manual_seed(0)
    shape = ((blocks + 1) * length, num_envs, spec.num_agents, 1)
    actions = torch.randint(spec.heads[0], shape, generator=generator)
    sides = [own_loop(make, actions), through_mappo(name, actions)]
    times: list[tuple[float, float]] = []
    for block, (first, last) in enumerate(pairwise(range(0, len(actions) + 1, length))):
        spent = [0.0, 0.0]
        for side in (0, 1) if block % 2 else (1, 0):
            start = time.process_time()
            sides[side](first, last)
            spent[side] = (time.process_time() - start) / (length * num_envs)
        if block:  # the first block warms up
            times.append((spent[0], spent[1]))
    return times


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure each package with each number of environments."""
    for name, (package, _) in PACKAGES.items():
        for num_envs in args.envs:
            times = measure(name, num_envs, args.steps, args.blocks)
            yield {
                "env": name,
                "envs": num_envs,
                "own_steps_per_cpu_s": round(1 / statistics.median(own for own, _ in times)),
                "mappo_steps_per_cpu_s": round(1 / statistics.median(mappo for _, mappo in times)),
                **against_package(package, [own / mappo for own, mappo in times], digits=3),
            }


def main() -> None:
    """Measure, print and add the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--steps", type=int, default=1000, help="environment steps of each side in a block")
    parser.add_argument("--blocks", type=int, default=20)
    torch.set_num_threads(1)
    append_each(
        RESULTS / "reading.csv",
        rows(parser.parse_args()),
        "{env:<28} {envs:>3} envs  {own_steps_per_cpu_s:>7,} own  {mappo_steps_per_cpu_s:>7,} mappo  "
        "ratio {ratio} ({low} to {high}), load {load}",
    )


if __name__ == "__main__":
    main()
