"""Starts of foraging: where players and food stand at a reset, and their levels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mappo.envs.batched.foraging_rules import LOADERS, ForagingRules

Start = dict[str, Tensor]  # "cell" and "level" of the players (n, P), "food" and "food_level" (n, F)
_ATTEMPTS = 1000


class Starts:
    """Samples of starts, from the device's generators or from a seed for each environment.

    Cells are numbered row by row. Food lies off the edge, and no cell is beside two items. Without a free place, food
    has level 0 and the cell number n², the number after the last cell.

    Args:
        rules: rules of the game.
        device: device of all tensors.
    """

    def __init__(self, rules: ForagingRules, device: torch.device) -> None:
        self._rules = rules
        self._device = device
        n = rules.size
        y, x = np.divmod(np.arange(n**2), n)
        away = np.stack([abs(y[:, None] - y), abs(x[:, None] - x)]).astype(np.int64)
        # From an item of food: the eight cells around it, and two cells along rows and columns.
        self._too_near = (away.max(0) <= 1) | (away.sum(0) == 2) & (away.min(0) == 0)
        is_edge = (np.minimum(y, x) == 0) | (np.maximum(y, x) == n - 1)
        self._is_edge = torch.as_tensor(is_edge).to(device)
        self._is_taken = torch.as_tensor(self._too_near).to(device)

    def sample(self, count: int, generator: torch.Generator) -> Start:
        """Sample `count` starts from the distribution of lbforaging.

        lbforaging draws cells until a cell is free, and stops after 1,000 attempts. The registered names have enough
        free cells: 1,000 attempts practically never fail there.
        """
        rules = self._rules

        def rand(columns: int) -> Tensor:
            return torch.rand(count, columns, generator=generator, device=self._device)

        # The cells with the largest of random numbers are a random choice of cells, in random order.
        cell = rand(rules.size**2).topk(rules.players, 1).indices
        num_levels = rules.max_player_level - rules.min_player_level + 1
        level = rules.min_player_level + (rand(rules.players) * num_levels).long()
        score = rand(rules.size**2).masked_fill_(self._is_edge, -1.0).scatter_(1, cell, -1.0)
        food: list[Tensor] = []
        for _ in range(rules.max_num_food):
            best, place = score.max(1)
            food.append(torch.where(best >= 0, place, rules.size**2))
            score = score.masked_fill_(self._is_taken[place], -1.0)
        low, high = self._food_levels(level)
        cells = torch.stack(food, 1).sort(1).values  # observations list food row by row
        food_level = (low + (rand(rules.max_num_food) * (high - low + 1)).long()) * (cells < rules.size**2)
        return {"cell": cell, "level": level, "food": cells, "food_level": food_level}

    def from_seeds(self, seeds: Sequence[int]) -> Start:
        """Sample a start from each seed: the start of a new environment of lbforaging after `reset(seed=...)`."""
        starts = [self._from_seed(np.random.default_rng(seed)) for seed in seeds]
        return {name: torch.tensor([start[name] for start in starts], device=self._device) for name in starts[0]}

    def _from_seed(self, rng: np.random.Generator) -> dict[str, list[int]]:
        rules = self._rules
        n = rules.size
        rng.permutation(rules.players)  # of lists of levels in the package; here all levels have the same bounds
        levels: dict[int, int] = {}  # by cell
        while len(levels) < rules.players:
            cell = int(rng.integers(0, n) * n + rng.integers(0, n))
            if cell not in levels:
                levels[cell] = int(rng.integers(rules.min_player_level, rules.max_player_level + 1))
        low, high = self._food_levels(torch.tensor([list(levels.values())]))
        food: dict[int, int] = {}
        rng.permutation(rules.max_num_food)
        for _ in range(_ATTEMPTS):
            if len(food) == rules.max_num_food:
                break
            cell = int(rng.integers(1, n - 1) * n + rng.integers(1, n - 1))
            if cell not in levels and not self._too_near[cell, list(food)].any():
                food[cell] = int(low if low == high else rng.integers(int(low), int(high) + 1))
        missing = rules.max_num_food - len(food)
        return {
            "cell": list(levels),
            "level": list(levels.values()),
            "food": [*sorted(food), *[n**2] * missing],
            "food_level": [*(food[cell] for cell in sorted(food)), *[0] * missing],
        }

    def _food_levels(self, level: Tensor) -> tuple[Tensor | int, Tensor | int]:
        """Return the lowest and the highest level of food, from the players' levels `(n, P)`: `(n, 1)`."""
        rules = self._rules
        high = rules.max_food_level or level.sort(1).values[:, :LOADERS].sum(1, keepdim=True)
        return high if rules.force_coop else rules.min_food_level, high
