"""How often does the tie rule of `warehouse` differ from rware's, by number of robots?

    python benchmarks/warehouse_ties.py             # half a minute; pip install rware

The environments follow the package (`ties=package`), under random actions, half of them forward. At each step the
default rule decides too. The table counts the steps with another outcome for at least one robot.
"""

import argparse

import torch
from torch import Tensor

from mappo.envs.batched.tensor_game import Tensors
from mappo.envs.batched.warehouse import Warehouse
from mappo.envs.batched.warehouse_moves import Contest
from mappo.envs.batched.warehouse_package import PackageWarehouse
from mappo.envs.batched.warehouse_rules import WarehouseRules, read_name
from mappo.evaluation.statistics import mean_interval

LIKELY = torch.tensor([0.1, 0.5, 0.15, 0.15, 0.1])


class Counted(PackageWarehouse):
    """A warehouse that counts the steps with another outcome under the default rule."""

    num_different: Tensor | None = None

    def _decide(self, tensors: Tensors, ahead: Tensor, found: Contest) -> Tensor:
        moves = super()._decide(tensors, ahead, found)
        differs = (moves != Warehouse._decide(self, tensors, ahead, found)).any(0).double()
        self.num_different = differs if self.num_different is None else self.num_different + differs
        return moves


def main() -> None:
    """Play, and print a row for each number of robots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--robots", type=int, nargs="+", default=[2, 4, 6, 10, 19])
    parser.add_argument("--envs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=500)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for robots in args.robots:
        settings = read_name(f"rware-{args.size}-{robots}ag-v2") or {}
        env = Counted(args.envs, WarehouseRules(**settings, ties="package"))
        env.reset(0)
        generator = torch.Generator().manual_seed(0)
        for _ in range(args.steps):
            action = torch.multinomial(LIKELY, args.envs * robots, True, generator=generator)
            env.step(action.view(args.envs, robots, 1))
        assert env.num_different is not None
        share = 100 * env.num_different / args.steps
        low, high = mean_interval(share.numpy())
        total = args.envs * args.steps
        print(f"{args.size}, {robots:>2} robots: {share.mean():.2f} % of {total:,} steps ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
