"""Random starts of a warehouse: distinct cells for robots, distinct shelves for requests."""

import numpy as np
import torch
from torch import Tensor

from mappo.envs.batched.warehouse_layout import Layout
from mappo.envs.batched.warehouse_rules import WarehouseRules


def sample_distinct(uniform: Tensor, count: int) -> Tensor:
    """Sample distinct numbers below `count`; every order of every choice is equally likely.

    This is Algorithm P of Bentley and Floyd, "A sample of brilliance" (Communications of the ACM, 1987). It needs as
    many random numbers as it returns. A number that is taken gives way to the largest number so far.

    Args:
        uniform: numbers from [0, 1), `(E, k)`.
        count: at least k.

    Returns:
        `(E, k)`, int64.
    """
    num_draws = uniform.shape[1]
    sampled = torch.zeros_like(uniform, dtype=torch.long)
    place = torch.zeros_like(sampled)  # of each number in the order of the result
    for index in range(num_draws):
        largest = count - num_draws + index
        draw = (uniform[:, index] * (largest + 1)).long()
        before = sampled[:, :index]
        is_taken = before == draw.unsqueeze(1)
        # A new number comes first. The largest number comes next to the number that was drawn again.
        first = (is_taken * (place[:, :index] + 1)).sum(1)
        sampled[:, index] = torch.where(is_taken.any(1), largest, draw)
        place[:, :index] += place[:, :index] >= first.unsqueeze(1)
        place[:, index] = first
    return torch.zeros_like(sampled).scatter(1, place, sampled)


def start_of_package(layout: Layout, rules: WarehouseRules, generator: np.random.Generator) -> dict[str, Tensor]:
    """Sample the start of one environment as rware does.

    Args:
        layout: tables of the warehouse.
        rules: see `WarehouseRules`.
        generator: generator of numpy from the seed.

    Returns:
        `cell` and `direction` of the robots, int64 `(A,)`, and `shelves`, int16 `(P,)`.
    """
    cells = generator.choice(len(layout.cells), rules.n_agents, replace=False)
    direction = generator.choice(4, rules.n_agents)
    requests = generator.choice(len(layout.shelf_cells), rules.request_queue_size, replace=False)
    shelves = layout.start.clone()
    shelves[layout.shelf_cells[torch.as_tensor(requests)]] += 1
    return {
        "cell": layout.cells[torch.as_tensor(cells)],
        "direction": torch.as_tensor(direction),
        "shelves": shelves,
    }
