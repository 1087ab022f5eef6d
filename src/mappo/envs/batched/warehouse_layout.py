"""Fixed tables of a warehouse: its cells and shelves, the cells ahead, and the observed numbers.

Cells are numbered row by row. The floor has a margin as wide as the sight of a robot: every view lies on the floor.
Cell 0 lies in the margin and stays empty: unused values are written there.

A code describes the shelf of a cell: 0 for no shelf, 2 * id for a shelf and 2 * id + 1 for a requested shelf. Ids
count from 1, as in rware.
"""

import itertools

import numpy as np
import torch
from torch import Tensor

from mappo.envs.batched.warehouse_rules import WarehouseRules

UP, DOWN, LEFT, RIGHT = range(4)
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # rows and columns ahead
NOOP, FORWARD, TURN_LEFT, TURN_RIGHT, TOGGLE = range(5)
NUM_ACTIONS = 5
_CLOCKWISE = (UP, RIGHT, DOWN, LEFT)


class Layout:
    """Tables of a warehouse on a device; `P` counts the cells of the floor with its margin.

    Args:
        rules: see `WarehouseRules`.
        device: device of all tensors.

    Attributes:
        cells: the cells without the margin, row by row: int64 `(H * W,)`.
        shelf_cells: places of the shelves at the start, by id: int64 `(S,)`.
        start: codes of the shelves at the start, without requests: int16 `(P,)`.
        is_highway: bool `(P,)`.
        goals: cells of the two goals.
        ahead: cell ahead, by direction and cell: int64 `(4 * P,)`; the walls hold robots back.
        turned: direction after an action, by action and direction: int64 `(20,)`.
        view: from a robot's cell to the cells that it sees, row by row: int64 `(V,)`.
        itself: place, load, direction and highway, by cell, direction and load: `(P * 8, 8)`.
        sights: what a robot sees in a cell, by robot and shelf: `(R * 3, 7 + M)`. The robot counts 0 for none, or
            1 + direction + 4 * message. The shelf counts 0 for none, 1, or 2 if it is requested.
    """

    def __init__(self, rules: WarehouseRules, device: torch.device | str) -> None:
        height, width = self.shape = rules.highways.shape
        self._margin = rules.sensor_range
        self._width = width + 2 * self._margin
        size = (height + 2 * self._margin) * self._width
        y, x = np.indices(self.shape).reshape(2, -1)
        cells = self.number(y, x)
        is_highway = rules.highways.ravel()
        shelf_cells = cells[~is_highway]
        start = np.zeros(size, dtype=np.int16)
        start[shelf_cells] = 2 * np.arange(1, len(shelf_cells) + 1)
        floor = np.zeros(size, dtype=bool)
        floor[cells] = is_highway
        ahead = np.zeros((4, size), dtype=np.int64)
        for direction, (down, right) in enumerate(MOVES):
            ahead[direction, cells] = self.number((y + down).clip(0, height - 1), (x + right).clip(0, width - 1))
        near = range(-self._margin, self._margin + 1)
        view = [self._width * down + right for down in near for right in near]
        scale = (width - 1, height - 1) if rules.normalised_coordinates else (1, 1)
        place = np.zeros((size, 2))
        place[cells] = np.stack([x / scale[0], y / scale[1]], -1)

        def to_tensor(table: object) -> Tensor:
            return torch.as_tensor(np.asarray(table), device=device)

        self.cells = to_tensor(cells)
        self.shelf_cells = to_tensor(shelf_cells)
        self.start = to_tensor(start)
        self.is_highway = to_tensor(floor)
        self.goals = [int(self.number(*goal)) for goal in rules.goals]
        self.ahead = to_tensor(ahead.ravel())
        self.turned = to_tensor([_turn(action, direction) for action in range(NUM_ACTIONS) for direction in range(4)])
        self.view = to_tensor(view)
        self.itself = to_tensor(_self_table(place, floor))
        self.sights = to_tensor(_sight_table(rules.msg_bits))

    def number(self, y: np.ndarray | int, x: np.ndarray | int) -> np.ndarray:
        """Return the numbers of cells from their rows and columns."""
        return np.asarray((y + self._margin) * self._width + x + self._margin)

    def rows_and_columns(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and columns of cells, the inverse of `number`."""
        y, x = np.divmod(cells, self._width)
        return y - self._margin, x - self._margin


def _turn(action: int, direction: int) -> int:
    turns = {TURN_LEFT: -1, TURN_RIGHT: 1}.get(action, 0)
    return _CLOCKWISE[(_CLOCKWISE.index(direction) + turns) % 4]


def _self_table(place: np.ndarray, is_highway: np.ndarray) -> np.ndarray:
    """Return the rows of `Layout.itself`, float32: x, y, load, direction one-hot, highway."""
    table = np.zeros((len(place), 4, 2, 8), dtype=np.float32)
    table[..., :2] = place[:, None, None]
    table[:, :, 1, 2] = 1
    for direction in range(4):
        table[:, direction, :, 3 + direction] = 1
    table[..., 7] = is_highway[:, None, None]
    return table.reshape(-1, 8)


def _sight_table(msg_bits: int) -> np.ndarray:
    """Return the rows of `Layout.sights`, float32: robot, direction one-hot, message, shelf, request."""
    robots: list[tuple[int, ...]] = [
        (0, 1, 0, 0, 0, *(0,) * msg_bits)
    ]  # rware shows an empty cell with the direction up
    for message, direction in itertools.product(range(2**msg_bits), range(4)):
        bits = [message >> bit & 1 for bit in range(msg_bits)]
        robots.append((1, *(int(direction == d) for d in range(4)), *bits))
    shelves = ((0, 0), (1, 0), (1, 1))
    return np.array([(*robot, *shelf) for robot in robots for shelf in shelves], dtype=np.float32)
