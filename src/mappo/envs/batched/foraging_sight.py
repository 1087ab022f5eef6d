"""Observations of foraging, by tables: full sight, or the cells around a player."""

import torch
from torch import Tensor
from torch.nn import functional

from mappo.envs.batched.foraging_rules import ForagingRules


class ForagingSight:
    """Observations of all players, as in lbforaging.

    A table holds the numbers (row, column, level) for each code: cell times the number of levels, plus level. The last
    code stands for nothing in sight, (-1, -1, 0). Sorted codes are therefore a list row by row, closed up.

    Args:
        rules: rules of the game.
        device: device of all tensors.
    """

    def __init__(self, rules: ForagingRules, device: torch.device) -> None:
        n = rules.size
        p = rules.players
        self._sight = rules.sight
        self._is_whole = rules.sight >= n - 1  # every cell lies in sight of every other cell
        self._food_levels = 1 + rules.highest_food_level
        self._levels = 1 + rules.max_player_level
        columns = 3 if rules.observe_agent_levels else 2
        place = torch.cartesian_prod(torch.arange(n), torch.arange(n)).float()
        far_off = torch.full((1, 2), -2.0 * n)
        self._place = torch.cat([place, far_off]).to(device)
        self._food_table = _table(place, self._food_levels).to(device)
        player_table = _table(place, self._levels)[:, :columns]
        self._player_table = torch.cat([player_table[:-1].repeat(p, 1), player_table[-1:]]).to(device)
        # The players as each player sees them: itself first.
        self._order = torch.tensor([[i, *(j for j in range(p) if j != i)] for i in range(p)], device=device)
        self._first_code = torch.arange(p, device=device) * (n**2 * self._levels)

    def __call__(self, tensors: dict[str, Tensor]) -> Tensor:
        """Return the observations `(E, A, O)`.

        Args:
            tensors: "cell" and "level" of the players `(E, P)`, "food" and "food_level" `(E, F)`.
        """
        food = torch.add(tensors["food_level"], tensors["food"], alpha=self._food_levels)
        players = torch.add(tensors["level"], tensors["cell"], alpha=self._levels)[:, self._order]
        if not self._is_whole:
            return self._look_around(tensors, food, players)
        food_rows = functional.embedding(food.sort(1).values, self._food_table).flatten(1).unsqueeze(1)
        player_rows = functional.embedding(players, self._player_table).flatten(2)
        return torch.cat([food_rows.expand(-1, players.shape[1], -1), player_rows], -1)

    def _look_around(self, tensors: dict[str, Tensor], food: Tensor, players: Tensor) -> Tensor:
        """Return the observations of players with a limited sight.

        Args:
            tensors: the state.
            food: codes `(E, F)`.
            players: codes `(E, P, P)`, as each player sees them.
        """
        place = functional.embedding(tensors["cell"], self._place)  # (E, P, 2)
        food_place = functional.embedding(tensors["food"], self._place)
        first = (place - self._sight).clamp_min_(0).unsqueeze(2)  # row and column of the first cell in sight
        way = (food_place.unsqueeze(1) - place.unsqueeze(2)).abs_()
        sees_food = way.amax(-1) <= self._sight
        # The package measures how far players are from the first cell in sight, which at the edge is nearer.
        ahead = place[:, self._order] - first
        sees_player = ((ahead >= 0) & (ahead <= 2 * self._sight)).all(-1)
        food_rows = _rows(food.unsqueeze(1), sees_food, self._food_table, first)
        player_rows = _rows(players + self._first_code, sees_player, self._player_table, first)
        return torch.cat([food_rows, player_rows], -1)


def _table(place: Tensor, levels: int) -> Tensor:
    """Return row, column and level of each code, and those of nothing in sight: `(cells * levels + 1, 3)`."""
    cells = place.repeat_interleave(levels, 0)
    level = torch.arange(levels).repeat(len(place)).unsqueeze(1)
    return torch.cat([torch.cat([cells, level], 1), torch.tensor([[-1.0, -1.0, 0.0]])])


def _rows(code: Tensor, is_seen: Tensor, table: Tensor, first: Tensor) -> Tensor:
    """Return the columns of codes in sight, in order, then those of nothing in sight: `(E, P, N)` -> `(E, P, N * 3)`.

    Args:
        code: codes, broadcast against `is_seen`.
        is_seen: bool `(E, P, N)`.
        table: columns of each code.
        first: row and column of the first cell in sight, `(E, P, 1, 2)`.
    """
    nothing = len(table) - 1
    codes = torch.where(is_seen, code, nothing).sort(-1).values
    rows = functional.embedding(codes, table)
    rows[..., :2] -= torch.where((codes < nothing).unsqueeze(-1), first, 0.0)
    return rows.flatten(2)
