"""What one thing brings: training with it against training without, in turns.

    python benchmarks/variants.py                         # all of them, on two free cores; three minutes
    python benchmarks/variants.py --only products bf16

The work is that of speed.py. Each variant changes one thing of this library: whether large products are of oneDNN
(only some processors gain, see mappo/backend/matmul.py), gradients of a GRU in closed form, bf16, a second thread, and
large minibatches in pieces. Ratios are without / with, within each round, the median over rounds; both by CPU time and
by the clock, which is what a second thread is for. Adds to benchmarks/results/variants.csv.
"""

import argparse
import contextlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, append, circumstances
from rich.console import Console
from rich.table import Table

from mappo.algorithms import mappo as learner
from mappo.backend import matmul as products
from mappo.backend.recurrence import has_closed_form
from mappo.config import Config
from mappo.experiments import workload
from mappo.experiments.workload import TimedPart, Workload
from mappo.networks import gru
from mappo.system import hardware as machine

FULL, PLAIN = workload.reference("full"), workload.reference("plain")


def of(config: Config, num_envs: int = 128, count: int = 1, **network: Any) -> Config:
    """The work, changed: another number of environments, of seeds, or another network."""
    return replace(
        config,
        env=replace(config.env, num_envs=num_envs),
        network=replace(config.network, **network),
        run=replace(config.run, seeds=count),
    )


@dataclass(frozen=True)
class Variant:
    """Training of `without`, and of `changed`, or under another setting of the library."""

    name: str
    without: Config
    changed: Config | None = None
    setting: Callable[[bool], None] | None = None
    """Turns what the variant is about on or off."""


def set_products(on: bool) -> None:
    """Whether large products are of oneDNN."""
    products.best_library = lambda: "onednn" if on else "mkl"


def set_recurrence(on: bool) -> None:
    """Whether the gradients of a GRU are in closed form."""
    gru.has_closed_form = has_closed_form if on else lambda x, weight: False


def set_pieces(on: bool) -> None:
    """Whether large minibatches go by in pieces."""
    learner.PIECE_ROWS = 20_000 if on else 2**62


def set_threads(on: bool) -> None:
    """Whether there are two threads."""
    torch.set_num_threads(2 if on else 1)


def long_chunks(config: Config) -> Config:
    """A GRU of 128 behind a layer of 128, 16 environments of 128 steps in four minibatches of whole rollouts."""
    ppo = replace(config.ppo, rollout_length=128, chunk_length=128, epochs=4, minibatches=4)
    return replace(of(config, 16, memory_size=128, hidden=(128,)), ppo=ppo)


NETWORKS: dict[str, Config] = {
    "full": FULL,
    "plain": PLAIN,
    "plain, tanh": of(PLAIN, activation="tanh"),
    "full, GRU of 64": of(FULL, memory_size=64),
    "plain, 256-256": of(PLAIN, hidden=(256, 256)),
    "plain, 256-256, a network for each agent": of(PLAIN, hidden=(256, 256), sharing="none"),
}
VARIANTS = {
    "products": [Variant(name, config, setting=set_products) for name, config in NETWORKS.items()],
    "closed form": [
        Variant("full, GRU of 64", NETWORKS["full, GRU of 64"], setting=set_recurrence),
        Variant("plain, GRU of 128, chunks of 128 steps", long_chunks(PLAIN), setting=set_recurrence),
    ],
    "bf16": [
        Variant(name, NETWORKS[name], of(NETWORKS[name], precision="bf16"))
        for name in ("full", "plain", "plain, 256-256")
    ],
    "pieces": [
        Variant(f"{name}, {n:,} environments", of(config, n), setting=set_pieces)
        for name, config, n in (("plain", PLAIN, 1024), ("full", FULL, 1024))
    ],
    "two threads": [
        Variant(name, config, setting=set_threads)
        for name, config in (NETWORKS | {"plain, 1,024 environments": of(PLAIN, 1024)}).items()
    ],
}


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """What the variants set is put back."""
    kept = products.best_library, learner.PIECE_ROWS, torch.get_num_threads(), gru.has_closed_form
    try:
        yield
    finally:
        products.best_library, learner.PIECE_ROWS = kept[:2]
        torch.set_num_threads(kept[2])
        gru.has_closed_form = kept[3]


def measured(variant: Variant, rounds: int, repeats: int | None = None) -> dict[str, float]:
    """Its row: CPU-seconds for 1,000 steps without and with, and the ratios."""

    def part(on: bool) -> TimedPart:
        training = Workload(variant.changed if on and variant.changed is not None else variant.without)

        def work() -> None:
            if variant.setting is not None:
                variant.setting(on)
            training.update()

        return TimedPart(str(on), work)

    with as_it_was():
        steps = variant.without.steps_per_update * variant.without.run.seeds
        spent = workload.measure([part(False), part(True)], steps, rounds, repeats=repeats)
    pairs = list(zip(spent["False"], spent["True"], strict=True))
    return {
        "cpu_s_per_1k_without": statistics.median(a.cpu for a, _ in pairs),
        "cpu_s_per_1k": statistics.median(b.cpu for _, b in pairs),
        "cpu_ratio": statistics.median(a.cpu / b.cpu for a, b in pairs),
        "wall_ratio": statistics.median(a.wall / b.wall for a, b in pairs),
        "wall_ratio_min": min(a.wall / b.wall for a, b in pairs),
        "wall_ratio_max": max(a.wall / b.wall for a, b in pairs),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS / "variants.csv")
    args = parser.parse_args(arguments)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    torch.set_num_threads(1)
    machine.keep_freed_memory()  # as `mappo train`
    table = Table("what", "of", "CPU-s/1k without", "with", "ratio", "by the clock", box=None)
    for kind in args.only:
        for variant in VARIANTS[kind]:
            where, found = circumstances(), measured(variant, args.rounds)
            append(args.out, [where | {"what": kind, "of": variant.name} | {n: round(x, 5) for n, x in found.items()}])
            cpu = [f"{found[name]:.4f}" for name in ("cpu_s_per_1k_without", "cpu_s_per_1k")]
            table.add_row(kind, variant.name, *cpu, f"{found['cpu_ratio']:.2f}", f"{found['wall_ratio']:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
